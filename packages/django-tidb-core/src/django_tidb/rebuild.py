"""
Rebuild a table where ALTER TABLE is refused.

TiDB cannot change a clustered primary key, make a column AUTO_INCREMENT, add a
STORED generated column or change the collation of an indexed column:
https://docs.pingcap.com/tidb/stable/sql-statement-alter-table

The steps of a rebuild of the table "t" are:
  1. Create "t__rebuild_new", a table with the new definition. Its CHECK
     constraints get interim names, because the names of CHECK constraints are
     unique in a database.
  2. Copy the rows to "t__rebuild_new" in batches, and compute their checksum.
  3. Rename "t" to "t__rebuild_old". RENAME TABLE waits for the transactions
     that use the table, so the rows no longer change afterwards. Statements
     that use "t" get error 1146 until step 6.
  4. Compare the rows of "t__rebuild_old" with the checksum. If the rows changed
     while they were copied, rename "t__rebuild_old" to "t" and drop
     "t__rebuild_new", so that the table is as before the rebuild.
  5. Make the foreign keys of other tables refer to "t__rebuild_new", under
     interim names.
  6. Rename "t__rebuild_new" to "t".
  7. Replace the interim names of foreign keys and CHECK constraints by their
     final names.
  8. Drop "t__rebuild_old".

After an error in steps 1 to 6 the rebuild is reverted. After an error in step 7 or
8, only the rest of these steps remains to be done. If a rebuild was interrupted, the
names of the existing tables show which step it had reached, so :func:`recover` can
revert or complete the rebuild.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.db import (
    DatabaseError,
    NotSupportedError,
    OperationalError,
    transaction,
)
from django.db.backends.utils import truncate_name
from django.utils.functional import cached_property

from .alteration import Alteration
from .changes import (
    ROW_ID_OPTIONS,
    AddColumn,
    AddKey,
    AddPrimaryKey,
    Change,
    DropColumn,
    DropKey,
    DropPrimaryKey,
    DuplicateColumnError,
    ModifyColumn,
    SetTableOption,
)
from .definition import KeyKind, TableDefinition
from .elements import same
from .error_numbers import ErrorNumber
from .introspection import read_definition
from .known_issues import KNOWN_ISSUES
from .names import TableName, in_format, quote
from .plugins import get_plugins

if TYPE_CHECKING:
    from .base import DatabaseWrapper
    from .schema import DatabaseSchemaEditor

__all__ = ["batches", "copying", "interrupted", "rebuild", "recover"]

#: Rows that are copied in one transaction, whose size TiDB limits:
#: https://docs.pingcap.com/tidb/stable/tidb-limitations
BATCH = 20_000

# The length of a name, which TiDB limits:
# https://docs.pingcap.com/tidb/stable/tidb-limitations
_LENGTH = 64


def _aside(table: TableName) -> tuple[TableName, TableName]:
    """Return the names of the new and the old table during the rebuild."""
    new, old = (
        replace(table, name=truncate_name(f"{table.name}__rebuild_{which}", _LENGTH))
        for which in ("new", "old")
    )
    return new, old


_CONSTRAINT = "__rebuild"


def _has_room(name: str) -> bool:
    # TiDB counts the bytes of the name of a CHECK.
    return len(f"{name}{_CONSTRAINT}".encode()) <= _LENGTH


def _interim(name: str) -> str:
    """
    Return the name that a constraint has during the rebuild. _final() derives the
    original name from it. The interim name is the original name with a suffix or, if
    that would be too long, the original name with tildes instead of underscores.

    Raises ``NotSupportedError`` if there is no such name.
    """
    interim = f"{name}{_CONSTRAINT}" if _has_room(name) else name.replace("_", "~")
    if _final(interim) != name or _final(name) is not None:
        raise NotSupportedError(
            f"A rebuild cannot keep the name of the constraint {name!r}. It "
            f"must not end with {_CONSTRAINT!r} and, if it has more than "
            f"{_LENGTH - len(_CONSTRAINT)} bytes, must have an underscore and no tilde "
            "(~). Rename the constraint first."
        )
    return interim


def _final(name: str) -> str | None:
    """
    Return the original name for an interim name, or None if `name` is no interim name.
    """
    final = name.removesuffix(_CONSTRAINT)
    if not _has_room(name) and final == name and "_" not in name:
        final = name.replace("~", "_")
    return final if final != name else None


class _Tables:
    """The statements of a rebuild, for one schema editor."""

    def __init__(self, editor: DatabaseSchemaEditor, table: TableName) -> None:
        self.editor = editor
        self.connection = editor.connection
        self.table = table
        self.new, self.old = _aside(table)

    @cached_property
    def database(self) -> str:
        """The name of the tables' database, which may be the current one."""
        return self.table.database or str(self.fetch("SELECT DATABASE()")[0][0])

    def run(self, sql: str) -> None:
        with self.editor.rebuilding():
            self.editor.execute(sql, None)

    def fetch(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())

    def existing(self) -> set[TableName]:
        """
        Return those of the three tables that exist: the table, the new table, and the
        old one.
        """
        names = (self.table, self.new, self.old)
        found = self.connection.introspection.existing(name.sql for name in names)
        return {name for name in names if name.sql.lower() in found}

    def definition(self, table: TableName) -> TableDefinition:
        return read_definition(self.connection, table)

    def referring(self, target: TableName) -> Iterator[tuple[TableName, TableName]]:
        """
        Yield the tables in any database that may have a foreign key to `target`, each
        with the name by which its definition refers to `target`.
        """
        untold = KNOWN_ISSUES["foreign-key-database"].affects(
            self.connection.tidb_version
        )
        for database, name in self.fetch(
            "SELECT DISTINCT table_schema, table_name "
            "FROM information_schema.key_column_usage "
            "WHERE (%s OR LOWER(referenced_table_schema) = LOWER(%s)) "
            "AND LOWER(referenced_table_name) = LOWER(%s)",
            [untold, self.database, target.name],
        ):
            if not same(database, self.database):
                yield TableName(name, database), replace(target, database=self.database)
            elif not same(name, self.old.name):
                yield replace(self.table, name=name), TableName(target.name)

    def rename(self, table: TableName, to: TableName) -> None:
        self.run(f"RENAME TABLE {table.sql} TO {to.sql}")

    def drop(self, table: TableName) -> None:
        self.run(f"DROP TABLE {table.sql}")

    def alter(self, table: TableName, change: Change) -> None:
        self.run(Alteration(table, (change,)).sql)

    # -- Foreign keys
    # A foreign key of another table is dropped and created again under the same name.
    # In between, a copy of the foreign key with an interim name checks the rows.

    def point_at_new(self) -> None:
        for child, old in self.referring(self.old):
            new = replace(old, name=self.new.name)
            for key in self.definition(child).foreign_keys(old):
                interim = key.renamed(_interim(key.name)).pointed_at(new)
                self.alter(child, AddKey(interim))
                self.alter(child, DropKey(key.kind, key.name))

    def settle(self, target: TableName, to: TableName) -> None:
        """
        Replace interim foreign keys to `target` by the final foreign keys to the table
        `to`.
        """
        for child, found in self.referring(target):
            final_target = replace(found, name=to.name)
            definition = self.definition(child)
            for interim in definition.foreign_keys(found):
                if (name := _final(interim.name)) is None:
                    continue
                if definition.key(KeyKind.FOREIGN_KEY, name) is None:
                    final = interim.renamed(name).pointed_at(final_target)
                    # The interim foreign keys have already checked the rows.
                    with self.connection.session_variables(foreign_key_checks=0):
                        self.alter(child, AddKey(final))
                self.alter(child, DropKey(interim.kind, interim.name))

    # -- CHECK constraints: their names are unique in a database.

    def settle_checks(self) -> None:
        olds = self.definition(self.old)
        news = self.definition(self.table)
        for interim in news.checks:
            if (name := _final(interim.name)) is None:
                continue
            if olds.key(KeyKind.CHECK, name):
                self.alter(self.old, DropKey(KeyKind.CHECK, name))
            if news.key(KeyKind.CHECK, name) is None:
                self.alter(self.table, AddKey(interim.renamed(name)))
            self.alter(self.table, DropKey(KeyKind.CHECK, interim.name))

    # -- Reverting and completing a rebuild

    def go_back(self) -> None:
        existing = self.existing()
        if self.table not in existing:
            self.settle(self.new, self.old)
            self.rename(self.old, self.table)
        if self.new in existing:
            self.drop(self.new)

    def finish(self) -> None:
        self.settle(self.table, self.table)
        self.settle_checks()
        self.drop(self.old)


