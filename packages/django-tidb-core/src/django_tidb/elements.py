"""
The columns and keys in the definition of a table.

This module parses them from the SQL of CREATE TABLE and ALTER TABLE, and writes
them as such SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from .names import TableName, quote
from .tokens import Reader

__all__ = ["Column", "Key", "KeyKind", "Reference", "all_same", "same"]


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
    #: The SQL that follows the name: type, NOT NULL, DEFAULT and so on.
    definition: str

    @classmethod
    def parse(cls, sql: str) -> Column:
        """
        Return the column that `sql` defines, such as "`id` bigint NOT NULL".

        Raises ValueError if `sql` defines no column.
        """
        reader = Reader(sql)
        name = reader.name()
        definition = sql[reader.end :].strip()
        if not definition:
            raise ValueError(f"The column {name!r} has no type in {sql}")
        return cls(name, definition)

    @property
    def sql(self) -> str:
        """The definition of the column, as in CREATE TABLE and after ADD COLUMN."""
        return f"{quote(self.name)} {self.definition}"

    def _attributes(self) -> Iterator[tuple[str, int, int]]:
        """Yield the attributes after the type, each with its start and end."""
        reader = Reader(self.definition)
        while not reader.ended:
            start = reader.next.start
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
        # Parsing is slow, and most columns have few attributes.
        if attribute.split()[0] not in self.definition.upper():
            return False
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
        """
        Whether the definition contains NOT NULL. The column of a primary key is
        NOT NULL without it.
        """
        return self._has("NOT NULL")

    @property
    def has_position(self) -> bool:
        """Whether the definition has a position for ADD COLUMN, FIRST or AFTER."""
        return self._has("FIRST") or self._has("AFTER")

    @property
    def default(self) -> str | None:
        """The default as SQL, or None if the definition has no DEFAULT."""
        for name, start, end in self._attributes():
            if name == "DEFAULT":
                return self.definition[start + len(name) : end].strip()
        return None

    def is_generated_from(self, name: str) -> bool:
        """Return whether the column is computed from the column `name`."""
        return self.is_generated and Reader(self.definition).mentions(name)

    def renamed(self, name: str) -> Column:
        """Return the column with another name."""
        return replace(self, name=name)

    def with_default(self, default: str | None) -> Column:
        """
        Return the column with another default, which is SQL, or None for no default.
        """
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
        """Return the column without the keys in its definition, and these keys."""
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
        """Whether this kind is an index with a name, which the primary key is not."""
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
# One of these words follows CONSTRAINT if the constraint has no name.
_CONSTRAINTS = ("PRIMARY", "UNIQUE", "FOREIGN", "CHECK")


@dataclass(frozen=True)
class Key:
    """A primary key, an index, a foreign key or a CHECK constraint."""

    kind: KeyKind
    #: Empty for a primary key, and for a key whose name the server chooses.
    name: str
    #: The parts of the key in SQL: columns, which may have a length, and expressions
    #: in brackets. The only part of a CHECK constraint is its condition.
    parts: tuple[str, ...]
    #: The columns that a foreign key refers to.
    refers_to: Reference | None = None
    #: The SQL after the parts, such as "COMMENT '…'" or "ON DELETE CASCADE".
    options: str = ""
    #: The words that begin an index of another type, such as "FULLTEXT INDEX".
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

        Raises ValueError if `sql` defines no key.
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
        """
        The definition of the key, as in CREATE TABLE and after ADD in ALTER TABLE.
        """
        words = [self.index_type or self.kind.value]
        if self.name:
            if self.kind in (KeyKind.FOREIGN_KEY, KeyKind.CHECK):
                words.insert(0, f"CONSTRAINT {quote(self.name)}")
            else:
                words.append(quote(self.name))
        parts = f"({','.join(self.parts)})"
        if self.index_type:
            # SHOW CREATE TABLE writes no space here.
            words[-1] += parts
        else:
            words.append(parts)
        if self.refers_to:
            words.append(f"REFERENCES {self.refers_to.sql}")
        return " ".join(filter(None, [*words, self.options]))

    def _column(self, part: str) -> str | None:
        """
        Return the name of the column in a part of the key, or None if the part is an
        expression.
        """
        reader = Reader(part)
        is_expression = self.kind is KeyKind.CHECK or reader.sees("(")
        return None if is_expression else reader.name()

    @property
    def columns(self) -> tuple[str, ...]:
        """
        The names of the key's columns; columns inside of expressions are left out.
        """
        return tuple(name for part in self.parts if (name := self._column(part)))

    @property
    def clustered(self) -> bool | None:
        """
        Whether a primary key is clustered, or None if the server decides. The
        output of SHOW CREATE TABLE always contains the decision.
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
        Return the foreign key with a reference to another table. The referenced columns
        keep their names unless `columns` are given.

        Raises ValueError if the key is no foreign key.
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
        Return the key without a column, or None if the key has no other column.

        Raises ValueError if the column is in an expression or a foreign key.
        """
        if not self.mentions(name):
            return self
        if self.kind is KeyKind.FOREIGN_KEY or self.has_expression_of(name):
            raise ValueError(f"The column {name!r} is needed by {self.sql}")
        parts = tuple(p for p in self.parts if not same(self._column(p) or "", name))
        return replace(self, parts=parts) if parts else None


def _quoted_part(part: str) -> str:
    """Return a part of a key with the name of its column in backticks."""
    if part.startswith(("(", "`")):
        return part
    reader = Reader(part)
    return quote(reader.name()) + part[reader.end :]
