"""
Foreign keys to tables that do not exist yet.

TiDB accepts them if ``foreign_key_checks`` is 0, and enforces them as soon as the
other table exists: https://docs.pingcap.com/tidb/stable/foreign-key
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.db import OperationalError
from django.db.models import Field, Model

from .known_issues import KNOWN_ISSUES
from .names import TableName

if TYPE_CHECKING:
    from .base import DatabaseWrapper

__all__ = ["ForwardReferences", "targets"]


def targets(model: type[Model]) -> dict[str, Field[Any, Any]]:
    """Return the other tables that a model refers to, each with a foreign key."""
    found = {
        field.target_field.model._meta.db_table: field
        for field in model._meta.local_fields
        if field.remote_field and getattr(field, "db_constraint", False)
    }
    found.pop(model._meta.db_table, None)
    return found


class ForwardReferences:
    """
    The existence of the tables that foreign keys refer to, as a schema editor knows it.
    """

    def __init__(self, connection: DatabaseWrapper) -> None:
        self.connection = connection
        # Whether a table exists, by the table's name in lower case.
        self._existing: dict[str, bool] = {}
        # Tables that did not exist when a foreign key to them was created.
        self._awaited: set[str] = set()

    def set_existing(self, table: str, existing: bool) -> None:
        """Record that a table has been created or dropped."""
        self._existing[table.lower()] = existing

    def missing(self, tables: Iterable[str]) -> list[str]:
        """Return those of `tables` that do not exist. The method may send a query."""
        unknown = [name for name in tables if not self._existing.get(name.lower())]
        if unknown:
            existing = self.connection.introspection.existing(unknown)
            self._existing.update(dict.fromkeys(existing, True))
        return [name for name in unknown if not self._existing.get(name.lower())]

    def await_missing(self, targets: Mapping[str, Field[Any, Any]]) -> bool:
        """
        Return whether some of the tables do not exist, and remember these tables.

        Raises ``OperationalError`` if such a foreign key cannot work.
        """
        missing = self.missing(targets)
        for name in missing:
            self._check(targets[name])
            self._awaited.add(name)
        return bool(missing)

    def _check(self, field: Field) -> None:
        # Check the type and uniqueness here: the server would report errors 3780 and
        # 1822 only when the other table is created.
        target = field.target_field
        own, other = (f.db_parameters(self.connection) for f in (field, target))
        if own["type"] != target.rel_db_type(self.connection) or own.get(
            "collation"
        ) != other.get("collation"):
            raise OperationalError(
                f"The foreign key {field} is {own['type']}, but {target}, which it "
                f"refers to, is {other['type']}. Both must have the same type and "
                "collation."
            )
        if not target.unique and not any(
            (constraint.fields or ("",))[0] == target.name
            for constraint in target.model._meta.total_unique_constraints
        ):
            raise OperationalError(
                f"The foreign key {field} refers to {target}, which is not unique."
            )

    def check_awaited(self) -> None:
        """Raise ``OperationalError`` if a foreign key refers to a missing table."""
        awaited, self._awaited = self._awaited, set()
        if not (missing := self.missing(awaited)):
            return
        # The tables with these foreign keys may have been dropped or altered in the
        # meantime.
        for name in missing:
            for table in self._referring(TableName.of(name)):
                raise OperationalError(
                    f"The table {table!r} has a foreign key to the table {name!r}, "
                    "which does not exist. Create that too, or give the field "
                    "db_constraint=False."
                )

    def _referring(self, target: TableName) -> list[str]:
        """
        Return the tables with a foreign key to `target`. Only the database of `target`
        and the current database are searched.
        """
        untold = KNOWN_ISSUES["foreign-key-database"].affects(
            self.connection.tidb_version
        )
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT table_name FROM information_schema.key_column_usage "
                "WHERE table_schema IN (DATABASE(), %s) "
                "AND (%s OR referenced_table_schema = "
                "IFNULL(NULLIF(%s, ''), DATABASE())) "
                "AND LOWER(referenced_table_name) = LOWER(%s)",
                [target.database, untold, target.database, target.name],
            )
            return [table for (table,) in cursor.fetchall()]
