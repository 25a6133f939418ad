from __future__ import annotations

import copy
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import django
from django.db import DatabaseError, NotSupportedError, OperationalError
from django.db.backends.base.schema import _related_non_m2m_objects
from django.db.backends.ddl_references import Statement
from django.db.backends.mysql.schema import (
    DatabaseSchemaEditor as MySQLDatabaseSchemaEditor,
)
from django.db.models import NOT_PROVIDED, Field, Model

from .alteration import Alteration, changes_to
from .changes import Change
from .creation import create_together
from .defaults import (
    compiled_default,
    default_sql,
    has_default,
    without_default,
)
from .definition import KeyKind, TableDefinition
from .introspection import read_definition
from .known_issues import KNOWN_ISSUES
from .names import TableName
from .plugins import get_plugins
from .rebuild import interrupted, rebuild, recover

logger = logging.getLogger("django.db.backends.schema")

# What Django's statements add to a table, which can stand in CREATE TABLE too. One
# ALTER TABLE takes several of the first, but no CHECK, and no foreign key, which
# would get an index of its own where another comes with it.
# https://docs.pingcap.com/tidb/stable/sql-statement-alter-table
_ADD = "ALTER TABLE %(table)s ADD "
_TOGETHER = {
    MySQLDatabaseSchemaEditor.sql_create_index: (
        "INDEX %(name)s (%(columns)s)%(extra)s"
    ),
    MySQLDatabaseSchemaEditor.sql_create_unique_index: (
        "UNIQUE INDEX %(name)s (%(columns)s)"
    ),
    MySQLDatabaseSchemaEditor.sql_create_unique: (
        MySQLDatabaseSchemaEditor.sql_create_unique.removeprefix(_ADD)
    ),
}
_ADDITIONS = _TOGETHER | {
    template: template.removeprefix(_ADD)
    for template in (
        MySQLDatabaseSchemaEditor.sql_create_check,
        MySQLDatabaseSchemaEditor.sql_create_fk,
    )
}


_MODIFY = re.compile(r"ALTER TABLE `(?:[^`]|``)+` MODIFY ")

# What the server answers to an ALTER TABLE that it has not implemented: in
# general, for a default that each row would have to compute for itself, and
# for columns that are generated or that others are generated from.
_REFUSED = (8200, 1674, 3106, 3108)

# Finished SQL is sent without parameters, so that its percent signs stay as
# they are. Before Django 5.0 values are quoted with their percent signs
# doubled, which an empty tuple of parameters undoes.
_FINISHED: Any = None if django.VERSION >= (5, 0) else ()


def _in_create_table(statement: Statement) -> str | None:
    """Return what a statement would be inside CREATE TABLE; None if it cannot be."""
    # A plugin's index brings its own form.
    form = getattr(statement, "inline", None) or _ADDITIONS.get(statement.template)
    return form % statement.parts if form else None


class _Waiting:
    """A statement that takes up what is added to its table before it is sent."""

    #: Where it is in what sqlmigrate prints.
    position = 0

    def __init__(self, sql: str, end: str = "") -> None:
        self.clauses = [sql]
        self.end = end

    @property
    def sql(self) -> str:
        return ", ".join(self.clauses) + self.end


class _Creation(_Waiting):
    """CREATE TABLE, without the closing bracket and what follows."""

    def __init__(self, sql: str, end: str, model: type[Model]) -> None:
        super().__init__(sql, end)
        self.model = model


