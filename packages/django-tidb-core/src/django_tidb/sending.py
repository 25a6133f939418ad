"""
The part of the schema editor that sends statements: at once or gathered.

It restores a table after an operation that fails half way, and rebuilds a table if the
server refuses ALTER TABLE. The statements are written in schema.py.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import django
from django.db import DatabaseError, NotSupportedError
from django.db.backends.ddl_references import Statement
from django.db.backends.mysql.schema import (
    DatabaseSchemaEditor as MySQLDatabaseSchemaEditor,
)
from django.db.models import Model

from . import migrating
from .alteration import Alteration
from .changes import (
    AddColumn,
    AddKey,
    Change,
    ChangeColumn,
    DropColumn,
    DropDefault,
    DropKey,
    ModifyColumn,
    SetDefault,
    SetTableOption,
)
from .definition import Key, TableDefinition
from .error_numbers import ErrorNumber
from .fulltext import without_fulltext
from .gathering import Gathering
from .introspection import read_definition
from .known_issues import KNOWN_ISSUES
from .names import TableName, in_format, names_in
from .pending import Addition, Creation, add_to_message
from .rebuild import rebuild
from .references import ForwardReferences
from .statements import IndexStatement
from .together import create_together
from .undo import Undo

__all__ = ["SendingSchemaEditor"]

logger = logging.getLogger("django.db.backends.schema")

_NAME = r"`(?:[^`]|``)+`"
_TABLE = rf"((?:{_NAME}\.)?{_NAME})"
# Statements about whole tables, and whether each table exists after them.
_WHOLE_TABLES = {
    re.compile(rf"CREATE TABLE {_TABLE} \("): [True],
    re.compile(rf"DROP TABLE {_TABLE}(?: CASCADE)?$"): [False],
    re.compile(rf"RENAME TABLE {_TABLE} TO {_TABLE}$"): [False, True],
}
_MODIFY = re.compile(rf"ALTER TABLE (?:{_NAME}\.)?{_NAME} MODIFY ")

# The errors for changes that TiDB's ALTER TABLE does not support. In this order, they
# concern unsupported changes in general, a default whose value would differ from row to
# row, changes of generated columns, and changes of columns that generated columns read.
_REFUSED = (
    ErrorNumber.DDL_NOT_SUPPORTED,
    ErrorNumber.DEFAULT_NOT_CONSTANT,
    ErrorNumber.GENERATED_COLUMN_NOT_SUPPORTED,
    ErrorNumber.GENERATED_COLUMN_DEPENDS,
)


# The errors for an index, a foreign key or a CHECK whose name is already in use.
_EXISTS = (
    ErrorNumber.DUPLICATE_KEY_NAME,
    ErrorNumber.DUPLICATE_FOREIGN_KEY,
    ErrorNumber.DUPLICATE_CHECK,
)
# The errors for what exists already or no longer.
_HAS_BEEN_DONE = (
    *_EXISTS,
    ErrorNumber.TABLE_EXISTS,
    ErrorNumber.NO_TABLE_TO_DROP,
    ErrorNumber.UNKNOWN_COLUMN,
    ErrorNumber.DUPLICATE_COLUMN,
    ErrorNumber.NO_INDEX_TO_DROP,
    ErrorNumber.NO_SUCH_TABLE,
)

# Changes after which the same change has no further effect.
_REPEATABLE = (ChangeColumn, DropDefault, ModifyColumn, SetDefault, SetTableOption)


def _without_defaults(alteration: Alteration) -> Alteration:
    return replace(
        alteration,
        changes=tuple(
            AddColumn(change.column.with_default(None))
            if isinstance(change, AddColumn)
            else change
            for change in alteration.changes
        ),
    )


def _inverse(change: Change) -> Change | None:
    """Return the change that undoes an addition."""
    if isinstance(change, AddColumn):
        return DropColumn(change.column.name)
    if isinstance(change, AddKey):
        return DropKey(change.key.kind, change.key.name)
    return None


class _Quoted(bytes):
    """
    A literal for a value other than a text or a number. mysqlclient quotes such
    values as bytes, and Django inserts literals into SQL with %s, so str() has to
    return the literal.
    """

    sql: str

    def __new__(cls, quoted: bytes, value: Any) -> _Quoted:
        self = super().__new__(cls, quoted)
        is_binary = isinstance(value, bytes | bytearray | memoryview)
        self.sql = f"x'{bytes(value).hex()}'" if is_binary else quoted.decode()
        return self

    def __str__(self) -> str:
        return self.sql


class SendingSchemaEditor(MySQLDatabaseSchemaEditor):
    """The part of the schema editor that sends statements to the server."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Django sets this attribute in __enter__(), which not all callers use.
        self.deferred_sql: list[Any] = []
        self.references = ForwardReferences(self.connection)
        self._gathering = Gathering(self.connection, self._send_gathered)
        # The tables that operations are altering in several steps, the innermost last.
        self._undos: list[Undo] = []
        # The tables whose rebuild was interrupted in an earlier run and was completed
        # in this run, with their definitions before the rebuild.
        self._completed_rebuilds: dict[TableName, TableDefinition] = {}
        self._last_statement: tuple[str, Any] | None = None
        self._literal = False
        self._is_rebuilding = False
        self._default_is_passing = False

    def __enter__(self) -> Any:
        # The variables may have been set since they were last read.
        self.connection.tidb_variables.refresh()
        return super().__enter__()

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        # If this editor has not read the variables, keep the values that were read
        # before: models are checked in places where no query may be sent.
        self.connection.tidb_variables.cancel_refresh()
        if exc_type is None:
            self._check_references()
        super().__exit__(exc_type, exc_value, traceback)

    def _check_references(self) -> None:
        if not self.collect_sql:
            self.references.check_awaited()

    # -- Text: names, comments and values are part of the SQL

    @contextmanager
    def _literal_sql(self) -> Iterator[None]:
        """
        Send the SQL of Django's methods in this block unchanged. Percent signs in
        names, comments and values stand for themselves. Django passes no parameters
        with such SQL, but sometimes passes an empty tuple or list, with which the
        driver would treat the SQL as a format string.

        SQL of other callers, such as RunPython, keeps its meaning: with an empty tuple
        of parameters, two percent signs stand for one.
        """
        outer, self._literal = self._literal, True
        try:
            yield
        finally:
            self._literal = outer

    def _as_sent(self, sql: Any, params: Any) -> tuple[Any, Any]:
        """Return a statement and its parameters in the form that the cursor expects."""
        if not (self._literal or isinstance(sql, Statement)):
            return sql, params
        # Only UPDATE statements have parameters. They contain names, but no literals.
        return (in_format(str(sql)), params) if params else (sql, None)

    def quote_value(self, value: Any) -> Any:
        """Return a value as a literal in SQL that is sent without parameters."""
        quoted = super().quote_value(value)
        if isinstance(quoted, bytes):
            return _Quoted(quoted, value)
        # Before Django 5.0, percent signs are doubled for a format string.
        if django.VERSION < (5, 0) and isinstance(value, str):
            return quoted.replace("%%", "%")
        return quoted

    def prepare_default(self, value: Any) -> str:
        return str(self.quote_value(value))

    def _collect_comment(self, text: str) -> None:
        # A name or a value in the text may contain line breaks.
        self.collected_sql += [f"-- {line}" for line in text.splitlines()]

    # -- Statements that are gathered: see gathering.py

    @contextmanager
    def gathering(self, origin: str | None = None) -> Iterator[Gathering]:
        """
        Gather the statements of this block, which belong to the operation `origin`. At
        the end of the block, all of them have been sent, or dropped after an error.
        """
        with self._gathering.block(origin):
            yield self._gathering
        self._check_references()

    def _create(self, creation: Creation) -> None:
        if not self._may_gather():
            # Let Django raise its error: DDL is not allowed in a transaction.
            super().execute(creation.sql, None)
        if self._gathering.origin is None:
            self._send(creation)
            self._send_followers(creation)
        else:
            creation.belongs_to(self._gathering.origin)
            self._gather(creation)

    def _gather(self, statement: Creation | Addition) -> None:
        # Quoting a value and adding a CHECK constraint need a connection and the
        # variables. Get both now, because reading them later would send the gathered
        # statements.
        self.connection.ensure_connection()
        _ = self.connection.features.supports_table_check_constraints
        self._gathering.add(statement)
        if self.collect_sql:
            with self._gathering.kept():
                self._send(statement)

    def _may_gather(self) -> bool:
        return self.collect_sql or not self.connection.in_atomic_block

    def _send_gathered(self, statements: list[Creation | Addition]) -> None:
        # With collect_sql, the statements were collected when they were gathered.
        if not self.collect_sql:
            for statement in self._send_together(statements):
                with statement.named_in_errors():
                    self._send(statement)
        for statement in statements:
            with statement.named_in_errors():
                self._send_followers(statement)

    def _send_together(
        self, statements: list[Creation | Addition]
    ) -> list[Creation | Addition]:
        """
        Create tables of a new test database on several connections at once; return the
        statements that could not be sent in this way.
        """
        if not self.connection.creation.creating:
            return statements
        creations = [s for s in statements if isinstance(s, Creation)]
        left = create_together(self.connection, creations)
        sent = [creation for creation in creations if creation not in left]
        for creation in sent:
            self.references.set_existing(creation.name, True)
        return [statement for statement in statements if statement not in sent]

    def _send(self, statement: Creation | Addition) -> None:
        if isinstance(statement, Creation):
            with self._forward_references(statement):
                self._run(statement)
            self.references.set_existing(statement.name, True)
        else:
            self._run(statement)

    def _run(self, statement: Creation | Addition) -> None:
        if self.collect_sql:
            statement.position = len(self.collected_sql)
        if self._may_gather():
            self._execute_once(statement.sql, None)
            return
        # Django would refuse DDL in a transaction. However, this transaction began
        # after the statement was gathered, and nothing has been sent in it yet.
        logger.debug("%s; (params %r)", statement.sql, None)
        with self.connection.cursor() as cursor:
            cursor.execute(statement.sql, None)
        self._record_executed(statement.sql)

    def _send_followers(self, statement: Creation | Addition) -> None:
        for follower in getattr(statement, "followers", ()):
            self.execute(follower, None)

    @contextmanager
    def _forward_references(self, creation: Creation) -> Iterator[None]:
        """Allow CREATE TABLE to refer to tables that do not exist yet."""
        if not (
            self.connection.features.supports_foreign_keys
            and self.references.await_missing(creation.targets)
        ):
            yield
        elif self.collect_sql:
            super().execute("SET foreign_key_checks = 0", None)
            yield
            super().execute("SET foreign_key_checks = 1", None)
        else:
            with self.connection.session_variables(foreign_key_checks=0):
                yield

    # -- Statements

    def execute(self, sql: Any, params: Any = ()) -> None:
        if sql is None:  # A plugin's index may have nothing to do.
            return
        if self._becomes_clause(sql):
            return
        sql, params = self._as_sent(sql, params)
        if self.collect_sql:
            sql, params = self._without_fulltext(sql, params)
            if not sql:
                return
        self._gathering.send()
        self._send_prerequisites(sql)
        if self._is_repeated(sql, params):
            return
        self._begin_undos()
        if self._has_been_done(sql, params):
            return
        self._execute_or_rebuild(sql, params)

    def _becomes_clause(self, statement: Any) -> bool:
        """
        Add `statement` as a clause to the pending statement for its table, or to a new
        pending statement, if that is possible. Return whether it was added.
        """
        if not isinstance(statement, Statement):
            return False
        table = str(statement.parts.get("table"))
        pending = self._gathering.get(table)
        if pending is None and self._combines_additions(table):
            pending = Addition(table)
        clause = None if pending is None else pending.clause(statement)
        if pending is None or clause is None:
            return False
        pending.add(clause, self._gathering.origin)
        if pending is not self._gathering.get(table):
            self._begin_undos()
            self._gather(pending)
        elif self.collect_sql:
            self.collected_sql[pending.position] = f"{pending.sql};"
            self._collect_comment(f"In {pending.command}: {clause}")
        return True

    def _combines_additions(self, table: str) -> bool:
        """Return whether an operation is altering this table in several steps."""
        return (
            bool(self._undos)
            and table == self._undos[-1].table.sql
            and self._may_gather()
            and not KNOWN_ISSUES["alter-several"].affects(self.connection.tidb_version)
        )

    def _without_fulltext(self, sql: Any, params: Any) -> tuple[Any, Any]:
        """
        Return a statement and its parameters as the cursor will send it under the
        option ``skip_fulltext_indexes``, and collect comments about the rest.
        """
        if not self.connection.tidb_options.get("skip_fulltext_indexes"):
            return sql, params
        text = str(sql)
        if params:
            text %= tuple(map(self.quote_value, params))
        rest, left_out = without_fulltext(text)
        if not left_out:
            return sql, params
        for line in "\n".join(left_out).splitlines():
            self._collect_comment(f"Left out: {line}")
        return rest, None if params else params

    def _send_prerequisites(self, sql: Any) -> None:
        if isinstance(sql, IndexStatement):
            for prerequisite in sql.prerequisites:
                super().execute(prerequisite, None)

    def _is_repeated(self, sql: Any, params: Any) -> bool:
        """
        Return whether the statement is the same MODIFY as the last statement. Django
        changes a column's type, default and NULL one after the other, each with the
        same MODIFY.
        """
        last, self._last_statement = self._last_statement, (str(sql), params)
        return self._last_statement == last and bool(_MODIFY.match(str(sql)))

    def _has_been_done(self, sql: Any, params: Any) -> bool:
        """Return whether a completed rebuild has made this change."""
        if not self._completed_rebuilds:
            return False
        alteration = self._alteration(str(sql), params)
        if alteration is None:
            return False
        before = self._completed_rebuilds.get(alteration.table)
        # A change that the table already had before the rebuild is not the rebuild's
        # change.
        return (
            before is not None
            and not alteration.is_done(before)
            and alteration.is_done(read_definition(self.connection, alteration.table))
        )

    def _execute_once(self, sql: Any, params: Any) -> None:
        """
        Send a statement, unless a job or an interrupted run of an earlier ``migrate``
        has executed the same statement. If the connection is lost, wait for the job of
        this statement, and do not raise the error if the job has succeeded. If the
        server answers that a name is in use, do not raise the error if the table is
        exactly as after this statement.
        """
        run = None if self.collect_sql else migrating.current(self.connection)
        if run is None:
            super().execute(sql, params)
            self._record_executed(sql, params)
            return
        text = self._text(str(sql), params)
        run.wait_for_tables(names_in(text))
        if run.has_waited_for(text) and self._is_done(text, certain=True):
            return
        if run.notes and not self._is_rebuilding and self._was_noted(run, text):
            return
        try:
            super().execute(sql, params)
        except DatabaseError as error:
            exists = error.args[0] in _EXISTS
            had_job = False if exists else run.wait_after(error, text)
            if had_job is None or not self._is_done(text, certain=had_job):
                if error.args[0] in _HAS_BEEN_DONE:
                    add_to_message(error, self._way_out(text))
                raise
            run.tell(f"{error}: the table is as after this statement. Going on.")
            if exists:
                # Another client may have executed the statement.
                return
        self._record_executed(text)

    def _was_noted(self, run: migrating.MigrateRun, text: str) -> bool:
        """
        Write a note about a statement, unless it would do no harm to send it twice.
        Return whether an interrupted run has written that note and the definitions of
        tables are as after the statement.
        """
        notes = run.notes
        alteration = self._alteration(text, None)
        if notes is None or not (
            any(pattern.match(text) for pattern in _WHOLE_TABLES)
            if alteration is None
            else any(not isinstance(c, _REPEATABLE) for c in alteration.changes)
        ):
            return False
        statement = text
        if alteration and self._default_is_passing:
            # The default may be different in each run, for example the time.
            statement = _without_defaults(alteration).sql
        try:
            is_done = self._is_done(text, certain=True)
            definition = ""
            if alteration and any(isinstance(c, DropKey) for c in alteration.changes):
                definition = read_definition(self.connection, alteration.table).sql()
        except (NotSupportedError, ValueError):
            # The definition cannot be read, so it cannot tell what has been done.
            return False
        if notes.take(statement):
            if is_done:
                run.tell(f"An interrupted migrate has executed this. Going on: {text}")
            return is_done
        if not is_done:
            notes.add(statement, definition)
        return False

    def _way_out(self, text: str) -> str:
        """Return what to do if an interrupted run may have executed a statement."""
        undo = ""
        for pattern, exist in _WHOLE_TABLES.items():
            if exist == [True] and (match := pattern.match(text)):
                undo = f" Otherwise undo it, for example with DROP TABLE {match[1]}."
        alteration = self._alteration(text, None)
        changes = alteration.changes if alteration else ()
        if alteration and (undone := tuple(filter(None, map(_inverse, changes)))):
            undo = (
                " Otherwise undo it, for example with "
                f"{Alteration(alteration.table, undone).sql}."
            )
        return (
            "If this is because an earlier migrate was interrupted, compare the tables "
            "with the migration. If all of it has been executed, record it with "
            f"migrate --fake.{undo} [{text}]"
        )

    def interrupted_drops(self, table: TableName) -> list[Key]:
        """
        Return the keys of a table that an interrupted run of the same migration has
        begun to drop. They tell what that run has to create again.
        """
        run = None if self.collect_sql else migrating.current(self.connection)
        if run is None or run.notes is None:
            return []
        keys = []
        for note in run.notes.earlier:
            if not note.definition:
                continue
            alteration = Alteration.parse(note.statement)
            before = TableDefinition.parse(note.definition)
            if alteration.table == table:
                keys += [
                    before.key(change.kind, change.name)
                    for change in alteration.changes
                    if isinstance(change, DropKey)
                ]
        return list(filter(None, keys))

    @contextmanager
    def rebuilding(self) -> Iterator[None]:
        """Send the statements of a rebuild, which has its own way to go on."""
        outer, self._is_rebuilding = self._is_rebuilding, True
        try:
            yield
        finally:
            self._is_rebuilding = outer

    @contextmanager
    def passing_default(self, is_passing: bool) -> Iterator[None]:
        """Say whether the default in ADD COLUMN is dropped soon after."""
        outer, self._default_is_passing = self._default_is_passing, is_passing
        try:
            yield
        finally:
            self._default_is_passing = outer

    def wait_for_jobs(self, *tables: TableName) -> None:
        """
        Wait for the jobs of an earlier ``migrate`` for these tables. Call this method
        before code decides by the definitions of the tables.
        """
        run = None if self.collect_sql else migrating.current(self.connection)
        if run is not None:
            run.wait_for_tables({table.name.lower() for table in tables})

    def _is_done(self, sql: str, *, certain: bool) -> bool:
        """
        Return whether the definitions of the tables show the result of this statement;
        False if they do not show it.

        `certain` tells whether the statement is known to have been executed just now.
        If not, the definitions must be exactly those that the statement produces.
        """
        for pattern, wanted in _WHOLE_TABLES.items():
            if match := pattern.match(sql):
                names = [TableName.of(name).sql for name in match.groups()]
                existing = self.connection.introspection.existing(names)
                is_so = [name.lower() in existing for name in names] == wanted
                return is_so and (certain or wanted != [True])
        alteration = self._alteration(sql, None)
        if alteration is None:
            return False
        definition = read_definition(self.connection, alteration.table)
        if not alteration.is_done(definition):
            return False
        if certain or all(
            isinstance(change, AddKey)
            and definition.key(change.key.kind, change.key.name) == change.key
            for change in alteration.changes
        ):
            return True
        return any(
            undo.before is not None and not alteration.is_done(undo.before)
            for undo in self._undos
            if undo.table == alteration.table
        )

    def _execute_or_rebuild(self, sql: Any, params: Any) -> None:
        try:
            self._execute_once(sql, params)
        except DatabaseError as error:
            if error.args[0] not in _REFUSED:
                raise
            alteration = self._alteration(str(sql), params)
            if alteration is None:
                raise
            # AUTO_INCREMENT can be removed only if this variable is ON:
            # https://docs.pingcap.com/tidb/stable/system-variables#tidb_allow_remove_auto_inc-new-in-v2118-and-v304
            if "tidb_allow_remove_auto_inc" in str(error):
                with self.connection.session_variables(tidb_allow_remove_auto_inc=1):
                    super().execute(sql, params)
                self._record_executed(sql, params)
                return
            try:
                rebuild(self, alteration, error.args[1])
            except ValueError:
                raise error from None
            self._record_executed(alteration.sql)

    def _alteration(self, sql: str, params: Any) -> Alteration | None:
        """Return the changes that a statement makes; None if they are unknown."""
        try:
            return Alteration.parse(self._text(sql, params))
        except ValueError:
            return None

    def _text(self, sql: str, params: Any) -> str:
        """Return a statement with its parameters inserted."""
        return sql if params is None else sql % tuple(map(self.quote_value, params))

    def rebuild_table(
        self, model: type[Model], changes: Sequence[Change], reason: str
    ) -> None:
        """
        Make `changes` that ALTER TABLE does not support by rebuilding the table.
        `reason` is a sentence that explains why. Plugins call this method. The
        changes can concern columns, the primary key, and the table options in
        :data:`django_tidb.changes.ROW_ID_OPTIONS`.

        Raises ``NotSupportedError``, before any change, if the table has rows
        and OPTIONS["rebuild_tables"] does not allow it, and ValueError if a
        change cannot be made.
        """
        table = model._meta.db_table
        alteration = Alteration(TableName.of(table), tuple(changes))
        if self.collect_sql:
            self._collect_comment(
                f"The table {table} is rebuilt for what is refused otherwise:"
            )
            self.execute(alteration.sql, None)
            return
        with self._all_or_nothing(model):
            # An earlier rebuild may have been interrupted.
            self._begin_undos()
            if not self._has_been_done(alteration.sql, None):
                rebuild(self, alteration, reason)
                self._record_executed(alteration.sql)

    # -- Operations that take several statements

    @contextmanager
    def _all_or_nothing(self, model: type[Model]) -> Iterator[None]:
        """
        Undo the changes of the model's table if a later statement of the block fails,
        so that the migration can be run again: DDL cannot be rolled back. Several
        additions to the table are sent as one statement.
        """
        table = TableName.of(model._meta.db_table)
        if any(undo.table == table for undo in self._undos):
            yield
            return
        self.wait_for_jobs(table)
        undo = Undo(self, table)
        self._undos.append(undo)
        try:
            with self._gathering.sent_first():
                with self._literal_sql():
                    yield
                self._gathering.send_addition()
        except Exception:
            # The error may have been raised while SQL was written, so drop the pending
            # statement.
            self._gathering.drop_addition()
            undo.run()
            raise
        finally:
            self._undos.remove(undo)

    def _record_executed(self, sql: Any, params: Any = None) -> None:
        """Record a statement that the server has executed for the current operation."""
        if self._undos and not self.collect_sql and not self._is_rebuilding:
            text = self._text(str(sql), params)
            for undo in self._undos:
                undo.executed.append(text)

    def _begin_undos(self) -> None:
        for undo in self._undos:
            undo.begin()
            if undo.before_rebuild:
                self._completed_rebuilds[undo.table] = undo.before_rebuild

    def _constraint_names(self, *args: Any, **kwargs: Any) -> list[str]:
        self._begin_undos()
        return super()._constraint_names(*args, **kwargs)
