"""The vector plugin of django-tidb-core; see :mod:`django_tidb.plugins`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django_tidb.plugins import Plugin

if TYPE_CHECKING:
    from django.core.checks import CheckMessage
    from django.db.models import Field, Model

    from django_tidb.base import DatabaseWrapper
    from django_tidb.introspection import FieldInfo
    from django_tidb.known_issues import KnownIssue
    from django_tidb.schema import DatabaseSchemaEditor

# The type of a vector column in information_schema.columns and in DDL.
_COLUMN_TYPE = re.compile(r"vector(?:\((\d+)\))?", re.IGNORECASE)


def _vector_type(field: Field, connection: DatabaseWrapper) -> re.Match[str] | None:
    return _COLUMN_TYPE.fullmatch(field.db_type(connection) or "")


class VectorPlugin(Plugin):
    """Hooks for VECTOR columns. All of them also work in projects without numpy."""

    name = "vector"
    api_version = 2
    database_options = ("skip_vector_indexes_without_tiflash",)
    default_functions = ("VEC_FROM_TEXT",)
    legacy_imports = {
        f"django_tidb.fields.vector.{name}": f"django_tidb_vector.{name}"
        for name in (
            "CosineDistance",
            "L1Distance",
            "L2Distance",
            "NegativeInnerProduct",
            "VectorField",
            "VectorIndex",
        )
    }

    def introspect_column(
        self, column: FieldInfo, connection: DatabaseWrapper
    ) -> tuple[str, dict[str, Any]] | None:
        """Return the field of a vector column, with `dimensions` if they are fixed."""
        found = _COLUMN_TYPE.fullmatch(column.column_type)
        if found is None:
            return None
        arguments = {"dimensions": int(found[1])} if found[1] else {}
        return "django_tidb_vector.VectorField", arguments

    def takes_default(self, field: Field, connection: DatabaseWrapper) -> bool:
        """
        Return False for a vector column. ADD COLUMN refuses a literal default
        with error 1105 and a function with error 1674:
        https://docs.pingcap.com/tidb/stable/vector-search-data-types
        """
        return _vector_type(field, connection) is None

    def add_field(
        self, schema_editor: DatabaseSchemaEditor, model: type[Model], field: Field
    ) -> bool:
        """
        Add a vector column that has a ``db_default`` or is NOT NULL in three
        steps: ADD COLUMN without either, UPDATE, and MODIFY. If the column were
        NOT NULL from the start, existing rows would get a value that queries
        cannot read.
        """
        from django_tidb.model_fields import has_db_default

        if _vector_type(field, schema_editor.connection) is None or (
            field.null and not has_db_default(field)
        ):
            return False
        schema_editor.add_nullable_field(model, field)
        return True

    def alter_field(
        self,
        schema_editor: DatabaseSchemaEditor,
        model: type[Model],
        old_field: Field,
        new_field: Field,
    ) -> bool:
        """
        Raise an error if a column cannot become a vector or change its
        dimensions: ``NotSupportedError`` if TiDB does not support the change,
        and ``DataError`` if existing vectors do not fit. Otherwise leave the
        change to core.
        """
        connection = schema_editor.connection
        old_type, new_type = (
            field.db_type(connection) or "" for field in (old_field, new_field)
        )
        was, becomes = map(_COLUMN_TYPE.fullmatch, (old_type, new_type))
        if old_type == new_type or not old_type or not new_type:
            return False
        if was and becomes:
            if becomes[1] and not schema_editor.collect_sql:
                _check_rows(schema_editor, model, old_field, new_field, int(becomes[1]))
        elif was or becomes:
            from django.db import NotSupportedError

            raise NotSupportedError(
                f"{new_field} cannot be changed from {old_type} to {new_type}: TiDB "
                "changes no column from or to a vector. Add another field, fill it, "
                "and remove this one."
            )
        return False

    def check_database(self, connection: DatabaseWrapper) -> Iterable[CheckMessage]:
        """
        Yield an error for each vector column if the server does not support vectors.
        """
        from django.core.checks import Error

        if connection.tidb_version >= (8, 4):
            return
        for model in connection.validation.models():
            for field in model._meta.local_fields:
                if _vector_type(field, connection):
                    yield Error(
                        f"The database {connection.alias!r} is TiDB "
                        f"{connection.tidb_version}; vector columns need TiDB 8.4 or "
                        "later.",
                        hint=(
                            "Keep the model away from that database with "
                            "allow_migrate() of a database router."
                        ),
                        obj=field,
                        id="tidb_vector.E003",
                    )

    def known_issues(self) -> Iterable[KnownIssue]:
        from .known_issues import KNOWN_ISSUES

        return KNOWN_ISSUES


def _check_rows(
    schema_editor: DatabaseSchemaEditor,
    model: type[Model],
    old_field: Field,
    new_field: Field,
    dimensions: int,
) -> None:
    from django.db import DataError

    column = schema_editor.quote_name(old_field.column)
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT VEC_DIMS({column}), COUNT(*) "
            f"FROM {schema_editor.quote_name(model._meta.db_table)} "
            f"WHERE VEC_DIMS({column}) <> {dimensions:d} "
            "GROUP BY 1 ORDER BY 1 LIMIT 4"
        )
        found = cursor.fetchall()
    if found:
        counts = ", ".join(
            f"{rows} {'row has' if rows == 1 else 'rows have'} {size}"
            for size, rows in found[:3]
        )
        more = ", and so on" if len(found) > 3 else ""
        raise DataError(
            f"{new_field} cannot have {dimensions} dimensions: {counts}{more}. "
            "Delete those vectors or replace them first."
        )


plugin = VectorPlugin()
