from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from django.db import NotSupportedError
from django.db.backends.base.schema import _related_non_m2m_objects
from django.db.backends.ddl_references import Statement, Table
from django.db.backends.mysql.schema import (
    DatabaseSchemaEditor as MySQLDatabaseSchemaEditor,
)
from django.db.models import NOT_PROVIDED, Field, Model

from .defaults import compiled_default, default_sql, interpolated
from .definition import Key, KeyKind
from .elements import all_same
from .introspection import read_definition
from .known_issues import KNOWN_ISSUES
from .model_fields import has_db_default, without_db_default
from .names import TableName, escaped
from .pending import Creation
from .plugins import get_plugins
from .references import targets
from .sending import SendingSchemaEditor
from .statements import IndexStatement


def _added(old: Iterable[Iterable[str]], new: Iterable[Iterable[str]]) -> set[str]:
    """Return the first field of each element that is in `new` and not in `old`."""
    return {names[0] for names in {*map(tuple, new)} - {*map(tuple, old)}}


def _is_meant(
    key: Key,
    *,
    unique: bool | None = None,
    primary_key: bool | None = None,
    index: bool | None = None,
    foreign_key: bool | None = None,
    check: bool | None = None,
    type_: str | None = None,
) -> bool:
    """Return whether _constraint_names() is asked for this key, of this kind."""
    is_so = {
        (unique, key.kind is KeyKind.UNIQUE),
        (primary_key, key.kind is KeyKind.PRIMARY),
        (index, key.kind.is_index),
        (foreign_key, key.kind is KeyKind.FOREIGN_KEY),
        (check, key.kind is KeyKind.CHECK),
    }
    return all(asked in (None, found) for asked, found in is_so) and type_ is None


