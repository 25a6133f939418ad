"""
A table's definition: its columns, keys and options, with their types.

:meth:`TableDefinition.parse` reads what SHOW CREATE TABLE answers, and is the
only place that does; :func:`django_tidb.introspection.read_definition` asks a
server. What changes a definition is in :mod:`django_tidb.changes`. Nothing here
knows a connection, so plugins can use it for tables of whatever database.

https://docs.pingcap.com/tidb/stable/sql-statement-show-create-table
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from .tokens import Reader, TableName, quote

__all__ = [
    "Column",
    "Key",
    "KeyKind",
    "Reference",
    "TableDefinition",
    "TableName",
    "quote",
]


def same(one: str, other: str) -> bool:
    """Return whether two names of columns or keys are the same for TiDB."""
    return one.lower() == other.lower()


def all_same(some: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether two lists of names are the same for TiDB."""
    return len(some) == len(others) and all(map(same, some, others))


# -- Columns


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    #: What follows the name: type, NOT NULL, DEFAULT …, in SQL.
    definition: str

    @classmethod
    def parse(cls, sql: str) -> Column:
        """
        Return the column that `sql` defines, such as "`id` bigint NOT NULL".

        Raises ValueError if that is no column.
        """
        reader = Reader(sql)
        name = reader.name()
        definition = reader.rest()
        if not definition:
            raise ValueError(f"The column {name!r} has no type in {sql}")
        return cls(name, definition)

    @property
    def sql(self) -> str:
        """The column as CREATE TABLE and ADD COLUMN have it."""
        return f"{quote(self.name)} {self.definition}"

    def _attributes(self) -> Iterator[tuple[str, int, int]]:
        """Yield the attributes that follow the type, and where they are."""
        reader = Reader(self.definition)
        while not reader.ended:
            start = reader.start
            if reader.take("PRIMARY", "KEY") or reader.take("KEY"):
                _ = reader.take("CLUSTERED") or reader.take("NONCLUSTERED")
                name = "PRIMARY KEY"
            elif reader.take("UNIQUE"):
                reader.take("KEY")
                name = "UNIQUE"
            elif reader.sees("CONSTRAINT") or reader.sees("CHECK"):
                if reader.take("CONSTRAINT") and not reader.sees("CHECK"):
                    reader.name()
                reader.expect("CHECK")
                reader.skip()
                _ = reader.take("NOT", "ENFORCED") or reader.take("ENFORCED")
                name = "CHECK"
            elif reader.take("DEFAULT"):
                reader.value()
                name = "DEFAULT"
            elif reader.take("NOT", "NULL"):
                name = "NOT NULL"
            else:
                name = reader.skip().word
            yield name, start, reader.end

    def _has(self, attribute: str) -> bool:
        return any(name == attribute for name, _, _ in self._attributes())

    def _without(self, attribute: str) -> Column:
        for name, start, end in self._attributes():
            if name == attribute:
                definition = Reader(self.definition).without(start, end)
                return replace(self, definition=definition)._without(attribute)
        return self

    @property
    def is_generated(self) -> bool:
        """Whether the column is computed from others."""
        return self._has("AS")

    @property
    def is_auto_increment(self) -> bool:
        """Whether the column is AUTO_INCREMENT."""
        return self._has("AUTO_INCREMENT")

    @property
    def is_auto_random(self) -> bool:
        """Whether the column is AUTO_RANDOM."""
        return self._has("AUTO_RANDOM")

    @property
    def is_not_null(self) -> bool:
        """Whether the column says that it is NOT NULL; a primary key need not."""
        return self._has("NOT NULL")

    @property
    def has_position(self) -> bool:
        """Whether FIRST or AFTER tells where ADD COLUMN is to put the column."""
        return self._has("FIRST") or self._has("AFTER")

    @property
    def default(self) -> str | None:
        """The default in SQL, or None if the column names none."""
        for name, start, end in self._attributes():
            if name == "DEFAULT":
                return self.definition[start:end].partition(" ")[2].strip()
        return None

    def is_generated_from(self, name: str) -> bool:
        """Return whether the column is computed from the column `name`."""
        return self.is_generated and Reader(self.definition).mentions(name)

    def renamed(self, name: str) -> Column:
        """Return the column with another name."""
        return replace(self, name=name)

    def with_default(self, default: str | None) -> Column:
        """Return the column with another default, in SQL; with None, without."""
        if default is None:
            return self._without("DEFAULT")
        definition = self.definition
        for name, start, end in self._attributes():
            if name == "DEFAULT":
                definition = f"{definition[:start]}DEFAULT {default}{definition[end:]}"
                return replace(self, definition=definition)
        return replace(self, definition=f"{definition} DEFAULT {default}")

    def not_null(self) -> Column:
        """Return the column as it is when a primary key makes it NOT NULL."""
        if self.is_not_null:
            return self
        column = self
        if (self.default or "").upper() == "NULL":
            column = column.with_default(None)
        column = column._without("NULL")
        return replace(column, definition=f"{column.definition} NOT NULL")

    def split(self) -> tuple[Column, tuple[Key, ...]]:
        """Return the column without the keys that it names itself, and those."""
        column, keys = self, []
        for name, start, end in self._attributes():
            sql = self.definition[start:end]
            if name == "PRIMARY KEY":
                word = sql.split()[-1].upper()
                clustered = {"CLUSTERED": True, "NONCLUSTERED": False}.get(word)
                keys.append(Key.primary([self.name], clustered))
            elif name == "UNIQUE":
                keys.append(Key(KeyKind.UNIQUE, "", (quote(self.name),)))
            elif name == "CHECK":
                keys.append(Key.parse(sql))
            else:
                continue
            column = column._without(name)
        return column, tuple(keys)