def interrupted(editor: DatabaseSchemaEditor, table: TableName) -> bool:
    """
    Return whether a rebuild of `table` was interrupted, so that :func:`recover` is
    needed.
    """
    return _Tables(editor, table).existing() != {table}


def recover(editor: DatabaseSchemaEditor, table: TableName) -> TableDefinition | None:
    """
    Clean up after a rebuild of `table` that was interrupted by a lost connection or a
    killed process. Undo the rebuild if the new table has not yet taken the place of the
    old one, else finish it. Return the definition before a rebuild that this function
    has finished, else None.
    """
    tables = _Tables(editor, table)
    editor.wait_for_jobs(table, tables.new, tables.old)
    existing = tables.existing()
    if existing >= {table, tables.old}:
        before = tables.definition(tables.old)
        tables.finish()
        return before
    if existing & {tables.new, tables.old}:
        tables.go_back()
    return None


def rebuild(editor: DatabaseSchemaEditor, alteration: Alteration, reason: str) -> None:
    """
    Make an alteration that ALTER TABLE refuses. `reason` is a sentence that says why.

    Raises ``NotSupportedError`` if the table has rows and OPTIONS do not allow its
    rebuild, or if the rows changed during the rebuild; the table is unchanged then.
    Raises ``OperationalError`` 1060, like the server, if the table already has a column
    that is to be added. Raises ValueError if a rebuild cannot make one of the changes.
    """
    for change in alteration.changes:
        if not _is_rebuilt_for(change):
            raise ValueError(f"No table is rebuilt for {change.clause}")
    table = alteration.table
    # The name in the form of Meta.db_table.
    db_table = table.sql[1:-1]
    tables = _Tables(editor, table)
    try:
        new = alteration.apply(tables.definition(table))
    except DuplicateColumnError as error:
        raise OperationalError(ErrorNumber.DUPLICATE_COLUMN.value, str(error)) from None
    _check_checks(editor.connection, alteration, new)
    about = f"TiDB refuses {alteration.sql}: {reason.rstrip('.')}."
    if tables.fetch(f"SELECT 1 FROM {table.sql} LIMIT 1") and not _allowed(
        editor.connection, table
    ):
        alias = editor.connection.alias
        raise NotSupportedError(
            f"{about} The table has to be rebuilt, and it has rows. Stop what writes "
            f"to it, make a backup, add {db_table!r} to "
            f"DATABASES[{alias!r}]['OPTIONS']['rebuild_tables'] and run this again."
        )
    with contextlib.ExitStack() as stack:
        for plugin in get_plugins():
            stack.enter_context(plugin.rebuilding(editor, db_table))
        # Read the definition again, because a plugin may have altered the table.
        old = tables.definition(table)
        new = alteration.apply(old)
        stack.enter_context(copying(editor.connection))
        try:
            _create(tables, old, new)  # 1
            copied = _copy(tables, old, new)  # 2
            tables.rename(table, tables.old)  # 3
            # 4
            if (
                copied != _checksum(tables, tables.old, old)
                or copied[0]
                != (tables.fetch(f"SELECT COUNT(*) FROM {tables.new.sql}")[0][0])
            ):
                raise NotSupportedError(
                    f"{about} The table was to be rebuilt, but its rows changed while "
                    "they were copied. Stop what writes to it and run this again."
                )
            tables.point_at_new()  # 5
            tables.rename(tables.new, table)  # 6
        except BaseException:
            # A further error would only hide the cause. The next run calls recover().
            with contextlib.suppress(DatabaseError):
                tables.go_back()
            raise
        tables.finish()  # 7 and 8


