from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from django.db import DatabaseError
from django.db.backends.mysql.schema import (
    DatabaseSchemaEditor as MySQLDatabaseSchemaEditor,
)
from django.db.models import Field, Model

from .known_issues import KNOWN_ISSUES
from .plugins import get_plugins


class DatabaseSchemaEditor(MySQLDatabaseSchemaEditor):
    # A column cannot be added together with its foreign key:
    # https://github.com/pingcap/tidb/issues/45474
    sql_create_column_inline_fk = None

    def table_sql(self, model: type[Model]) -> tuple[str, Any]:
        sql, params = super().table_sql(model)
        # A CompositePrimaryKey is a clause of its own; a key of one column is
        # seen by _iter_column_sql().
        if columns := getattr(model._meta.pk, "columns", ()):
            clause = self._pk_constraint_sql(columns)
            sql = sql.replace(clause, f"{clause}{self._clustering(model)}", 1)
        for plugin in get_plugins():
            for option in plugin.table_options(model, self.connection):
                sql += f" {option}"
        return sql, params

    def _clustering(self, model: type[Model]) -> str:
        for plugin in get_plugins():
            if clustering := plugin.primary_key(model, self.connection):
                return f" {clustering}"
        return ""

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
            if sql == "PRIMARY KEY":
                sql += self._clustering(model)
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