# -- Keys and constraints


class KeyKind(Enum):
    """The kinds of keys and constraints."""

    PRIMARY = "PRIMARY KEY"
    UNIQUE = "UNIQUE KEY"
    INDEX = "KEY"
    FOREIGN_KEY = "FOREIGN KEY"
    CHECK = "CHECK"

    @property
    def is_index(self) -> bool:
        """Whether it is an index that has a name; a primary key has none."""
        return self in (KeyKind.UNIQUE, KeyKind.INDEX)


@dataclass(frozen=True)
class Reference:
    """The columns of another table that a foreign key refers to."""

    table: TableName
    columns: tuple[str, ...]

    @property
    def sql(self) -> str:
        """The table and its columns, as they follow REFERENCES."""
        return f"{self.table.sql} ({','.join(map(quote, self.columns))})"


_CLUSTERING = {"CLUSTERED", "NONCLUSTERED"}


@dataclass(frozen=True)
class Key:
    """A primary key, an index, a foreign key or a CHECK constraint."""

    kind: KeyKind
    #: Empty for a primary key, and where the server is to choose a name.
    name: str
    #: Each in SQL: a column, perhaps with a length, or an expression in
    #: brackets. A CHECK has one, its condition.
    parts: tuple[str, ...]
    #: What a foreign key refers to.
    refers_to: Reference | None = None
    #: What follows in SQL, such as "COMMENT '…'" or "ON DELETE CASCADE".
    options: str = ""
    #: What an index of another type begins with, such as "FULLTEXT INDEX".
    index_type: str = ""

    @classmethod
    def primary(cls, columns: Iterable[str], clustered: bool | None = None) -> Key:
        """
        Return a primary key of these columns; if `clustered` is None, the
        server decides whether the rows are stored by it.
        """
        options = ""
        if clustered is not None:
            word = "CLUSTERED" if clustered else "NONCLUSTERED"
            options = f"/*T![clustered_index] {word} */"
        return cls(KeyKind.PRIMARY, "", tuple(map(quote, columns)), options=options)

    @classmethod
    def parse(cls, sql: str) -> Key:
        """
        Return the key that `sql` defines, as in CREATE TABLE or after ADD.

        Raises ValueError if that is no key.
        """
        reader = Reader(sql)
        name, index_type = "", ""
        if reader.take("CONSTRAINT") and not any(map(reader.sees, _CONSTRAINTS)):
            name = reader.name()
        if reader.take("PRIMARY", "KEY"):
            kind = KeyKind.PRIMARY
        elif reader.take("FOREIGN", "KEY"):
            kind = KeyKind.FOREIGN_KEY
        elif reader.take("CHECK"):
            kind = KeyKind.CHECK
        elif reader.take("UNIQUE"):
            kind = KeyKind.UNIQUE
            _ = reader.take("KEY") or reader.take("INDEX")
        else:
            kind = KeyKind.INDEX
            if not (reader.sees("KEY") or reader.sees("INDEX")):
                index_type = f"{reader.skip().word} INDEX"
            if not (reader.take("KEY") or reader.take("INDEX")):
                raise ValueError(f"This is not a key: {sql}")
        if kind.is_index and not reader.sees("("):
            name = reader.name()
        parts = reader.parts()
        if kind is not KeyKind.CHECK:
            parts = tuple(map(_quoted_part, parts))
        refers_to = None
        if kind is KeyKind.FOREIGN_KEY:
            reader.expect("REFERENCES")
            refers_to = Reference(reader.table_name(), reader.names())
        name = "" if kind is KeyKind.PRIMARY else name
        return cls(kind, name, parts, refers_to, reader.rest(), index_type)

    @property
    def sql(self) -> str:
        """The key as CREATE TABLE has it, and ALTER TABLE after ADD."""
        words = [self.index_type or self.kind.value]
        if self.name:
            if self.kind in (KeyKind.FOREIGN_KEY, KeyKind.CHECK):
                words.insert(0, f"CONSTRAINT {quote(self.name)}")
            else:
                words.append(quote(self.name))
        parts = f"({','.join(self.parts)})"
        if self.index_type:
            # As SHOW CREATE TABLE writes it, without a blank.
            words[-1] += parts
        else:
            words.append(parts)
        if self.refers_to:
            words.append(f"REFERENCES {self.refers_to.sql}")
        return " ".join(filter(None, [*words, self.options]))

    def _column(self, part: str) -> str | None:
        """Return the name of the column that a part is; None of an expression."""
        reader = Reader(part)
        is_expression = self.kind is KeyKind.CHECK or reader.sees("(")
        return None if is_expression else reader.name()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, without those inside of expressions."""
        return tuple(name for part in self.parts if (name := self._column(part)))

    @property
    def clustered(self) -> bool | None:
        """
        Whether a primary key is one that the rows are stored by; None if it
        leaves that to the server. SHOW CREATE TABLE always tells.
        """
        words = {token.word for token in Reader(self.options)}
        return "CLUSTERED" in words if words & _CLUSTERING else None

    def mentions(self, column: str) -> bool:
        """Return whether the column is in the key or in its expressions."""
        return any(Reader(part).mentions(column) for part in self.parts)

    def has_expression_of(self, column: str) -> bool:
        """Return whether the column is in an expression of the key."""
        return any(
            Reader(part).mentions(column)
            for part in self.parts
            if self._column(part) is None
        )

    def renamed(self, name: str) -> Key:
        """Return the key with another name."""
        return replace(self, name=name)

    def pointed_at(self, table: TableName, columns: Iterable[str] = ()) -> Key:
        """
        Return the foreign key so that it refers to another table, whose columns
        have the same names unless `columns` are given.

        Raises ValueError if it is no foreign key.
        """
        if self.refers_to is None:
            raise ValueError(f"This is not a foreign key: {self.sql}")
        target = Reference(table, tuple(columns) or self.refers_to.columns)
        return replace(self, refers_to=target)

    def with_renamed_column(self, old: str, new: str) -> Key:
        """
        Return the key with another name of a column.

        Raises ValueError if the column is in an expression.
        """
        if self.has_expression_of(old) and not same(old, new):
            raise ValueError(f"The column {old!r} is in an expression of {self.sql}")
        parts = (
            quote(new) + part[len(quote(name)) :]
            if (name := self._column(part)) and same(name, old)
            else part
            for part in self.parts
        )
        return replace(self, parts=tuple(parts))

    def without_column(self, name: str) -> Key | None:
        """
        Return the key without a column; None if it had no other.

        Raises ValueError if the column is in an expression or a foreign key.
        """
        if not self.mentions(name):
            return self
        if self.kind is KeyKind.FOREIGN_KEY or self.has_expression_of(name):
            raise ValueError(f"The column {name!r} is needed by {self.sql}")
        parts = tuple(p for p in self.parts if not same(self._column(p) or "", name))
        return replace(self, parts=parts) if parts else None


# Without a name of its own, one of these follows CONSTRAINT.
_CONSTRAINTS = ("PRIMARY", "UNIQUE", "FOREIGN", "CHECK")
# A definition that begins with one of these is not that of a column.
_KEYS = (*_CONSTRAINTS, "CONSTRAINT", "KEY", "INDEX", "FULLTEXT", "SPATIAL")


# -- Tables


@dataclass(frozen=True)
class TableDefinition:
    """The definition of a table, as CREATE TABLE has it."""

    name: TableName
    #: In their order.
    columns: tuple[Column, ...]
    #: In their order: the primary key, indexes, foreign keys and CHECKs.
    keys: tuple[Key, ...]
    #: What follows the closing bracket, in SQL.
    options: str
    #: What precedes the name.
    create: str = "CREATE TABLE"

    # -- SQL

    @classmethod
    def parse(cls, sql: str) -> TableDefinition:
        """
        Return the definition that `sql`, an answer of SHOW CREATE TABLE, has.

        Raises ValueError if there is anything in it that would get lost.
        """
        try:
            definition = cls._read(sql)
            read = [token.name or token.text for token in Reader(definition.sql())]
            if read != [token.name or token.text for token in Reader(sql)]:
                raise ValueError(f"It would become {definition.sql()}")
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
        Return the definition of the table that a CREATE TABLE statement of
        Django's creates: keys that are written with their columns are among the
        others, and indexes have the names that the server gives them.

        Raises ValueError if that cannot be told.
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
        create = sql[: reader.start].strip()
        name = reader.table_name()
        columns, keys = [], []
        for part in reader.parts():
            element = Reader(part)
            is_key = any(map(element.sees, _KEYS))
            if not is_key and element.skip().kind == "word":
                is_key = element.sees("INDEX") or element.sees("KEY")
            if is_key:
                keys.append(Key.parse(part))
            else:
                columns.append(Column.parse(part))
        return cls(name, tuple(columns), tuple(keys), reader.rest(), create)

    def sql(self, table: TableName | str | None = None) -> str:
        """Return CREATE TABLE, for a table of this name if one is given."""
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
        Return the key of this kind and name, if there is one; UNIQUE or not, an
        index is found as either kind.
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
        Return the definition with a column, in the place of the one that has
        its name, or last. A key that it names itself becomes one of the table.
        """
        column, keys = column.split()
        columns = [column if same(c.name, column.name) else c for c in self.columns]
        if column not in columns:
            columns.append(column)
        definition = self._with_columns(columns)
        for key in keys:
            definition = definition.with_key(key)
        return definition

    def _with_columns(self, columns: Sequence[Column]) -> TableDefinition:
        definition = replace(self, columns=tuple(columns))
        # Where the ids go on means nothing without such a column.
        if not any(column.is_auto_increment for column in columns):
            definition = definition.with_option("AUTO_INCREMENT", None)
        if not any(column.is_auto_random for column in columns):
            definition = definition.with_option("AUTO_RANDOM_BASE", None)
        return definition

    def without_column(self, name: str) -> TableDefinition:
        """
        Return the definition without a column: an index loses it, and goes
        with its last one, and so does a CHECK of this column alone.

        Raises ValueError if there is no such column, or something needs it.
        """
        left = tuple(c for c in self.columns if not same(c.name, name))
        if len(left) == len(self.columns):
            raise ValueError(f"The table {self.name.name!r} has no column {name!r}.")
        for column in left:
            if column.is_generated_from(name):
                raise ValueError(f"The column {name!r} is needed by {column.sql}")
        keys = []
        for key in self.keys:
            if (
                key.kind is KeyKind.CHECK
                and key.mentions(name)
                and not any(key.mentions(column.name) for column in left)
            ):
                continue
            if kept := key.without_column(name):
                keys.append(kept)
        return replace(self, keys=tuple(keys))._with_columns(left)

    def with_renamed_column(self, old: str, new: str) -> TableDefinition:
        """
        Return the definition with another name of a column.

        Raises ValueError if there is no such column, the name is taken, or the
        column is in an expression, whose text would change.
        """
        column, taken = self.column(old), self.column(new)
        if column is None or taken not in (None, column):
            raise ValueError(
                f"The table {self.name.name!r} cannot rename {old!r} to {new!r}: it "
                f"has the columns {', '.join(c.name for c in self.columns)}."
            )
        for other in self.columns:
            if other.is_generated_from(old) and not same(old, new):
                raise ValueError(f"The column {old!r} is needed by {other.sql}")
        keys = [key.with_renamed_column(old, new) for key in self.keys]
        for place, key in enumerate(keys):
            if key.refers_to and key.refers_to.table.is_same(
                # A target in the same database does not name it.
                TableName(self.name.name)
            ):
                names = [new if same(n, old) else n for n in key.refers_to.columns]
                keys[place] = key.pointed_at(key.refers_to.table, names)
        columns = tuple(c.renamed(new) if c is column else c for c in self.columns)
        return replace(self, columns=columns, keys=tuple(keys))

    def with_key(self, key: Key) -> TableDefinition:
        """
        Return the definition with one more key.

        Raises ValueError if there is one of its kind and name.
        """
        if key.kind.is_index and not key.name:
            key = key.renamed(self._index_name(key))
        if (key.name or key.kind is KeyKind.PRIMARY) and self.key(key.kind, key.name):
            raise ValueError(f"The table {self.name.name!r} has a key like {key.sql}")
        columns = self.columns
        if key.kind is KeyKind.PRIMARY:
            columns = tuple(
                c.not_null() if any(same(c.name, n) for n in key.columns) else c
                for c in columns
            )
        return replace(self, columns=columns, keys=(*self.keys, key))

    def _index_name(self, key: Key) -> str:
        # The server takes the name of the first column, and adds a number.
        if not key.columns:
            raise ValueError(f"An index of an expression needs a name: {key.sql}")
        name = first = key.columns[0]
        number = 1
        while self.key(key.kind, name) or same(name, "primary"):
            number += 1
            name = f"{first}_{number}"
        return name

    def with_foreign_key_indexes(self) -> TableDefinition:
        """
        Return the definition with the indexes that TiDB gives foreign keys that
        no other index or primary key begins with.
        """
        definition = self
        for key in self.keys:
            if key.kind is KeyKind.FOREIGN_KEY and not any(
                _begins(other, key.columns) for other in definition.keys
            ):
                index = Key(KeyKind.INDEX, key.name, key.parts)
                definition = definition.with_key(index)
        return definition

    def without_key(self, key: Key) -> TableDefinition:
        """Return the definition without a key."""
        return replace(self, keys=tuple(k for k in self.keys if k != key))

    # -- Options

    def option(self, name: str) -> str | None:
        """Return the value of a table option in SQL; None if it is not there."""
        return next((value for _, _, value in _find_option(self.options, name)), None)

    def with_option(self, name: str, value: int | str | None) -> TableDefinition:
        """
        Return the definition with another value of a table option: a number or
        SQL. With None the option is left out.
        """
        return replace(self, options=_with_option(self.options, name, value))

    def without_counters(self) -> TableDefinition:
        """Return the definition without where its ids go on."""
        return self.with_option("AUTO_INCREMENT", None).with_option(
            "AUTO_RANDOM_BASE", None
        )

    # -- Databases

    def within(self, database: str) -> TableDefinition:
        """
        Return the definition without the name of the `database` that its
        sequences are in, or, as TiDB 7.5 writes it, the targets of its foreign
        keys: it can be used in another one then.
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


def _quoted_part(part: str) -> str:
    """Return a part of a key with the name of its column in backticks."""
    reader = Reader(part)
    if reader.sees("("):
        return part
    return quote(reader.name()) + part[reader.end :]


def _find_option(options: str, name: str) -> Iterator[tuple[int, int, str]]:
    """Yield where a table option is among the `options`, and its value."""
    reader = Reader(options)
    while not (reader.ended or reader.sees("PARTITION", "BY")):
        start = reader.start
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
    head, partitions = options[: reader.start].rstrip(), options[reader.start :]
    head = f"{head} {name}={value}".lstrip()
    return "\n".join(filter(None, (head, partitions)))


def _begins(index: Key, columns: Sequence[str]) -> bool:
    """Return whether an index begins with these columns."""
    first = index.columns[: len(columns)]
    return index.refers_to is None and all_same(first, columns)


def _without_brackets(sql: str) -> str:
    """Return an expression without a pair of brackets around all of it."""
    reader = Reader(sql)
    is_bracket = reader.skip().text == "("
    return sql[1:-1] if is_bracket and reader.ended else sql


def _without_database(column: Column, database: str) -> Column:
    default = column.default
    if default is None or "nextval" not in default.lower():
        return column
    sequence = rf"(?i)^(\(?nextval\(){re.escape(quote(database))}\."
    return column.with_default(re.sub(sequence, r"\1", default))