class DatabaseSchemaEditor(SendingSchemaEditor):
    # A column cannot be added together with its foreign key:
    # https://github.com/pingcap/tidb/issues/45474
    sql_create_column_inline_fk = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Read the version of the server now. Until the version is known, feature flags
        # describe a presumed version, and the SQL depends on these flags.
        _ = self.connection.tidb_version
        # The model whose CREATE TABLE is being written.
        self._model: type[Model] | None = None

    # -- Tables

    def create_model(self, model: type[Model]) -> None:
        """
        Create the tables of a model, each with its indexes, constraints and
        foreign keys in one statement.
        """
        self._create(self._creation(model))
        for field in model._meta.local_many_to_many:
            if field.remote_field.through._meta.auto_created:
                self.create_model(field.remote_field.through)

    def table_sql(self, model: type[Model]) -> tuple[str, Any]:
        """
        Return CREATE TABLE with everything that belongs to the table, and no
        parameters.

        One statement is faster than several, especially on a large cluster.
        Statements that cannot be clauses of TiDB's CREATE TABLE are deferred.
        """
        creation = self._creation(model)
        self.deferred_sql += creation.followers
        return creation.sql, []

    def _creation(self, model: type[Model]) -> Creation:
        self._check_foreign_keys(*model._meta.local_fields)
        outer, self.deferred_sql = self.deferred_sql, []
        self._model = model
        try:
            sql, _ = super().table_sql(model)
            statements = [*self.deferred_sql, *self._model_indexes_sql(model)]
        finally:
            self.deferred_sql = outer
            self._model = None
        creation = Creation(
            self.quote_name(model._meta.db_table),
            [sql.removesuffix(")")],
            name=model._meta.db_table,
            end=self._table_end(model),
            targets=targets(model),
        )
        for statement in filter(None, statements):
            clause = (
                creation.clause(statement) if isinstance(statement, Statement) else None
            )
            if clause is None:
                creation.followers.append(statement)
            else:
                creation.add(clause)
        return creation

    def _table_end(self, model: type[Model]) -> str:
        end = ")"
        if comment := model._meta.db_table_comment:
            end += self._comment_sql(comment)
        for plugin in get_plugins():
            for option in plugin.table_options(model, self.connection):
                end += f" {option}"
        return end + self._first_answer("partitioning", model)

    def _pk_constraint_sql(self, columns: Any) -> str:
        # This clause is for a CompositePrimaryKey. The primary key of one column is
        # written with its column, in _iter_column_sql().
        sql: str = super()._pk_constraint_sql(columns)
        return sql + (self._clustering(self._model) if self._model else "")

    def _clustering(self, model: type[Model]) -> str:
        return self._first_answer("clustering", model)

    def _first_answer(self, hook: str, model: type[Model]) -> str:
        """
        Return the first text that a plugin's `hook` returns for the table of a model,
        with a space in front of it, or "".
        """
        for plugin in get_plugins():
            if answer := getattr(plugin, hook)(model, self.connection):
                return f" {answer}"
        return ""

    def _check_foreign_keys(self, *fields: Field) -> None:
        for field in fields:
            if field.remote_field and getattr(field, "db_constraint", False):
                for plugin in get_plugins():
                    plugin.check_foreign_key(field, self)

    def delete_model(self, model: type[Model]) -> None:
        with self._literal_sql():
            super().delete_model(model)
        self.references.set_existing(model._meta.db_table, False)

    def alter_db_table(
        self, model: type[Model], old_db_table: str, new_db_table: str
    ) -> None:
        with self._literal_sql():
            super().alter_db_table(model, old_db_table, new_db_table)
        self.references.set_existing(old_db_table, False)
        self.references.set_existing(new_db_table, True)

    def alter_db_table_comment(
        self, model: type[Model], old_db_table_comment: str, new_db_table_comment: str
    ) -> None:
        with self._literal_sql():
            super().alter_db_table_comment(
                model, old_db_table_comment, new_db_table_comment
            )

    # -- Definitions of columns

    def _iter_column_sql(
        self,
        column_db_type: str,
        params: list[Any],
        model: type[Model],
        field: Field,
        field_db_params: dict[str, Any],
        include_default: bool,
    ) -> Iterator[str]:
        if self._drops_default(field):
            field = without_db_default(field)
        # Django passes include_default when it adds a column, which cannot be UNIQUE at
        # first:
        # https://github.com/pingcap/tidb/issues/30188
        for sql in super()._iter_column_sql(
            column_db_type, params, model, field, field_db_params, include_default
        ):
            if sql == "PRIMARY KEY":
                yield sql + self._clustering(model)
            elif sql == "UNIQUE":
                if not include_default:
                    yield sql + self._first_answer("unique_suffix", model)
            else:
                yield sql

    def skip_default(self, field: Field) -> bool:
        # TiDB answers with error 1101 to a default of BLOB, TEXT and JSON columns:
        # https://docs.pingcap.com/tidb/stable/data-type-default-values
        return self._is_limited_data_type(field) or not all(
            plugin.takes_default(field, self.connection) for plugin in get_plugins()
        )

    def skip_default_on_alter(self, field: Field) -> bool:
        return self.skip_default(field)

    def db_default_sql(self, field: Field) -> tuple[str, list[Any]]:
        """
        Return the SQL that follows DEFAULT, with literals and without parameters.

        Raises ``NotSupportedError`` if TiDB does not support the default, unless
        OPTIONS say to drop such a default.
        """
        try:
            sql, params = self._default_sql(field)
        except NotSupportedError:
            if not self.connection.tidb_options.get("drop_unsupported_db_defaults"):
                raise
            sql, params = compiled_default(field, self.connection)
        return interpolated(sql, params, self.quote_value), []

    def _column_generated_sql(self, field: Field) -> tuple[str, tuple[()]]:
        sql, params = field.generated_sql(self.connection)
        expression = interpolated(sql, params, self.quote_value)
        kind = "STORED" if field.db_persist else "VIRTUAL"
        return f"GENERATED ALWAYS AS ({expression}) {kind}", ()

    def _default_sql(self, field: Field) -> tuple[str, list[Any]]:
        # This query computes a constant and reads no table, so gathered statements can
        # wait.
        with self._gathering.kept():
            return default_sql(field, self.connection)

    def _drops_default(self, field: Field) -> bool:
        # docs/ref/settings.md describes this option.
        if not self.connection.tidb_options.get("drop_unsupported_db_defaults"):
            return False
        if not has_db_default(field):
            return False
        try:
            self._default_sql(field)
        except NotSupportedError as error:
            warnings.warn(f"Dropped: {error}", stacklevel=2)
            return True
        return False

    def _modify_sql(
        self, model: type[Model], field: Field, null: bool
    ) -> tuple[str, tuple[()]]:
        """
        Return one MODIFY that changes a column to the definition of `field`. A column
        loses every attribute that MODIFY does not repeat, except for its keys.
        """
        field = copy.copy(field)
        field.null = null
        db_params = field.db_parameters(self.connection)
        definition = " ".join(
            sql
            for sql in self._iter_column_sql(
                db_params["type"], [], model, field, db_params, False
            )
            if not sql.startswith(("UNIQUE", "PRIMARY KEY"))
        )
        return f"MODIFY {self.quote_name(field.column)} {definition}", ()

    # -- Adding, removing and altering columns

    def add_field(self, model: type[Model], field: Field) -> None:
        if field.many_to_many:
            super().add_field(model, field)
            return
        self._check_foreign_keys(field)
        # The default may be a function that queries other tables, so send the gathered
        # statements.
        self._gathering.send()
        before = len(self.deferred_sql)
        # Django drops the default again, unless it is one of the database.
        with (
            self._all_or_nothing(model),
            self.passing_default(not has_db_default(field)),
        ):
            if not any(p.add_field(self, model, field) for p in get_plugins()):
                super().add_field(model, field)
            statements = self.deferred_sql[before:]
            del self.deferred_sql[before:]
            if (
                field.unique
                and not field.primary_key
                and field.db_type(self.connection) is not None
            ):
                # The unique constraint comes first, so that the foreign key uses its
                # index instead of getting another index.
                statements.insert(0, self._create_unique_sql(model, [field]))
            if check := field.db_parameters(self.connection)["check"]:
                statements += self._checks_of_added(model, field, check)
            for statement in statements:
                self.execute(statement)

    def add_nullable_field(self, model: type[Model], field: Field) -> None:
        """
        Add a column in three steps: ADD COLUMN without a database default and without
        NOT NULL, then UPDATE if there is a database default, and then MODIFY. Plugins
        call this for column types that allow neither of the two in ADD COLUMN.
        """
        nullable = without_db_default(field)
        nullable.null = True
        if has_db_default(field):
            nullable.default = NOT_PROVIDED
        super().add_field(model, nullable)
        table, column = map(self.quote_name, (model._meta.db_table, field.column))
        if has_db_default(field):
            default, _ = self.db_default_sql(field)
            self.execute(f"UPDATE {table} SET {column} = {default}", None)
        modify, _ = self._modify_sql(model, field, field.null)
        self.execute(f"ALTER TABLE {table} {modify}", None)

    def _checks_of_added(
        self, model: type[Model], field: Field, check: str
    ) -> list[Statement]:
        if not (
            self.connection.features.supports_table_check_constraints
            and KNOWN_ISSUES["add-column-check"].affects(self.connection.tidb_version)
        ):
            return []
        name = self._create_index_name(
            model._meta.db_table, [field.column], suffix="_check"
        )
        return [self._create_check_sql(model, name, check)]

    def remove_field(self, model: type[Model], field: Field) -> None:
        drops_indexes = KNOWN_ISSUES["drop-indexed-column"].affects(
            self.connection.tidb_version
        )
        # The server may refuse to drop the column after its keys were dropped.
        drops_keys = field.column and (field.remote_field or drops_indexes)
        with self._all_or_nothing(model) if drops_keys else nullcontext():
            self._remove_field(model, field, drops_indexes)

    def _remove_field(
        self, model: type[Model], field: Field, drops_indexes: bool
    ) -> None:
        if (
            field.column
            and drops_indexes
            # sqlmigrate also shows migrations whose tables do not exist any more.
            and not self.references.missing([model._meta.db_table])
        ):
            for name in self._constraint_names(
                model, [field.column], index=True, primary_key=False
            ):
                self.execute(self._delete_index_sql(model, name))
        with self._literal_sql():
            super().remove_field(model, field)

    def alter_field(
        self,
        model: type[Model],
        old_field: Field,
        new_field: Field,
        strict: bool = False,
    ) -> None:
        for plugin in get_plugins():
            with self._literal_sql():
                altered = plugin.alter_field(self, model, old_field, new_field)
            if altered:
                return
        if not self._field_should_be_altered(old_field, new_field):
            return
        self._check_foreign_keys(new_field)
        self._gathering.send()
        unique = [new_field] if new_field.unique and not old_field.unique else []
        with self._all_or_nothing(model), self._replacing(model, (), *unique):
            super().alter_field(model, old_field, new_field, strict)

    def _alter_field(
        self,
        model: type[Model],
        old_field: Field,
        new_field: Field,
        old_type: str,
        new_type: str,
        *args: Any,
    ) -> None:
        super()._alter_field(model, old_field, new_field, old_type, new_type, *args)
        # Django alters the columns that refer to this field when it restores their
        # foreign keys. On a server without foreign keys, Django does neither.
        if (
            not self.connection.features.supports_foreign_keys
            and old_field.unique
            and new_field.unique
            and old_type != new_type
        ):
            self._alter_references(old_field, new_field)

    def _alter_references(self, old_field: Field, new_field: Field) -> None:
        for old, new in _related_non_m2m_objects(old_field, new_field):
            was, will_be = (
                rel.field.db_parameters(connection=self.connection)
                for rel in (old, new)
            )
            if was != will_be:
                super()._alter_field(
                    new.related_model,
                    old.field,
                    new.field,
                    was["type"],
                    will_be["type"],
                    was,
                    will_be,
                )

    def _rename_field_sql(
        self, table: str, old_field: Field, new_field: Field, new_type: str
    ) -> str:
        if old_field.column.lower() != new_field.column.lower():
            # The method of Django's MySQL backend appends attributes to the type of the
            # column. RENAME COLUMN contains no type, so this method is not needed.
            return super(MySQLDatabaseSchemaEditor, self)._rename_field_sql(
                table, old_field, new_field, new_type
            )
        # RENAME COLUMN does nothing if only the case of the name changes.
        modify, _ = self._modify_sql(old_field.model, old_field, old_field.null)
        old, new = map(self.quote_name, (old_field.column, new_field.column))
        definition = modify.removeprefix(f"MODIFY {old} ")
        return f"ALTER TABLE {self.quote_name(table)} CHANGE {old} {new} {definition}"

    def _alter_column_type_sql(
        self,
        model: type[Model],
        old_field: Field,
        new_field: Field,
        new_type: str,
        old_collation: str | None,
        new_collation: str | None,
    ) -> tuple[tuple[str, Any], list[Any]]:
        null = self._nullable_meanwhile(old_field, new_field)
        return self._modify_sql(model, new_field, null), []

    def _alter_column_null_sql(
        self, model: type[Model], old_field: Field, new_field: Field
    ) -> tuple[str, Any]:
        return self._modify_sql(model, new_field, new_field.null)

    def _alter_column_database_default_sql(
        self,
        model: type[Model],
        old_field: Field,
        new_field: Field,
        drop: bool = False,
    ) -> tuple[str, Any]:
        # ALTER COLUMN ... SET DEFAULT does not accept functions (error 3770), so use
        # MODIFY.
        null = self._nullable_meanwhile(old_field, new_field)
        return self._modify_sql(model, new_field, null)

    def _nullable_meanwhile(self, old_field: Field, new_field: Field) -> bool:
        # If the field has a default, the column keeps its NULL or NOT NULL for now,
        # because Django first writes the default into existing rows.
        has = new_field.has_default() or has_db_default(new_field)
        return old_field.null if has else new_field.null

    # -- Indexes and constraints

    def add_index(self, model: type[Model], index: Any) -> None:
        names = [name for name, _ in index.fields_orders[:1]]
        with self._replacing(model, names):
            super().add_index(model, index)

    def add_constraint(self, model: type[Model], constraint: Any) -> None:
        names = getattr(constraint, "fields", ())[:1]
        with self._replacing(model, names):
            super().add_constraint(model, constraint)

    def alter_unique_together(self, model: type[Model], *args: Any) -> None:
        with self._all_or_nothing(model), self._replacing(model, _added(*args)):
            super().alter_unique_together(model, *args)

    def alter_index_together(self, model: type[Model], *args: Any) -> None:
        with self._all_or_nothing(model), self._replacing(model, _added(*args)):
            super().alter_index_together(model, *args)

    def _create_unique_sql(
        self, model: type[Model], *args: Any, **kwargs: Any
    ) -> Statement | None:
        statement = super()._create_unique_sql(model, *args, **kwargs)
        suffix = self._first_answer("unique_suffix", model)
        if statement is None or not suffix:
            return statement
        return IndexStatement(
            statement.template + suffix,
            inline=f"{Creation.form(statement)}{suffix}",
            **statement.parts,
        )

    @contextmanager
    def _replacing(
        self, model: type[Model], names: Iterable[str], *fields: Field
    ) -> Iterator[None]:
        """
        Drop indexes that the server has created for foreign keys, if the indexes that
        this block creates can be used instead. The indexes of the block begin with the
        columns of `fields`, and of the fields that have these `names`.

        MySQL drops such indexes by itself, and TiDB does not: see the known issue
        "foreign-key-index".
        """
        columns = {
            field.column
            for field in (*map(model._meta.get_field, names), *fields)
            if field.remote_field and getattr(field, "db_constraint", False)
        }
        table = model._meta.db_table
        if (
            not columns
            or not self.connection.features.supports_foreign_keys
            # The index of the block becomes a clause of the gathered CREATE TABLE. In
            # this case, the server creates no further index for the foreign key.
            or isinstance(self._gathering.get(self.quote_name(table)), Creation)
        ):
            yield
            return
        with self._all_or_nothing(model):
            shown = len(self.collected_sql) if self.collect_sql else 0
            yield
            if self.collect_sql and (
                len(self.collected_sql) == shown
                or not self.connection.introspection.existing([table])
            ):
                return
            definition = read_definition(self.connection, table)
            for column in columns:
                found = definition.implicit_indexes(column)
                if self.collect_sql or definition.has_index(column, besides=found):
                    for index in found:
                        name = escaped(index.name)
                        self.execute(self._delete_index_sql(model, name))

    def _delete_check_sql(self, model: type[Model], name: str) -> Statement | None:
        # If the server ignored CHECK when the constraint was added, the constraint does
        # not exist, and the server would answer the DROP with error 3940.
        if not self.collect_sql:
            self.wait_for_jobs(TableName.of(model._meta.db_table))
            definition = read_definition(self.connection, model._meta.db_table)
            name_of = self.connection.introspection.identifier_converter
            if definition.key(KeyKind.CHECK, name_of(name)) is None:
                return None
        return super()._delete_check_sql(model, name)

    def _constraint_names(
        self,
        model: type[Model],
        column_names: list[str] | None = None,
        *,
        foreign_key: bool | None = None,
        exclude: Iterable[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        name_of = self.connection.introspection.identifier_converter
        columns = list(map(name_of, column_names or ()))
        excluded = set(map(name_of, exclude or ()))
        if foreign_key and columns:
            self._begin_undos()
            names = self._foreign_keys(model, columns)
        else:
            names = super()._constraint_names(
                model,
                column_names,
                foreign_key=foreign_key,
                exclude=excluded,
                **kwargs,
            )
        if not names and columns:
            names = [
                key.name
                for key in self.interrupted_drops(TableName.of(model._meta.db_table))
                if all_same(key.columns, columns)
                and _is_meant(key, foreign_key=foreign_key, **kwargs)
                and key.name not in excluded
            ]
        return list(map(escaped, names))

    def _foreign_keys(self, model: type[Model], columns: list[str]) -> list[str]:
        """
        Return the names of the foreign keys of these columns. Introspection leaves out
        foreign keys to another database, and, on some servers, foreign keys whose
        database is written in lower case.
        """
        table = model._meta.db_table
        if self.collect_sql:
            # A table may have been renamed only in the SQL that sqlmigrate collects.
            # From Django 6.1 on, this attribute maps the new name of a table to its
            # name in the database.
            table = getattr(self, "collected_table_renames", {}).get(table, table)
        return [
            key.name
            for key in read_definition(self.connection, table).keys
            if key.kind is KeyKind.FOREIGN_KEY and all_same(key.columns, columns)
        ]

    def _create_fk_sql(
        self, model: type[Model], field: Field, suffix: str
    ) -> Statement:
        statement = super()._create_fk_sql(model, field, suffix)
        target = TableName.of(field.target_field.model._meta.db_table)
        # Without the name of a database, the server would look for the table in the
        # model's database.
        if TableName.of(model._meta.db_table).database and not target.database:
            current = self.connection.settings_dict["NAME"]
            name = TableName(target.name, current).sql
            statement.parts["to_table"] = Table(name, self.quote_name)
        return statement

    def _create_index_name(
        self, table_name: str, column_names: Any, suffix: str = ""
    ) -> str:
        # The name of an index or a constraint must not contain a database. So remove
        # the database from the table's name and from the suffix, which contains the
        # name of the table that a foreign key refers to.
        _, elsewhere, target = suffix.rpartition("`.`")
        name: str = super()._create_index_name(
            TableName.of(table_name).name,
            column_names,
            f"_fk_{target}" if elsewhere else suffix,
        )
        # quote_name() would take a trailing backtick for the closing quote of the name.
        return name.replace("`", "")

    def _field_should_be_indexed(self, model: type[Model], field: Field) -> bool:
        # Unlike the method of Django's MySQL backend, this method does not query the
        # storage engine.
        if not field.db_index or field.unique or self._is_limited_data_type(field):
            return False
        # TiDB creates the index of a foreign key by itself.
        return not (
            field.get_internal_type() == "ForeignKey"
            and field.db_constraint
            and self.connection.features.supports_foreign_keys
        )
