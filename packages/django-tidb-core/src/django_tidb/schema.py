from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.db import DatabaseError, OperationalError
from django.db.backends.mysql.schema import (
    DatabaseSchemaEditor as MySQLDatabaseSchemaEditor,
)
from django.db.models import Field, Model

from .known_issues import KNOWN_ISSUES
from .plugins import get_plugins

# What adds to a table starts with this, and what follows can stand in CREATE
# TABLE just as well.
_ADD = "ALTER TABLE %(table)s ADD "

# Finished SQL is sent without parameters, so that its percent signs stay as
# they are. Before Django 5.0 values are quoted with their percent signs
# doubled, which an empty tuple of parameters undoes.
_FINISHED: Any = None if django.VERSION >= (5, 0) else ()


class DatabaseSchemaEditor(MySQLDatabaseSchemaEditor):
    sql_create_index = f"{_ADD}INDEX %(name)s (%(columns)s)%(extra)s"
    sql_create_unique_index = f"{_ADD}UNIQUE INDEX %(name)s (%(columns)s)"

    # A column cannot be added together with its foreign key:
    # https://github.com/pingcap/tidb/issues/45474
    sql_create_column_inline_fk = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.deferred_sql: list[Any] = []
        # Whether tables exist, by their names in lower case.
        self._tables: dict[str, bool] = {}
        # Tables that do not exist yet, and the tables that refer to them.
        self._awaited: dict[str, str] = {}

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        if exc_type is None and not self.collect_sql:
            for name in self._missing_tables(self._awaited):
                raise OperationalError(
                    f"The table {self._awaited[name]!r} has a foreign key to the table "
                    f"{name!r}, which does not exist. Create that too, or give the "
                    "field db_constraint=False."
                )
        super().__exit__(exc_type, exc_value, traceback)

    # -- Tables

    def table_sql(self, model: type[Model]) -> tuple[str, Any]:
        """
        Return CREATE TABLE with all that belongs to the table: a statement
        costs the more, the bigger the cluster is. What TiDB does not take
        there is deferred. The SQL is finished, so the parameters are always
        empty.
        """
        outer, self.deferred_sql = self.deferred_sql, []
        try:
            sql, params = super().table_sql(model)
            statements = [*self.deferred_sql, *self._model_indexes_sql(model)]
        finally:
            self.deferred_sql = outer
        if params:
            sql %= tuple(map(self.quote_value, params))
        for statement in filter(None, statements):
            if statement.template.startswith(_ADD):
                clause = statement.template.removeprefix(_ADD) % statement.parts
                sql = f"{sql.removesuffix(')')}, {clause})"
            else:
                self.deferred_sql.append(statement)
        if comment := model._meta.db_table_comment:
            sql += self._comment_sql(comment)
        for plugin in get_plugins():
            for option in plugin.table_options(model, self.connection):
                sql += f" {option}"
        return sql, []

    def create_model(self, model: type[Model]) -> None:
        sql, _ = self.table_sql(model)
        with self._forward_references(model):
            self.execute(sql, _FINISHED)
        self._tables[model._meta.db_table.lower()] = True
        for field in model._meta.local_many_to_many:
            if field.remote_field.through._meta.auto_created:
                self.create_model(field.remote_field.through)

    def delete_model(self, model: type[Model]) -> None:
        super().delete_model(model)
        self._tables[model._meta.db_table.lower()] = False

    def alter_db_table(
        self, model: type[Model], old_db_table: str, new_db_table: str
    ) -> None:
        super().alter_db_table(model, old_db_table, new_db_table)
        self._tables[old_db_table.lower()] = False
        self._tables[new_db_table.lower()] = True

    def _missing_tables(self, names: Iterable[str]) -> list[str]:
        unknown = [name for name in names if not self._tables.get(name.lower())]
        if unknown:
            with self.connection.cursor() as cursor:
                cursor.execute(
                    "SELECT LOWER(table_name) FROM information_schema.tables "
                    "WHERE table_schema = DATABASE() AND table_name IN %s",
                    [unknown],
                )
                self._tables.update((name, True) for (name,) in cursor.fetchall())
        return [name for name in unknown if not self._tables.get(name.lower())]

    @contextmanager
    def _forward_references(self, model: type[Model]) -> Iterator[None]:
        """
        Let CREATE TABLE refer to tables that do not exist yet; TiDB enforces
        such a foreign key as soon as they do.
        https://docs.pingcap.com/tidb/stable/foreign-key
        """
        if not self.connection.features.supports_foreign_keys:
            yield
            return
        table = model._meta.db_table
        targets = {
            field.target_field.model._meta.db_table: field
            for field in model._meta.local_fields
            if field.remote_field and getattr(field, "db_constraint", False)
        }
        targets.pop(table, None)
        missing = self._missing_tables(targets)
        for name in missing:
            self._check_reference(targets[name])
            self._awaited[name] = table
        if missing and self._foreign_key_checks():
            self.execute("SET foreign_key_checks = 0", None)
            try:
                yield
            finally:
                self.execute("SET foreign_key_checks = 1", None)
        else:
            yield

    def _foreign_key_checks(self) -> bool:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT @@foreign_key_checks")
            return bool(cursor.fetchone()[0])

    def _check_reference(self, field: Field) -> None:
        # The server would find fault with the other table, when that is
        # created: errors 3780 and 1822.
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

    # -- Statements

    def execute(self, sql: Any, params: Any = ()) -> None:
        # TiDB takes one statement at a time. A Statement that presupposes
        # others brings them along.
        for prerequisite in getattr(sql, "prerequisites", ()):
            super().execute(prerequisite)
        super().execute(sql, params)

    def _iter_column_sql(
        self,
        column_db_type: str,
        params: list[Any],
        model: type[Model],
        field: Field,
        field_db_params: dict[str, Any],
        include_default: bool,
    ) -> Iterator[str]:
        # Django asks with include_default when it adds a column, which cannot
        # be UNIQUE from the start: https://github.com/pingcap/tidb/issues/30188
        for sql in super()._iter_column_sql(
            column_db_type, params, model, field, field_db_params, include_default
        ):
            if not (include_default and sql == "UNIQUE"):
                yield sql

    def _is_vector(self, field: Field) -> bool:
        db_type = field.db_type(self.connection)
        return db_type is not None and db_type.startswith("vector")

    def add_field(self, model: type[Model], field: Field) -> None:
        if self._is_vector(field) and not field.null:
            self._add_vector_field(model, field)
        else:
            super().add_field(model, field)
        if (
            field.unique
            and not field.primary_key
            and field.db_type(self.connection) is not None
        ):
            try:
                self.execute(self._create_unique_sql(model, [field]))
            except DatabaseError:
                # The column is there already, since DDL cannot be rolled
                # back. Without it the migration can be run again.
                self.execute(
                    self.sql_delete_column
                    % {
                        "table": self.quote_name(model._meta.db_table),
                        "column": self.quote_name(field.column),
                    }
                )
                raise

    def alter_field(
        self,
        model: type[Model],
        old_field: Field,
        new_field: Field,
        strict: bool = False,
    ) -> None:
        for plugin in get_plugins():
            if plugin.alter_field(self, model, old_field, new_field):
                return
        super().alter_field(model, old_field, new_field, strict)

    def _add_vector_field(self, model: type[Model], field: Field) -> None:
        # ADD COLUMN takes no default for a vector, and a column that is NOT
        # NULL gives the rows that exist a value that no query can read:
        # https://docs.pingcap.com/tidb/stable/vector-search-data-types
        nullable = copy.copy(field)
        nullable.null = True
        super().add_field(model, nullable)
        self.execute(
            self.sql_alter_column
            % {
                "table": self.quote_name(model._meta.db_table),
                "changes": self.sql_alter_column_not_null
                % {
                    "column": self.quote_name(field.column),
                    "type": field.db_type(self.connection),
                },
            }
        )

    def remove_field(self, model: type[Model], field: Field) -> None:
        if field.column and KNOWN_ISSUES["drop-indexed-column"].affects(
            self.connection.tidb_version
        ):
            for name in self._constraint_names(
                model, [field.column], index=True, primary_key=False
            ):
                self.execute(self._delete_index_sql(model, name))
        super().remove_field(model, field)

    def skip_default(self, field: Field) -> bool:
        # Error 1101 for BLOB, TEXT and JSON, 1105 for vectors:
        # https://docs.pingcap.com/tidb/stable/data-type-default-values
        return self._is_limited_data_type(field) or self._is_vector(field)

    def skip_default_on_alter(self, field: Field) -> bool:
        return self.skip_default(field)

    def _field_should_be_indexed(self, model: type[Model], field: Field) -> bool:
        # Unlike MySQL's method this one need not ask for the storage engine.
        if not field.db_index or field.unique or self._is_limited_data_type(field):
            return False
        # TiDB makes the index of a foreign key itself.
        return not (
            field.get_internal_type() == "ForeignKey"
            and field.db_constraint
            and self.connection.features.supports_foreign_keys
        )