class DatabaseSchemaEditor(MySQLDatabaseSchemaEditor):
    # A column cannot be added together with its foreign key:
    # https://github.com/pingcap/tidb/issues/45474
    sql_create_column_inline_fk = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.deferred_sql: list[Any] = []
        self._last_statement: tuple[str, Any] | None = None
        self._finishing = False
        self._quoting = False
        # Whether statements can wait: there has to be an end of it.
        self._entered = False
        # What the tables that waited could not be created for.
        self._error: Exception | None = None
        # The model whose CREATE TABLE is written.
        self._model: type[Model] | None = None
        # The table that one operation alters in several steps, in quotes.
        self._altering: str | None = None
        # What tables were before they began to change; None until they do.
        self._guarded: dict[str, TableDefinition | None] = {}
        # Tables whose rebuild an earlier run began and this one has finished.
        self._finished: set[str] = set()
        # Whether tables exist, by their names in lower case.
        self._tables: dict[str, bool] = {}
        # Tables that others refer to and that did not exist then.
        self._awaited: set[str] = set()
        # By the quoted names of their tables: any number that create some, or
        # one that adds to a table.
        self._waiting: dict[str, _Waiting] = {}

    def __enter__(self) -> Any:
        self._entered = True
        flags = self.connection.features.__dict__
        self._had_checks = flags.pop("supports_table_check_constraints", None)
        return super().__enter__()

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        # Unless this editor has looked, what the last one saw stays: models are
        # checked where no query may be sent.
        if self._had_checks is not None:
            self.connection.features.__dict__.setdefault(
                "supports_table_check_constraints", self._had_checks
            )
        self._entered = False
        if exc_type is not None:
            self._take_waiting()
        self._send_waiting()
        if exc_type is None:
            # Whoever has met it may have gone on.
            if self._error:
                raise self._error
            self._check_awaited()
        super().__exit__(exc_type, exc_value, traceback)

    def _check_awaited(self) -> None:
        if self.collect_sql or not (missing := self._missing_tables(self._awaited)):
            return
        # What referred to them may be gone, or refer to something else by now.
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT table_name, referenced_table_name "
                "FROM information_schema.key_column_usage "
                "WHERE table_schema = DATABASE() "
                "AND LOWER(referenced_table_name) IN %s",
                [[name.lower() for name in missing]],
            )
            for table, name in cursor.fetchall():
                raise OperationalError(
                    f"The table {table!r} has a foreign key to the table {name!r}, "
                    "which does not exist. Create that too, or give the field "
                    "db_constraint=False."
                )

    # -- Tables

    def table_sql(self, model: type[Model]) -> tuple[str, Any]:
        """
        Return CREATE TABLE with all that belongs to the table: a statement
        costs the more, the bigger the cluster is. What TiDB does not take
        there is deferred. The SQL is finished, so the parameters are always
        empty.
        """
        return self._creation(model).sql, []

    def _creation(self, model: type[Model]) -> _Creation:
        outer, self.deferred_sql = self.deferred_sql, []
        self._model = model
        try:
            sql, params = super().table_sql(model)
            statements = [*self.deferred_sql, *self._model_indexes_sql(model)]
        finally:
            self.deferred_sql = outer
            self._model = None
        if params:
            sql %= tuple(map(self.quote_value, params))
        clauses = [sql.removesuffix(")")]
        for statement in filter(None, statements):
            clause = _in_create_table(statement)
            if clause is None:
                self.deferred_sql.append(statement)
            else:
                clauses.append(clause)
        end = ")"
        if comment := model._meta.db_table_comment:
            end += self._comment_sql(comment)
        for plugin in get_plugins():
            for option in plugin.table_options(model, self.connection):
                end += f" {option}"
        return _Creation(", ".join(clauses), end, model)

    def _pk_constraint_sql(self, columns: Any) -> str:
        # A CompositePrimaryKey is a clause of its own; a key of one column is
        # seen by _iter_column_sql().
        sql: str = super()._pk_constraint_sql(columns)
        return sql + (self._clustering(self._model) if self._model else "")

    def quote_value(self, value: Any) -> Any:
        # The driver quotes, which sends nothing.
        self._quoting = True
        try:
            quoted = super().quote_value(value)
        finally:
            self._quoting = False
        # Names have single percent signs, so values need them too.
        if self._finishing and _FINISHED is not None and isinstance(value, str):
            return quoted.replace("%%", "%")
        return quoted

    @contextmanager
    def _finished_sql(self) -> Iterator[None]:
        """Quote values for SQL that is sent without parameters."""
        self._finishing = True
        try:
            yield
        finally:
            self._finishing = False

    def create_model(self, model: type[Model]) -> None:
        """
        Create the tables of a model, before this connection sends anything else
        or begins a transaction.

        Until then they take up what is added to them: a migration that
        makemigrations has written adds the indexes after all models.
        """
        with self._finished_sql():
            creation = self._creation(model)
        table = self.quote_name(model._meta.db_table)
        if table in self._waiting:
            self._send_waiting()
        self._send_additions()
        self._let_wait(table, creation)
        if any(
            not self._tables.get(name.lower())
            and self.quote_name(name) not in self._waiting
            for name in self._targets(model)
        ):
            self._record_late()
        for field in model._meta.local_many_to_many:
            if field.remote_field.through._meta.auto_created:
                self.create_model(field.remote_field.through)

    def _record_late(self) -> None:
        # A migration counts as applied after __exit__() if something is deferred,
        # else before: too early if that may raise an error.
        self.deferred_sql.append(None)

    def _let_wait(self, table: str, waiting: _Waiting) -> None:
        if self.collect_sql:
            self._send(waiting)
        elif self.connection.in_atomic_block or not self._entered:
            # In a transaction Django refuses it.
            self._send(waiting)
            return
        elif not self._waiting:
            # So that the first CHECK that is added need not ask the server.
            _ = self.connection.features.supports_table_check_constraints
            # Another editor's waiting ends here.
            self.connection.ensure_connection()
            # Of this connection alone, and no longer than something waits.
            self.connection.ensure_connection = self._ensure_connection
        self._waiting[table] = waiting

    def _ensure_connection(self) -> None:
        # Whatever is sent, or begins a transaction, comes by here.
        if not self._quoting:
            self._send_waiting()
        type(self.connection).ensure_connection(self.connection)

    def _take_waiting(self) -> Iterable[_Waiting]:
        taken, self._waiting = self._waiting, {}
        if taken and not self.collect_sql:
            del self.connection.ensure_connection
        return taken.values()

    def _send_waiting(self) -> None:
        taken = self._take_waiting()
        # What sqlmigrate prints has it already.
        if self.collect_sql:
            return
        creations = [w for w in taken if isinstance(w, _Creation)]
        try:
            together = self._send_together(creations)
            for waiting in taken:
                if waiting not in together:
                    self._send(waiting)
        except Exception as error:
            if creations:
                self._error = error
                self._record_late()
            raise

    def _send_together(self, creations: list[_Creation]) -> set[_Creation]:
        """Create tables of a new test database at once; return which."""
        if not self.connection.creation.creating:
            return set()
        left = set(create_together(self.connection, [w.sql for w in creations]))
        together = {waiting for waiting in creations if waiting.sql not in left}
        for waiting in together:
            self._tables[waiting.model._meta.db_table.lower()] = True
            logger.debug("%s; (params %r)", waiting.sql, None)
        return together

    def _send_additions(self) -> None:
        if not all(isinstance(w, _Creation) for w in self._waiting.values()):
            self._send_waiting()

    def _send(self, waiting: _Waiting) -> None:
        if not isinstance(waiting, _Creation):
            self.execute(waiting.sql, None)
            waiting.position = len(getattr(self, "collected_sql", ())) - 1
            return
        with self._forward_references(waiting.model):
            waiting.position = len(getattr(self, "collected_sql", ()))
            super().execute(waiting.sql, None)
        self._tables[waiting.model._meta.db_table.lower()] = True

    def _waits(self, statement: Any, params: Any) -> bool:
        """
        Return whether what `statement` adds to its table has become part of a
        statement that waits.
        """
        if not isinstance(statement, Statement):
            return False
        table = str(statement.parts.get("table"))
        waiting = self._waiting.get(table)
        if isinstance(waiting, _Creation):
            clause = _in_create_table(statement)
        elif (
            statement.template in _TOGETHER
            and table == self._altering
            and not self.connection.in_atomic_block
            and not KNOWN_ISSUES["alter-several"].affects(self.connection.tidb_version)
        ):
            clause = _TOGETHER[statement.template] % statement.parts
        else:
            clause = None
        if clause is None:
            return False
        if params is not None:
            clause %= tuple(map(self.quote_value, params))
        if waiting is None:
            self._send_waiting()
            self._secure()
            self._let_wait(table, _Waiting(f"ALTER TABLE {table} ADD {clause}"))
            return True
        command = "CREATE TABLE"
        if not isinstance(waiting, _Creation):
            command = "ALTER TABLE"
            clause = f"ADD {clause}"
        waiting.clauses.append(clause)
        if self.collect_sql:
            self.collected_sql[waiting.position] = f"{waiting.sql};"
            lines = f"In {command}: {clause}".splitlines()
            self.collected_sql += [f"-- {line}" for line in lines]
        return True

    def add_constraint(self, model: type[Model], constraint: Any) -> None:
        with self._finished_sql():
            super().add_constraint(model, constraint)

    def add_index(self, model: type[Model], index: Any) -> None:
        with self._finished_sql():
            super().add_index(model, index)

    def delete_model(self, model: type[Model]) -> None:
        super().delete_model(model)
        self._tables[model._meta.db_table.lower()] = False

    def alter_db_table(
        self, model: type[Model], old_db_table: str, new_db_table: str
    ) -> None:
        super().alter_db_table(model, old_db_table, new_db_table)
        self._tables[old_db_table.lower()] = False
        self._tables[new_db_table.lower()] = True

    def alter_db_table_comment(
        self, model: type[Model], old_db_table_comment: str, new_db_table_comment: str
    ) -> None:
        # With parameters, though there are none, percent signs would be wrong.
        with self._finished_sql():
            comment = self.quote_value(new_db_table_comment or "")
        table = self.quote_name(model._meta.db_table)
        self.execute(
            self.sql_alter_table_comment % {"table": table, "comment": comment},
            None,
        )

    def _missing_tables(self, names: Iterable[str]) -> list[str]:
        unknown = [name for name in names if not self._tables.get(name.lower())]
        if unknown:
            existing = self.connection.introspection.existing(unknown)
            self._tables.update(dict.fromkeys(existing, True))
        return [name for name in unknown if not self._tables.get(name.lower())]

    def _targets(self, model: type[Model]) -> dict[str, Field]:
        """Return the other tables that a model refers to, each with a field."""
        targets = {
            field.target_field.model._meta.db_table: field
            for field in model._meta.local_fields
            if field.remote_field and getattr(field, "db_constraint", False)
        }
        targets.pop(model._meta.db_table, None)
        return targets

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
        targets = self._targets(model)
        missing = self._missing_tables(targets)
        for name in missing:
            self._check_reference(targets[name])
            self._awaited.add(name)
        if not missing:
            yield
        elif self.collect_sql:
            super().execute("SET foreign_key_checks = 0", None)
            yield
            super().execute("SET foreign_key_checks = 1", None)
        else:
            with self.connection.session_variables(foreign_key_checks=0):
                yield

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

    def _clustering(self, model: type[Model]) -> str:
        for plugin in get_plugins():
            if clustering := plugin.primary_key(model, self.connection):
                return f" {clustering}"
        return ""

    def execute(self, sql: Any, params: Any = ()) -> None:
        # A plugin's index need not have anything to do.
        if sql is None or self._waits(sql, params):
            return
        self._send_waiting()
        # TiDB takes one statement at a time. A Statement that presupposes
        # others brings them along.
        for prerequisite in getattr(sql, "prerequisites", ()):
            super().execute(prerequisite)
        # Django changes a column's type, default and NULL one after the other,
        # and here each is the same MODIFY.
        statement = (str(sql), params)
        if statement == self._last_statement and _MODIFY.match(statement[0]):
            return
        self._last_statement = statement
        self._secure()
        if self._finished and self._is_done(*statement):
            return
        try:
            super().execute(sql, params)
        except DatabaseError as error:
            if error.args[0] not in _REFUSED:
                raise
            self._execute_refused(str(sql), params, error)

    def _alteration(self, sql: str, params: Any) -> Alteration | None:
        """Return what a statement alters; None if that cannot be told."""
        if params is not None:
            sql %= tuple(map(self.quote_value, params))
        try:
            return Alteration.parse(sql)
        except ValueError:
            return None

    def _is_done(self, sql: str, params: Any) -> bool:
        found = self._alteration(sql, params)
        return (
            found is not None
            and found.table.name in self._finished
            and found.is_done(read_definition(self.connection, found.table))
        )

    @contextmanager
    def _all_or_nothing(self, model: type[Model]) -> Iterator[None]:
        """
        Undo what was done to the model's table if a later statement fails, so
        that the migration can be run again; no DDL can be rolled back.
        """
        table = model._meta.db_table
        quoted = self.quote_name(table)
        if table in self._guarded or quoted in (self._altering, table):
            yield
            return
        outer, self._altering = self._altering, quoted
        if not self.collect_sql:
            self._guarded[table] = None
        try:
            yield
            self._send_additions()
        except Exception:
            # Of any kind: SQL that cannot be put together is no DatabaseError.
            if before := self._guarded.get(table):
                self._restore(table, before)
            raise
        finally:
            self._guarded.pop(table, None)
            self._altering = outer

    def _secure(self) -> None:
        # Not before the first statement: most changes of fields need none.
        for table in [t for t, before in self._guarded.items() if before is None]:
            # What recover() sends is not guarded.
            del self._guarded[table]
            if recover(self, table):
                self._finished.add(table)
            self._guarded[table] = read_definition(self.connection, table)

    def _restore(self, table: str, before: TableDefinition) -> None:
        try:
            # What a rebuild has left is for recover().
            if interrupted(self, table):
                return
            now = read_definition(self.connection, table)
        except DatabaseError as error:
            logger.error("Not undone in %s: %s", table, error)
            return
        for change in changes_to(now, before):
            try:
                super().execute(Alteration(now.name, (change,)).sql, None)
            except DatabaseError as error:
                logger.error("Not undone in %s: %s: %s", table, change.clause, error)

    def _constraint_names(self, *args: Any, **kwargs: Any) -> list[str]:
        self._secure()
        return super()._constraint_names(*args, **kwargs)

    def _execute_refused(self, sql: str, params: Any, error: DatabaseError) -> None:
        if (alteration := self._alteration(sql, params)) is None:
            raise error
        # AUTO_INCREMENT can be removed only with this variable:
        # https://docs.pingcap.com/tidb/stable/system-variables#tidb_allow_remove_auto_inc-new-in-v2118-and-v304
        if "tidb_allow_remove_auto_inc" in str(error):
            with self.connection.session_variables(tidb_allow_remove_auto_inc=1):
                super().execute(sql, params)
            return
        try:
            rebuild(self, alteration, error.args[1])
        except ValueError:
            raise error from None

    def rebuild_table(
        self, model: type[Model], changes: Sequence[Change], reason: str
    ) -> None:
        """
        Make `changes` that ALTER TABLE cannot make, for this `reason`, a
        sentence, by a new table. For plugins, which know beforehand. Changes of
        columns and of the primary key can be made, and of the table options in
        :data:`django_tidb.changes.ROW_ID_OPTIONS`.

        Raises ``NotSupportedError``, before any change, if the table has rows
        and OPTIONS["rebuild_tables"] does not allow it, and ValueError if a
        change cannot be made.
        """
        table = model._meta.db_table
        alteration = Alteration(TableName.of(table), tuple(changes))
        if self.collect_sql:
            self.collected_sql.append(
                f"-- The table {table} is rebuilt for what is refused otherwise:"
            )
            self.execute(alteration.sql, None)
            return
        with self._all_or_nothing(model):
            # An earlier rebuild may have been interrupted.
            self._secure()
            if table in self._finished and alteration.is_done(
                read_definition(self.connection, table)
            ):
                return
            rebuild(self, alteration, reason)

    # -- Columns

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
            field = without_default(field)
        # Django asks with include_default when it adds a column, which cannot
        # be UNIQUE from the start: https://github.com/pingcap/tidb/issues/30188
        for sql in super()._iter_column_sql(
            column_db_type, params, model, field, field_db_params, include_default
        ):
            if sql == "PRIMARY KEY":
                sql += self._clustering(model)
            if not (include_default and sql == "UNIQUE"):
                yield sql

    def db_default_sql(self, field: Field) -> tuple[str, list[Any]]:
        """
        Return what follows DEFAULT, and its parameters.

        Raises ``NotSupportedError`` if TiDB cannot have it, unless OPTIONS say
        to drop it.
        """
        try:
            return default_sql(field, self)
        except NotSupportedError:
            if not self.connection.tidb_options.get("drop_unsupported_db_defaults"):
                raise
            return compiled_default(field, self)

    def _drops_default(self, field: Field) -> bool:
        # What this option is for says docs/ref/settings.md.
        if not self.connection.tidb_options.get("drop_unsupported_db_defaults"):
            return False
        if not has_default(field):
            return False
        try:
            default_sql(field, self)
        except NotSupportedError as error:
            warnings.warn(f"Left out: {error}", stacklevel=2)
            return True
        return False

    def _modify_sql(
        self, model: type[Model], field: Field, null: bool
    ) -> tuple[str, tuple[()]]:
        """
        Return the MODIFY that makes a column what `field` says in one go:
        whatever MODIFY leaves out is lost. Without a key, which it leaves be.
        """
        field = copy.copy(field)
        field.null = null
        db_params = field.db_parameters(self.connection)
        params: list[Any] = []
        definition = " ".join(
            sql
            for sql in self._iter_column_sql(
                db_params["type"], params, model, field, db_params, False
            )
            if sql != "UNIQUE" and not sql.startswith("PRIMARY KEY")
        )
        if params:
            definition %= tuple(map(self.quote_value, params))
        if _FINISHED is None:
            # Django sends it with parameters, of which there are none.
            definition = definition.replace("%", "%%")
        return f"MODIFY {self.quote_name(field.column)} {definition}", ()

    def _rename_field_sql(
        self, table: str, old_field: Field, new_field: Field, new_type: str
    ) -> str:
        if old_field.column.lower() != new_field.column.lower():
            return super()._rename_field_sql(table, old_field, new_field, new_type)
        # RENAME COLUMN to the same name in other letters does nothing.
        modify, _ = self._modify_sql(old_field.model, old_field, old_field.null)
        old, new = map(self.quote_name, (old_field.column, new_field.column))
        definition = modify.removeprefix(f"MODIFY {old} ")
        return f"ALTER TABLE {self.quote_name(table)} CHANGE {old} {new} {definition}"

    def _nullable_meanwhile(self, old_field: Field, new_field: Field) -> bool:
        # Django fills in the default before it makes the column NOT NULL.
        has = new_field.has_default() or has_default(new_field)
        return old_field.null if has else new_field.null

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
        # ALTER COLUMN ... SET DEFAULT takes no functions: error 3770.
        null = self._nullable_meanwhile(old_field, new_field)
        return self._modify_sql(model, new_field, null)

    def _is_vector(self, field: Field) -> bool:
        db_type = field.db_type(self.connection)
        return db_type is not None and db_type.startswith("vector")

    def add_field(self, model: type[Model], field: Field) -> None:
        if field.many_to_many:
            super().add_field(model, field)
            return
        before = len(self.deferred_sql)
        with self._all_or_nothing(model):
            if self._is_vector(field) and (has_default(field) or not field.null):
                self._add_vector_field(model, field)
            else:
                super().add_field(model, field)
            statements = self.deferred_sql[before:]
            del self.deferred_sql[before:]
            if (
                field.unique
                and not field.primary_key
                and field.db_type(self.connection) is not None
            ):
                # A foreign key gets an index unless there is one.
                statements.insert(0, self._create_unique_sql(model, [field]))
            if check := field.db_parameters(self.connection)["check"]:
                statements += self._checks_of_added(model, field, check)
            for statement in statements:
                self.execute(statement, _FINISHED)

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
        if not self._field_should_be_altered(old_field, new_field):
            return
        with self._all_or_nothing(model):
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
        # Django does it together with the foreign keys, and where there are none
        # not at all.
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

    def alter_unique_together(self, model: type[Model], *args: Any) -> None:
        with self._all_or_nothing(model):
            super().alter_unique_together(model, *args)

    def alter_index_together(self, model: type[Model], *args: Any) -> None:
        with self._all_or_nothing(model):
            super().alter_index_together(model, *args)

    def _delete_check_sql(self, model: type[Model], name: str) -> Statement | None:
        # What was made while the server ignored CHECK is not there, and cannot
        # be dropped: error 3940.
        if not self.collect_sql:
            definition = read_definition(self.connection, model._meta.db_table)
            if definition.key(KeyKind.CHECK, name) is None:
                return None
        return super()._delete_check_sql(model, name)

    def _add_vector_field(self, model: type[Model], field: Field) -> None:
        # ADD COLUMN takes no default for a vector, and a column that is NOT
        # NULL gives the rows that exist a value that no query can read:
        # https://docs.pingcap.com/tidb/stable/vector-search-data-types
        nullable = without_default(field)
        nullable.null = True
        if has_default(field):
            nullable.default = NOT_PROVIDED
        super().add_field(model, nullable)
        table, column = map(self.quote_name, (model._meta.db_table, field.column))
        if has_default(field):
            default, params = self.db_default_sql(field)
            self.execute(f"UPDATE {table} SET {column} = {default}", params)
        modify, _ = self._modify_sql(model, field, field.null)
        self.execute(f"ALTER TABLE {table} {modify}", _FINISHED)

    def remove_field(self, model: type[Model], field: Field) -> None:
        if (
            field.column
            and KNOWN_ISSUES["drop-indexed-column"].affects(
                self.connection.tidb_version
            )
            # sqlmigrate may tell of one that is gone.
            and not self._missing_tables([model._meta.db_table])
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
