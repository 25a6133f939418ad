"""
A table's definition, with types.

:meth:`TableDefinition.parse` is the only parser of the output of SHOW CREATE
TABLE; :func:`django_tidb.introspection.read_definition` reads the output from a
server. Changes of definitions are in :mod:`django_tidb.changes`. This module
uses no connection.

https://docs.pingcap.com/tidb/stable/sql-statement-show-create-table
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from .elements import Column, Key, KeyKind, Reference, all_same, same
from .names import TableName, quote
from .tokens import Reader

__all__ = [
    "Column",
    "Key",
    "KeyKind",
    "Reference",
    "TableDefinition",
    "TableName",
]

# An element of CREATE TABLE that begins with one of these words is not a column.
_KEY_WORDS = re.compile(
    r"(?i)(?:CONSTRAINT|PRIMARY|UNIQUE|FOREIGN|CHECK|(?:\w+\s+)?(?:KEY|INDEX))\b"
)

# Django's name of a foreign key consists of a table, a column, a hash and the
# referenced column. The index of the foreign key has the same name.
_FOREIGN_KEY_NAME = re.compile(r"_[0-9a-f]{8}_fk_")


@dataclass(frozen=True)
class TableDefinition:
    """The definition of a table, as CREATE TABLE has it."""

    name: TableName
    #: The columns in the order of the table.
    columns: tuple[Column, ...]
    #: The primary key, indexes, foreign keys and CHECK constraints in their order.
    keys: tuple[Key, ...]
    #: The SQL that follows the closing bracket.
    options: str
    #: The SQL before the name of the table.
    create: str = "CREATE TABLE"

    # -- SQL

    @classmethod
    def parse(cls, sql: str) -> TableDefinition:
        """
        Return the definition in `sql`, the output of SHOW CREATE TABLE.

        Raises ValueError if `sql` contains anything that the result could not
        represent.
        """
        try:
            definition = cls._read(sql)
            written = definition.sql()
            # Spaces and quotation marks are ignored, because they differ between
            # versions.
            if written != sql and _plain(written) != _plain(sql):
                raise ValueError(f"It would become {written}")
        except ValueError as error:
            raise ValueError(
                f"This table's definition cannot be read: {sql}"
            ) from error
        # The server adds brackets to the condition of a CHECK.
        return replace(
            definition,
            keys=tuple(
                replace(key, parts=tuple(map(_without_brackets, key.parts)))
                if key.kind is KeyKind.CHECK
                else key
                for key in definition.keys
            ),
        )

    @classmethod
    def parse_statement(cls, sql: str) -> TableDefinition:
        """
        Return the definition of the table that Django's CREATE TABLE statement creates.
        A key that is written with its column becomes a key of the table, and indexes
        get the names that the server would give them.

        Raises ValueError if the statement cannot be parsed.
        """
        written = cls._read(sql)
        definition = replace(written, columns=(), keys=())
        for column in written.columns:
            definition = definition.with_column(column)
        for key in written.keys:
            definition = definition.with_key(key)
        return definition

    @classmethod
    def _read(cls, sql: str) -> TableDefinition:
        reader = Reader(sql)
        reader.expect("CREATE")
        while not reader.take("TABLE"):
            reader.skip()
        reader.take("IF", "NOT", "EXISTS")
        create = sql[: reader.end]
        name = reader.table_name()
        columns, keys = [], []
        for part in reader.parts():
            if _KEY_WORDS.match(part):
                keys.append(Key.parse(part))
            else:
                columns.append(Column.parse(part))
        return cls(name, tuple(columns), tuple(keys), reader.rest(), create)

    def sql(self, table: TableName | str | None = None) -> str:
        """Return CREATE TABLE, for the table `table` if it is given."""
        if not isinstance(table, TableName):
            table = TableName(table) if table else self.name
        columns = [column.sql for column in self.columns]
        body = ",\n  ".join(columns + [key.sql for key in self.keys])
        return f"{self.create} {table.sql} (\n  {body}\n) {self.options}".rstrip()

    # -- Columns and keys

    def column(self, name: str) -> Column | None:
        """Return the column of this name, if there is one."""
        return next((c for c in self.columns if same(c.name, name)), None)

    def key(self, kind: KeyKind, name: str) -> Key | None:
        """
        Return the key of this kind and name, if there is one. The kinds INDEX and
        UNIQUE both find unique and other indexes.
        """
        for key in self.keys:
            if same(key.name, name) and (
                key.kind is kind or (key.kind.is_index and kind.is_index)
            ):
                return key
        return None

    @property
    def primary_key(self) -> Key | None:
        """The primary key, if there is one."""
        return self.key(KeyKind.PRIMARY, "")

    @property
    def clustered_key(self) -> tuple[str, ...]:
        """The columns of the primary key, if the rows are stored by it."""
        key = self.primary_key
        return key.columns if key and key.clustered else ()

    def stored_columns(self) -> set[str]:
        """Return the names of the columns that are not generated from others."""
        return {column.name for column in self.columns if not column.is_generated}

    def implicit_indexes(self, column: str) -> tuple[Key, ...]:
        """
        Return the indexes that the server has created for foreign keys of this
        column. Each has the name of a foreign key, or the name that the foreign
        key had before a rename.
        """
        foreign_keys = [
            key
            for key in self.keys
            if key.kind is KeyKind.FOREIGN_KEY and all_same(key.columns, (column,))
        ]
        return tuple(
            key
            for key in self.keys
            if any(key == Key(KeyKind.INDEX, key.name, f.parts) for f in foreign_keys)
            and (
                any(same(key.name, f.name) for f in foreign_keys)
                or _FOREIGN_KEY_NAME.search(key.name)
            )
        )

    def has_index(self, column: str, besides: Iterable[Key]) -> bool:
        """
        Return whether an index other than those in `besides` begins with the
        whole column.
        """
        return any(
            key.parts[0] == quote(column)
            and key.kind not in (KeyKind.FOREIGN_KEY, KeyKind.CHECK)
            and key not in besides
            for key in self.keys
        )

    @property
    def checks(self) -> tuple[Key, ...]:
        """The CHECK constraints."""
        return tuple(key for key in self.keys if key.kind is KeyKind.CHECK)

    def foreign_keys(self, target: TableName) -> tuple[Key, ...]:
        """Return the foreign keys to the table `target`."""
        return tuple(
            key
            for key in self.keys
            if key.refers_to and key.refers_to.table.is_same(target)
        )

    def with_column(self, column: Column) -> TableDefinition:
        """
        Return the definition with a column. It replaces the column of the same
        name, or is appended. Keys in its definition become keys of the table.
        """
        column, keys = column.split()
        columns = [column if same(c.name, column.name) else c for c in self.columns]
        if column not in columns:
            columns.append(column)
        definition = self.with_columns(columns)
        for key in keys:
            definition = definition.with_key(key)
        return definition

    def with_columns(self, columns: Iterable[Column]) -> TableDefinition:
        """Return the definition with other columns, in this order."""
        definition = replace(self, columns=tuple(columns))
        # The next value of a counter has no effect without a column that uses it.
        if not any(column.is_auto_increment for column in definition.columns):
            definition = definition.with_option("AUTO_INCREMENT", None)
        if not any(column.is_auto_random for column in definition.columns):
            definition = definition.with_option("AUTO_RANDOM_BASE", None)
        return definition

    def with_key(self, key: Key) -> TableDefinition:
        """
        Return the definition with one more key.

        Raises ValueError if a key of the same kind and name exists.
        """
        if key.kind.is_index and not key.name:
            key = key.renamed(self._index_name(key))
        if key.kind is KeyKind.CHECK and not key.name:
            key = key.renamed(self._check_name())
        if (key.name or key.kind is KeyKind.PRIMARY) and self.key(key.kind, key.name):
            raise ValueError(f"The table {self.name.name!r} has a key like {key.sql}")
        columns = self.columns
        if key.kind is KeyKind.PRIMARY:
            columns = tuple(
                c.not_null() if any(same(c.name, n) for n in key.columns) else c
                for c in columns
            )
        return replace(self, columns=columns, keys=(*self.keys, key))

    def _check_name(self) -> str:
        # The server derives the name from the name of the table and a number.
        number = 1
        while self.key(KeyKind.CHECK, f"{self.name.name}_chk_{number}"):
            number += 1
        return f"{self.name.name}_chk_{number}"

    def _index_name(self, key: Key) -> str:
        # The server derives the name from the name of the first column and a number.
        if not key.columns:
            raise ValueError(f"An index of an expression needs a name: {key.sql}")
        name = first = key.columns[0]
        number = 1
        while self.key(key.kind, name) or same(name, "primary"):
            number += 1
            name = f"{first}_{number}"
        return name

    def foreign_keys_to_index(self) -> tuple[Key, ...]:
        """Return the foreign keys without an index that begins with their columns."""
        return tuple(
            key
            for key in self.keys
            if key.kind is KeyKind.FOREIGN_KEY
            and not any(_begins(index, key.columns) for index in self.keys)
        )

    def with_foreign_key_indexes(self) -> TableDefinition:
        """
        Return the definition with the indexes that TiDB versions with foreign
        keys create for foreign keys without an index.
        """
        definition = self
        while found := definition.foreign_keys_to_index():
            index = Key(KeyKind.INDEX, found[0].name, found[0].parts)
            definition = definition.with_key(index)
        return definition

    def without_key(self, key: Key) -> TableDefinition:
        """Return the definition without a key."""
        return replace(self, keys=tuple(k for k in self.keys if k != key))

    # -- Options

    def option(self, name: str) -> str | None:
        """
        Return the value of a table option as SQL, or None if the option is missing.
        """
        return next((value for _, _, value in _find_option(self.options, name)), None)

    def with_option(self, name: str, value: int | str | None) -> TableDefinition:
        """
        Return the definition with another value of a table option: a number or
        SQL. With None the option is left out.
        """
        return replace(self, options=_with_option(self.options, name, value))

    def without_counters(self) -> TableDefinition:
        """Return the definition without the next values of its id counters."""
        return self.with_option("AUTO_INCREMENT", None).with_option(
            "AUTO_RANDOM_BASE", None
        )

    # -- Databases

    def within(self, database: str) -> TableDefinition:
        """
        Return the definition without the name of `database`, so that it can be
        used in another database. TiDB writes the name before sequences, and
        TiDB 7.5 also before the tables that foreign keys refer to.
        """
        return replace(
            self,
            columns=tuple(_without_database(c, database) for c in self.columns),
            keys=tuple(
                key.pointed_at(TableName(key.refers_to.table.name))
                if key.refers_to and same(key.refers_to.table.database, database)
                else key
                for key in self.keys
            ),
        )


def _plain(sql: str) -> list[str]:
    return [token.name or token.text for token in Reader(sql)]


def _find_option(options: str, name: str) -> Iterator[tuple[int, int, str]]:
    """Yield the start, end and value of each occurrence of a table option."""
    if name not in options.upper():
        return
    reader = Reader(options)
    while not (reader.ended or reader.sees("PARTITION", "BY")):
        start = reader.next.start
        if reader.take(name):
            reader.take("=")
            value = reader.value()
            yield start, reader.end, value
        else:
            reader.skip()


def _with_option(options: str, name: str, value: int | str | None) -> str:
    for start, end, _ in reversed(list(_find_option(options, name))):
        options = Reader(options).without(start, end)
    if value is None:
        return options
    reader = Reader(options)
    while not (reader.ended or reader.sees("PARTITION", "BY")):
        reader.skip()
    # Partitions come last, on a line of their own.
    end = reader.next.start
    head, partitions = options[:end].rstrip(), options[end:]
    head = f"{head} {name}={value}".lstrip()
    return "\n".join(filter(None, (head, partitions)))


def _begins(index: Key, columns: Sequence[str]) -> bool:
    """Return whether an index begins with these columns."""
    first = index.columns[: len(columns)]
    return index.refers_to is None and all_same(first, columns)


def _without_brackets(sql: str) -> str:
    """
    Remove the outer pair of brackets, if it encloses the whole expression: TiDB adds
    these to the conditions of CHECK constraints.
    """
    reader = Reader(sql)
    is_bracket = reader.skip().text == "("
    return sql[1:-1] if is_bracket and reader.ended else sql


def _without_database(column: Column, database: str) -> Column:
    if "NEXTVAL" not in column.definition.upper() or column.default is None:
        return column
    sequence = rf"(?i)^(\(?nextval\(){re.escape(quote(database))}\."
    return column.with_default(re.sub(sequence, r"\1", column.default))