def _is_rebuilt_for(change: Change) -> bool:
    if isinstance(change, SetTableOption):
        return change.name in ROW_ID_OPTIONS and isinstance(change.value, int)
    return isinstance(
        change, (AddColumn, ModifyColumn, DropColumn, AddPrimaryKey, DropPrimaryKey)
    )


def _check_checks(
    connection: DatabaseWrapper, alteration: Alteration, new: TableDefinition
) -> None:
    """Raise ``NotSupportedError`` if the CHECK constraints cannot be added again."""
    version = connection.tidb_version
    name = alteration.table.name
    if "`" in name and new.checks and KNOWN_ISSUES["check-backtick"].affects(version):
        raise NotSupportedError(
            f"The table {name!r} cannot be rebuilt for {alteration.sql}: while there "
            f"is a backtick in its name, TiDB {version} cannot add its CHECK "
            "constraints. Rename the table first."
        )


def _allowed(connection: DatabaseWrapper, table: TableName) -> bool:
    allowed = connection.tidb_options.get("rebuild_tables", False)
    # Meta.db_table has the name with or without its outer backticks.
    forms = {table.sql, table.sql[1:-1]}
    return allowed is True or (bool(allowed) and not forms.isdisjoint(allowed))


@contextlib.contextmanager
def copying(connection: DatabaseWrapper) -> Iterator[None]:
    """Set session variables for a block, so that it can copy rows unchanged."""
    modes = connection.tidb_variables["sql_mode"].split(",")
    with connection.session_variables(
        # Copied rows may refer to rows that are not copied yet.
        foreign_key_checks=0,
        # Otherwise the server would replace the key 0 by a new id.
        sql_mode=",".join(filter(None, {*modes, "NO_AUTO_VALUE_ON_ZERO"})),
        allow_auto_random_explicit_insert=1,
        # Both statements of a batch read the same snapshot.
        tidb_txn_mode="optimistic",
    ):
        yield


