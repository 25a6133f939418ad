"""
Rebuild a table where ALTER TABLE is refused.

TiDB cannot change a clustered primary key, make a column AUTO_INCREMENT, add a
STORED generated column or change the collation of an indexed column:
https://docs.pingcap.com/tidb/stable/sql-statement-alter-table

The table is created anew beside itself and its rows are copied. Then the live
table is renamed aside, which waits for the transactions that use it, so that
its rows no longer change; if they have changed since they were copied, it is
renamed back and nothing has happened. Else the foreign keys that point at it
are pointed at the new table, and that is renamed into its place.

The names of the two tables tell how far a rebuild came that was interrupted,
so the next one goes back or finishes it: see :func:`recover`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import DatabaseError, NotSupportedError, transaction
from django.db.backends.utils import truncate_name

from .known_issues import KNOWN_ISSUES
from .plugins import get_plugins

__all__ = [
    "TableDefinition",
    "batches",
    "copying",
    "definition_from",
    "interrupted",
    "quote",
    "read_definition",
    "rebuild",
    "recover",
]

#: Rows that are copied in one transaction, whose size TiDB limits:
#: https://docs.pingcap.com/tidb/stable/tidb-limitations
BATCH = 20_000

_NAME = r"`((?:[^`]|``)+)`"
_TOKEN = re.compile(
    r"'(?:[^'\\]|''|\\.)*'|`(?:[^`]|``)*`|/\*.*?\*/|[(),]|[^'`(),/]+|/", re.DOTALL
)


def _split(text: str) -> list[str]:
    """Return the parts of `text` between commas that no bracket encloses."""
    parts, depth = [""], 0
    for piece in _TOKEN.findall(text):
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if piece == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]


def _names(text: str) -> list[str]:
    return [name.replace("``", "`") for name in re.findall(_NAME, text)]


def quote(name: str) -> str:
    """Return a name in backticks."""
    return f"`{name.replace('`', '``')}`"


@dataclass(frozen=True)
class TableDefinition:
    """What SHOW CREATE TABLE tells, so that it can be changed."""

    #: Columns by their names, each with its name and in the server's words.
    columns: dict[str, str]
    #: Keys and constraints, likewise; the primary key's name is "".
    keys: dict[str, str]
    #: What follows the closing bracket.
    options: str
    #: What precedes the name.
    create: str = "CREATE TABLE"

    @classmethod
    def parse(cls, sql: str) -> TableDefinition:
        """
        Return the definition that `sql`, SHOW CREATE TABLE's answer, has.

        Raises ValueError if it cannot be read to the letter.
        """
        # TiDB 7.5 does not indent a CHECK.
        sql = sql.replace(",\nCONSTRAINT ", ",\n  CONSTRAINT ")
        head, _, rest = sql.partition(" (\n  ")
        body, _, options = rest.rpartition("\n) ")
        columns, keys = {}, {}
        for part in _split(body):
            if part.startswith("`"):
                columns[_names(part)[0]] = part
            elif part.startswith("PRIMARY KEY"):
                keys[""] = part
            else:
                # A foreign key and its index have the same name.
                kind = "FOREIGN KEY " if _kind(part) == "FOREIGN KEY" else ""
                keys[kind + _names(part)[0]] = part
        create, _, name = head.partition(" `")
        definition = cls(columns, keys, options, create)
        if definition._sql(_names(f"`{name}")[0], keys.values()) != sql:
            raise ValueError(f"This table's definition cannot be read: {sql}")
        return definition

    def sql(self, table: str) -> str:
        """Return CREATE TABLE for a table of this name."""
        return self._sql(table, map(_written, self.keys.values()))

    def _sql(self, table: str, keys: Iterable[str]) -> str:
        body = ",\n  ".join((*self.columns.values(), *keys))
        return f"{self.create} {quote(table)} (\n  {body}\n) {self.options}"

    def within(self, database: str) -> TableDefinition:
        """
        Return the definition without the name of the `database` that its
        sequences are in, or, as TiDB 7.5 writes it, its foreign keys.
        """
        sequence = rf"(?i)^([^']* DEFAULT \(?nextval\(){re.escape(quote(database))}\."
        columns = {
            name: re.sub(sequence, r"\1", column)
            for name, column in self.columns.items()
        }
        keys = {
            name: key.replace(f" REFERENCES {quote(database)}.", " REFERENCES ", 1)
            if _kind(key) == "FOREIGN KEY"
            else key
            for name, key in self.keys.items()
        }
        return replace(self, columns=columns, keys=keys)

    @property
    def clustered_key(self) -> list[str]:
        """The columns of the primary key, if the rows are stored by it."""
        key = self.keys.get("", "")
        return [] if " NONCLUSTERED " in key else _names(key)

    def stored_columns(self) -> set[str]:
        """Return the names of the columns that hold what they were given."""
        return {
            name
            for name, column in self.columns.items()
            if " GENERATED ALWAYS AS " not in column
        }

    def foreign_keys(self, target: str) -> dict[str, str]:
        """Return the foreign keys to the table `target`, by their names."""
        references = f" REFERENCES {quote(target)} ("
        return {_names(key)[0]: key for key in self.keys.values() if references in key}

    def implicit_indexes(self, column: str) -> list[str]:
        """
        Return the indexes that the server has made for foreign keys of this
        column: they have the name of one, be it that of before a renaming.
        """
        key_columns = f" FOREIGN KEY ({quote(column)}) REFERENCES "
        foreign = {_names(k)[0] for k in self.keys.values() if key_columns in k}
        return [
            name
            for name, key in self.keys.items()
            if key == f"KEY {quote(name)} ({quote(column)})"
            and foreign
            and (name in foreign or _FOREIGN_KEY_NAME.search(name))
        ]

    def has_index(self, column: str, besides: Iterable[str]) -> bool:
        """Return whether another index than these begins with a column, all of it."""
        begins = re.compile(rf"[A-Z ]+(?:{_NAME} )?\({re.escape(quote(column))}[,)]")
        return any(
            begins.match(key) for name, key in self.keys.items() if name not in besides
        )

    def foreign_keys_elsewhere(self) -> dict[str, list[str]]:
        """
        Return the foreign keys that name the database of their target, and
        their columns.
        """
        found = {}
        for key in self.keys.values():
            columns, _, target = key.partition(" REFERENCES ")
            if _kind(key) == "FOREIGN KEY" and re.match(rf"{_NAME}\.", target):
                name, *found_columns = _names(columns)
                found[name] = found_columns
        return found

    def checks(self) -> dict[str, str]:
        """Return the CHECK constraints by their names."""
        return {name: key for name, key in self.keys.items() if _kind(key) == "CHECK"}

    def alter(self, clauses: str) -> TableDefinition:
        """
        Return the definition after ALTER TABLE with these clauses.

        Raises ValueError for a clause that no rebuild is made for.
        """
        columns, keys = dict(self.columns), dict(self.keys)
        options: dict[str, int] = {}
        for clause in _split(clauses):
            if match := re.fullmatch(
                rf"(?:MODIFY|ADD COLUMN) ({_NAME} .+)", clause, re.DOTALL
            ):
                columns[_names(clause)[0]] = match[1]
            elif re.fullmatch(rf"DROP COLUMN {_NAME}", clause):
                (name,) = _names(clause)
                del columns[name]
                keys = self._without(keys, name)
            elif clause == "DROP PRIMARY KEY":
                del keys[""]
            elif match := re.fullmatch(
                rf"ADD (?:CONSTRAINT {_NAME} )?(PRIMARY KEY \(.+)", clause
            ):
                keys[""] = match[2]
            elif match := re.fullmatch(_OPTION, clause):
                options[match[1]] = int(match[2])
            else:
                raise ValueError(f"No table is rebuilt for {clause}")
        if gone := self._lost_source(columns):
            raise ValueError(f"A generated column uses {gone}.")
        return replace(
            self,
            columns=columns,
            keys=keys,
            options=_with(self.options, columns, options),
        )

    def _lost_source(self, columns: dict[str, str]) -> str | None:
        """Return a column that is not among `columns`, but used by one of them."""
        return next(
            (
                name
                for name in self.columns.keys() - columns.keys()
                for column in columns.values()
                if quote(name) in column.partition(" GENERATED ALWAYS AS ")[2]
            ),
            None,
        )

    def has(self, clauses: str) -> bool:
        """Return whether ALTER TABLE with these clauses has been done before."""
        for clause in _split(clauses):
            name = (_names(clause) or [""])[0]
            if clause.startswith("ADD COLUMN "):
                done = name in self.columns
            elif clause.startswith("DROP COLUMN "):
                done = name not in self.columns
            elif clause == "DROP PRIMARY KEY":
                done = "" not in self.keys
            elif " PRIMARY KEY (" in clause:
                done = _names(self.keys.get("", "")) == _names(clause)[1:]
            else:
                done = False
            if not done:
                return False
        return True

    def clauses_from(self, other: TableDefinition) -> Iterator[str]:
        """Yield clauses of ALTER TABLE, one by one, that `other` becomes this by."""
        added = {n: k for n, k in other.keys.items() if self.keys.get(n) != k}
        # Of an index that a foreign key may need until another is back.
        last = {
            name
            for name, key in added.items()
            if _kind(key) == "INDEX"
            and name not in self.keys
            and self.columns.keys() >= set(_names(key)[1:])
        }
        for kind in ("FOREIGN KEY", "CHECK", "INDEX"):
            for name, key in added.items():
                if name and name not in last and _kind(key) == kind:
                    yield f"DROP {kind} {quote(_names(key)[0])}"
        found = dict(other.columns)
        gone = [name for name in self.columns if name not in found]
        new = [name for name in found if name not in self.columns]
        if len(gone) == len(new) == 1:
            yield f"RENAME COLUMN {quote(*new)} TO {quote(*gone)}"
            column = found.pop(*new)
            found[gone[0]] = column.replace(quote(*new), quote(*gone), 1)
            new = []
        for name in new:
            yield f"DROP COLUMN {quote(name)}"
        for name, column in self.columns.items():
            if found.get(name, column) != column:
                yield f"MODIFY {column}"
        removed = {n: k for n, k in self.keys.items() if other.keys.get(n) != k}
        for kind in ("INDEX", "CHECK", "FOREIGN KEY"):
            for key in removed.values():
                if not key.startswith("PRIMARY KEY") and _kind(key) == kind:
                    yield f"ADD {_written(key)}"
        for name in filter(None, last):
            yield f"DROP INDEX {quote(name)}"

    @staticmethod
    def _without(keys: dict[str, str], column: str) -> dict[str, str]:
        # As MySQL does: a key loses the column, and goes with its last one.
        left = {}
        for name, key in keys.items():
            match = re.fullmatch(rf"(.*?\()({_NAME}(?:,{_NAME})*)(\).*)", key)
            if match and column in (parts := _names(match[2])):
                parts.remove(column)
                if not parts:
                    continue
                key = match[1] + ",".join(map(quote, parts)) + match[5]
            left[name] = key
        return left


# Options of a table that ALTER TABLE does not change, or not always; 0 stands
# for the server's default.
_OPTION = r"(AUTO_ID_CACHE|PRE_SPLIT_REGIONS|SHARD_ROW_ID_BITS) = (\d+)"


def _with(options: str, columns: dict[str, str], changes: dict[str, int]) -> str:
    """Return `options` of a table with changes, and as fits its columns."""
    names = list(changes)
    definitions = " ".join(columns.values())
    # Where the ids go on, if there is no column any more that counts on.
    if " AUTO_RANDOM(" not in definitions:
        names.append("AUTO_RANDOM_BASE")
    if " AUTO_INCREMENT" not in definitions:
        names.append("AUTO_INCREMENT")
    for name in names:
        options = re.sub(rf" (?:/\*T!\[\w+\] {name}=\d+ \*/|{name}=\d+)", "", options)
    head, line, partitions = options.partition("\nPARTITION BY")
    for name, value in changes.items():
        if value:
            head += f" {name}={value}"
    return head + line + partitions


# What Django names a foreign key, and so its index: a table, a column, a hash, and
# what it refers to.
_FOREIGN_KEY_NAME = re.compile(r"_[0-9a-f]{8}_fk_")


def _kind(key: str) -> str:
    match = re.match(rf"CONSTRAINT {_NAME} (FOREIGN KEY|CHECK) \(", key)
    return match[2] if match else "INDEX"


def _written(key: str) -> str:
    """Return a key as it is written: SHOW adds brackets to that of a CHECK."""
    return re.sub(
        rf"^(CONSTRAINT {_NAME} CHECK )\(\((.*)\)\)", r"\1(\3)", key, flags=re.DOTALL
    )


def definition_from(connection: Any, sql: str) -> TableDefinition:
    """
    Return the definition that `sql`, SHOW CREATE TABLE's answer, has.

    Raises NotSupportedError if the server's answer is not unambiguous.
    """
    version = connection.tidb_version
    if "\\" in sql and KNOWN_ISSUES["show-create-backslash"].affects(version):
        raise NotSupportedError(
            f"TiDB {version} does not tell backslashes in defaults and comments from "
            "escaped characters, so a table with such a text cannot be made anew or "
            f"altered in several statements: {sql}"
        )
    return TableDefinition.parse(sql)


def read_definition(connection: Any, table: str) -> TableDefinition:
    """
    Return the definition of a table of the current database.

    Raises NotSupportedError if the server's answer is not unambiguous.
    """
    with connection.cursor() as cursor:
        # In small letters, for whoever looks for CREATE TABLE among the queries.
        cursor.execute(f"show create table {quote(table)}")
        sql = cursor.fetchone()[1]
        definition = definition_from(connection, sql)
        if " REFERENCES " not in sql:
            return definition
        cursor.execute("SELECT DATABASE()")
        (database,) = cursor.fetchone()
    return definition.within(database)


def _aside(table: str) -> tuple[str, str]:
    """Return the names that the new and the old table have meanwhile."""
    return (
        truncate_name(f"{table}__rebuild_new", 64),
        truncate_name(f"{table}__rebuild_old", 64),
    )


_CONSTRAINT = "__rebuild"


def _interim(name: str) -> str:
    """Return the name that a constraint has meanwhile."""
    return truncate_name(f"{name}{_CONSTRAINT}", 64)


class _Tables:
    """The statements of a rebuild, for one schema editor."""

    def __init__(self, editor: Any, table: str) -> None:
        self.editor = editor
        self.connection = editor.connection
        self.table = table
        self.new, self.old = _aside(table)

    def run(self, sql: str) -> None:
        self.editor.execute(sql, None)

    def fetch(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())

    def existing(self) -> set[str]:
        """Return which of the three tables exist."""
        names = (self.table, self.new, self.old)
        found = self.connection.introspection.existing(names)
        return {name for name in names if name.lower() in found}

    def definition(self, table: str) -> TableDefinition:
        return read_definition(self.connection, table)

    def referring(self, target: str) -> list[str]:
        """Return the tables that have a foreign key to `target`."""
        return [
            name
            for (name,) in self.fetch(
                "SELECT DISTINCT table_name FROM information_schema.key_column_usage "
                "WHERE table_schema = DATABASE() AND "
                "referenced_table_schema = DATABASE() AND "
                "LOWER(referenced_table_name) = LOWER(%s)",
                [target],
            )
        ]

    def rename(self, table: str, to: str) -> None:
        self.run(f"RENAME TABLE {quote(table)} TO {quote(to)}")

    def drop(self, table: str) -> None:
        self.run(f"DROP TABLE {quote(table)}")

    # -- Foreign keys: one with an interim name stands in for each while it is
    # -- dropped and made again, so that no row goes unchecked.

    def point_at_new(self) -> None:
        for child in self.referring(self.old):
            if child == self.old:
                continue
            keys = self.definition(child).foreign_keys(self.old)
            for name, key in keys.items():
                interim = key.replace(
                    f"CONSTRAINT {quote(name)}", f"CONSTRAINT {quote(_interim(name))}"
                ).replace(
                    f" REFERENCES {quote(self.old)} ",
                    f" REFERENCES {quote(self.new)} ",
                )
                self.run(f"ALTER TABLE {quote(child)} ADD {interim}")
                self.run(f"ALTER TABLE {quote(child)} DROP FOREIGN KEY {quote(name)}")

    def settle(self, target: str, to: str) -> None:
        """Give interim foreign keys to `target` their names, pointing `to`."""
        for child in self.referring(target):
            if child == self.old:
                continue
            definition = self.definition(child)
            for interim, key in definition.foreign_keys(target).items():
                name = interim.removesuffix(_CONSTRAINT)
                if name == interim:
                    continue
                if f"FOREIGN KEY {name}" not in definition.keys:
                    final = key.replace(quote(interim), quote(name)).replace(
                        f" REFERENCES {quote(target)} ", f" REFERENCES {quote(to)} "
                    )
                    # The rows have been checked already.
                    with self.connection.session_variables(foreign_key_checks=0):
                        self.run(f"ALTER TABLE {quote(child)} ADD {final}")
                self.run(
                    f"ALTER TABLE {quote(child)} DROP FOREIGN KEY {quote(interim)}"
                )

    # -- CHECK constraints: their names are unique in a database.

    def settle_checks(self) -> None:
        olds = self.definition(self.old).checks()
        news = self.definition(self.table).checks()
        for interim, key in news.items():
            name = interim.removesuffix(_CONSTRAINT)
            if name == interim:
                continue
            if name in olds:
                self.run(f"ALTER TABLE {quote(self.old)} DROP CHECK {quote(name)}")
            if name not in news:
                final = _written(key).replace(quote(interim), quote(name), 1)
                self.run(f"ALTER TABLE {quote(self.table)} ADD {final}")
            self.run(f"ALTER TABLE {quote(self.table)} DROP CHECK {quote(interim)}")

    # -- The way back, and the way to the end

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


def interrupted(editor: Any, table: str) -> bool:
    """Return whether :func:`recover` has something to do for `table`."""
    return _Tables(editor, table).existing() != {table}


def recover(editor: Any, table: str) -> bool:
    """
    Clean up after a rebuild of `table` that was interrupted, by a lost
    connection or a killed process: go back if the new table had not yet taken
    the place of the old one, else finish. Return whether it was finished.
    """
    tables = _Tables(editor, table)
    existing = tables.existing()
    if existing >= {table, tables.old}:
        tables.finish()
        return True
    if existing & {tables.new, tables.old}:
        tables.go_back()
    return False


def rebuild(editor: Any, table: str, clauses: str, reason: str) -> None:
    """
    Do what ALTER TABLE with these clauses is refused, for this `reason`.

    Raises ``NotSupportedError`` if the table has rows and OPTIONS do not allow
    its rebuild, and if its rows changed meanwhile: nothing has happened then.
    """
    tables = _Tables(editor, table)
    old = tables.definition(table)
    new = old.alter(clauses)
    about = f"TiDB refuses ALTER TABLE {quote(table)} {clauses}: {reason.rstrip('.')}."
    if tables.fetch(f"SELECT 1 FROM {quote(table)} LIMIT 1") and not _allowed(
        editor.connection, table
    ):
        alias = editor.connection.alias
        raise NotSupportedError(
            f"{about} The table has to be rebuilt, and it has rows. Stop what writes "
            f"to it, make a backup, add {table!r} to "
            f"DATABASES[{alias!r}]['OPTIONS']['rebuild_tables'] and run this again."
        )
    with contextlib.ExitStack() as stack:
        for plugin in get_plugins():
            stack.enter_context(plugin.rebuilding(editor, table))
        # A plugin may have altered the table.
        old = tables.definition(table)
        new = old.alter(clauses)
        stack.enter_context(copying(editor.connection))
        try:
            _create(tables, old, new)
            copied = _copy(tables, old, new)
            tables.rename(table, tables.old)
            if (
                copied != _checksum(tables, tables.old, old)
                or copied[0]
                != (tables.fetch(f"SELECT COUNT(*) FROM {quote(tables.new)}")[0][0])
            ):
                raise NotSupportedError(
                    f"{about} The table was to be rebuilt, but its rows changed while "
                    "they were copied. Stop what writes to it and run this again."
                )
            tables.point_at_new()
            tables.rename(tables.new, table)
        except BaseException:
            # What goes wrong here as well would only hide the cause; recover()
            # is for that.
            with contextlib.suppress(DatabaseError):
                tables.go_back()
            raise
        tables.finish()


def _allowed(connection: Any, table: str) -> bool:
    allowed = connection.tidb_options.get("rebuild_tables", False)
    return allowed is True or (bool(allowed) and table in allowed)


@contextlib.contextmanager
def copying(connection: Any) -> Iterator[None]:
    """Let a connection copy rows as they are, for the length of a block."""
    modes = connection.tidb_variables["sql_mode"].split(",")
    with connection.session_variables(
        # The copy may refer to rows that are still to come.
        foreign_key_checks=0,
        # Keys are copied as they are, 0 too.
        sql_mode=",".join(filter(None, {*modes, "NO_AUTO_VALUE_ON_ZERO"})),
        allow_auto_random_explicit_insert=1,
        # Both statements of a batch read the same snapshot.
        tidb_txn_mode="optimistic",
    ):
        yield


def _create(tables: _Tables, old: TableDefinition, new: TableDefinition) -> None:
    checks = new.checks()
    interim = {
        name: key.replace(quote(name), quote(_interim(name)), 1)
        for name, key in checks.items()
    }
    planned = replace(new, keys={**new.keys, **interim})
    tables.run(planned.sql(tables.new))
    # What does not change has to be read as it was written.
    created = tables.definition(tables.new)
    for name, column in old.columns.items():
        if new.columns.get(name) == column != created.columns[name]:
            raise NotSupportedError(
                f"The table {tables.table!r} cannot be rebuilt: its column {column} "
                f"would become {created.columns[name]}."
            )
    for (replicas,) in tables.fetch(
        "SELECT replica_count FROM information_schema.tiflash_replica "
        "WHERE table_schema = DATABASE() AND LOWER(table_name) = LOWER(%s)",
        [tables.table],
    ):
        tables.run(f"ALTER TABLE {quote(tables.new)} SET TIFLASH REPLICA {replicas:d}")


def _checksum(
    tables: _Tables,
    table: str,
    definition: TableDefinition,
    where: str = "",
    params: Iterable[Any] = (),
) -> tuple[int, int]:
    """Return the number of rows and what tells their contents apart."""
    columns = sorted(definition.stored_columns())
    key = definition.clustered_key or ["_tidb_rowid"]
    texts = ", ".join(
        f"IFNULL(HEX(CAST({name} AS BINARY)), '-')"
        for name in map(quote, dict.fromkeys((*key, *columns)))
    )
    ((count, digest),) = tables.fetch(
        "SELECT COUNT(*), BIT_XOR(CAST(CONV(LEFT(MD5("
        f"CONCAT_WS(',', {texts})), 16), 16, 10) AS UNSIGNED)) "
        f"FROM {quote(table)}{where}",
        list(params) or None,
    )
    return int(count), int(digest or 0)


def _copy(
    tables: _Tables, old: TableDefinition, new: TableDefinition
) -> tuple[int, int]:
    """Copy all rows, and return the checksum of what has been copied."""
    table = quote(tables.table)
    columns = ", ".join(map(quote, sorted(old.stored_columns() & new.stored_columns())))
    count = digest = 0
    key = old.clustered_key or ["_tidb_rowid"]
    for where, params in batches(tables.fetch, table, key):
        with transaction.atomic(tables.connection.alias):
            rows, part = _checksum(tables, tables.table, old, where, params)
            if rows and columns:
                with tables.connection.cursor() as cursor:
                    cursor.execute(
                        f"INSERT INTO {quote(tables.new)} ({columns}) "
                        f"SELECT {columns} FROM {table}{where}",
                        params or None,
                    )
        count, digest = count + rows, digest ^ part
    return count, digest


def batches(
    fetch: Callable[[str, Any], Sequence[Any]], table: str, key: Iterable[str]
) -> Iterator[tuple[str, list[Any]]]:
    """
    Yield conditions, with their parameters, that each hold for some of the rows
    of a table, whose name is quoted; `key` names the columns that tell its rows
    apart, and `fetch` returns the rows that a statement finds.
    """
    key = list(map(quote, key))
    names, values = ", ".join(key), ", ".join(["%s"] * len(key))
    after = ""
    last: list[Any] = []
    while True:
        found = fetch(
            f"SELECT {names} FROM {table}{after} ORDER BY {names} "
            f"LIMIT 1 OFFSET {BATCH - 1}",
            last or None,
        )
        if not found:
            yield after, last
            return
        upper = list(found[0])
        sign = " AND" if after else " WHERE"
        yield f"{after}{sign} ({names}) <= ({values})", [*last, *upper]
        after, last = f" WHERE ({names}) > ({values})", upper