def _create(tables: _Tables, old: TableDefinition, new: TableDefinition) -> None:
    keys = (
        # The names of CHECK constraints are unique in a database, so the new table has
        # interim names. A CHECK without a name needs no interim name, because the
        # server chooses its name.
        key.renamed(_interim(key.name))
        if key.kind is KeyKind.CHECK and key.name
        else key
        for key in new.keys
    )
    tables.run(replace(new, keys=tuple(keys)).sql(tables.new))
    # The server must have kept all parts of the definition that do not change.
    created = tables.definition(tables.new)
    for column in old.columns:
        found = created.column(column.name)
        if found and new.column(column.name) == column != found:
            raise NotSupportedError(
                f"The table {tables.table.name!r} cannot be rebuilt: its column "
                f"{column.sql} would become {found.sql}."
            )
    for (replicas,) in tables.fetch(
        "SELECT replica_count FROM information_schema.tiflash_replica "
        "WHERE LOWER(table_schema) = LOWER(%s) AND LOWER(table_name) = LOWER(%s)",
        [tables.database, tables.table.name],
    ):
        tables.run(f"ALTER TABLE {tables.new.sql} SET TIFLASH REPLICA {replicas:d}")


def _column(name: str) -> str:
    return in_format(quote(name))


def _checksum(
    tables: _Tables,
    table: TableName,
    definition: TableDefinition,
    where: str = "",
    params: Iterable[Any] = (),
) -> tuple[int, int]:
    """Return the number of rows and a checksum of their contents."""
    columns = sorted(definition.stored_columns())
    key = definition.clustered_key or ["_tidb_rowid"]
    texts = ", ".join(
        f"IFNULL(HEX(CAST({name} AS BINARY)), '-')"
        for name in map(_column, dict.fromkeys((*key, *columns)))
    )
    ((count, digest),) = tables.fetch(
        "SELECT COUNT(*), BIT_XOR(CAST(CONV(LEFT(MD5("
        f"CONCAT_WS(',', {texts})), 16), 16, 10) AS UNSIGNED)) "
        f"FROM {in_format(table.sql)}{where}",
        list(params),
    )
    return int(count), int(digest or 0)


def _copy(
    tables: _Tables, old: TableDefinition, new: TableDefinition
) -> tuple[int, int]:
    """Copy all rows; return the checksum of the copied rows."""
    table, target = (in_format(name.sql) for name in (tables.table, tables.new))
    kept = sorted(old.stored_columns() & new.stored_columns())
    columns = ", ".join(map(_column, kept))
    count = digest = 0
    key = old.clustered_key or ["_tidb_rowid"]
    for where, params in batches(tables.fetch, table, key):
        with transaction.atomic(tables.connection.alias):
            rows, part = _checksum(tables, tables.table, old, where, params)
            if rows and columns:
                with tables.connection.cursor() as cursor:
                    cursor.execute(
                        f"INSERT INTO {target} ({columns}) "
                        f"SELECT {columns} FROM {table}{where}",
                        params,
                    )
        count, digest = count + rows, digest ^ part
    return count, digest


def batches(
    fetch: Callable[[str, Any], Sequence[Any]], table: str, key: Iterable[str]
) -> Iterator[tuple[str, list[Any]]]:
    """
    Split the rows of a table into batches, and yield the WHERE clause of each
    batch, with its parameters. `table` is a name in the form that
    :func:`in_format` returns, `key` contains the names of columns that identify
    a row, and `fetch` runs a query and returns its rows.
    """
    key = list(map(_column, key))
    names, values = ", ".join(key), ", ".join(["%s"] * len(key))
    after = ""
    last: list[Any] = []
    while True:
        found = fetch(
            f"SELECT {names} FROM {table}{after} ORDER BY {names} "
            f"LIMIT 1 OFFSET {BATCH - 1}",
            last,
        )
        if not found:
            yield after, last
            return
        upper = list(found[0])
        sign = " AND" if after else " WHERE"
        yield f"{after}{sign} ({names}) <= ({values})", [*last, *upper]
        after, last = f" WHERE ({names}) > ({values})", upper
