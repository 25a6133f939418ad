"""
Changes of a table's definition, each a clause of ALTER TABLE.

A change writes its clause, applies itself to a definition, and tells whether
that has been done. :meth:`Alteration.parse` reads the statements that Django's
schema editor sends; :func:`changes_to` finds what leads from one definition to
another. Nothing here knows a connection or a schema editor.

https://docs.pingcap.com/tidb/stable/sql-statement-alter-table
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .definition import (
    Column,
    Key,
    KeyKind,
    TableDefinition,
    TableName,
    all_same,
    quote,
    same,
)
from .tokens import Reader

__all__ = [
    "ROW_ID_OPTIONS",
    "AddColumn",
    "AddKey",
    "AddPrimaryKey",
    "Alteration",
    "Change",
    "ChangeColumn",
    "DropColumn",
    "DropDefault",
    "DropKey",
    "DropPrimaryKey",
    "ModifyColumn",
    "RenameColumn",
    "RenameIndex",
    "SetDefault",
    "SetTableOption",
    "changes_to",
]


class Change(ABC):
    """One change of a table's definition."""

    @property
    @abstractmethod
    def clause(self) -> str:
        """The clause of ALTER TABLE, in SQL that is sent without parameters."""

    @abstractmethod
    def apply(self, definition: TableDefinition) -> TableDefinition:
        """
        Return the definition that the table has after this change.

        Raises ValueError if the server would refuse the change, or if
        CREATE TABLE cannot express what comes of it.
        """

    @abstractmethod
    def is_done(self, definition: TableDefinition) -> bool:
        """
        Return whether a table with this definition needs the change no more.
        False if that cannot be told, and the change can be made twice.
        """


def _existing(definition: TableDefinition, name: str) -> Column:
    if (column := definition.column(name)) is None:
        raise ValueError(
            f"The table {definition.name.name!r} has no column {name!r}; it has "
            f"{', '.join(column.name for column in definition.columns)}."
        )
    return column


# -- Columns


@dataclass(frozen=True)
class AddColumn(Change):
    """Add a column, with the keys that it names itself."""

    column: Column

    @property
    def clause(self) -> str:
        return f"ADD COLUMN {self.column.sql}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        if definition.column(self.column.name):
            raise ValueError(
                f"The table {definition.name.name!r} has the column "
                f"{self.column.name!r} already."
            )
        return definition.with_column(self.column)

    def is_done(self, definition: TableDefinition) -> bool:
        return definition.column(self.column.name) is not None


@dataclass(frozen=True)
class ModifyColumn(Change):
    """Give a column another definition; its keys stay."""

    column: Column

    @property
    def clause(self) -> str:
        return f"MODIFY {self.column.sql}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        _existing(definition, self.column.name)
        return definition.with_column(self.column)

    def is_done(self, definition: TableDefinition) -> bool:
        # The server has words of its own for most definitions.
        return definition.column(self.column.name) == self.column


@dataclass(frozen=True)
class ChangeColumn(Change):
    """Give the column `name` the name and the definition of `column`."""

    name: str
    column: Column

    @property
    def clause(self) -> str:
        return f"CHANGE {quote(self.name)} {self.column.sql}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        return definition.with_renamed_column(self.name, self.column.name).with_column(
            self.column
        )

    def is_done(self, definition: TableDefinition) -> bool:
        return definition.column(self.column.name) == self.column


@dataclass(frozen=True)
class RenameColumn(Change):
    """Rename a column."""

    name: str
    to: str

    @property
    def clause(self) -> str:
        return f"RENAME COLUMN {quote(self.name)} TO {quote(self.to)}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        if same(self.name, self.to):
            # TiDB leaves upper and lower case as they are; CHANGE does not.
            _existing(definition, self.name)
            return definition
        return definition.with_renamed_column(self.name, self.to)

    def is_done(self, definition: TableDefinition) -> bool:
        return not definition.column(self.name) and bool(definition.column(self.to))


@dataclass(frozen=True)
class DropColumn(Change):
    """Drop a column."""

    name: str

    @property
    def clause(self) -> str:
        return f"DROP COLUMN {quote(self.name)}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        return definition.without_column(self.name)

    def is_done(self, definition: TableDefinition) -> bool:
        return definition.column(self.name) is None


@dataclass(frozen=True)
class SetDefault(Change):
    """Give a column another default, in SQL."""

    name: str
    default: str

    @property
    def clause(self) -> str:
        return f"ALTER COLUMN {quote(self.name)} SET DEFAULT {self.default}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        column = _existing(definition, self.name)
        return definition.with_column(column.with_default(self.default))

    def is_done(self, definition: TableDefinition) -> bool:
        column = definition.column(self.name)
        return column is not None and column.default == self.default


@dataclass(frozen=True)
class DropDefault(Change):
    """Take the default from a column."""

    name: str

    @property
    def clause(self) -> str:
        return f"ALTER COLUMN {quote(self.name)} DROP DEFAULT"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        column = _existing(definition, self.name)
        if not column.is_not_null:
            # In CREATE TABLE such a column has the default NULL.
            raise ValueError(f"The column {self.name!r} is not NOT NULL: {column.sql}")
        return definition.with_column(column.with_default(None))

    def is_done(self, definition: TableDefinition) -> bool:
        column = definition.column(self.name)
        return column is not None and column.default is None


# -- Keys


@dataclass(frozen=True)
class AddPrimaryKey(Change):
    """Add a primary key, whose columns become NOT NULL."""

    key: Key

    @property
    def clause(self) -> str:
        return f"ADD {self.key.sql}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        return definition.with_key(self.key)

    def is_done(self, definition: TableDefinition) -> bool:
        found = definition.primary_key
        return (
            found is not None
            and all_same(found.columns, self.key.columns)
            and self.key.clustered in (None, found.clustered)
        )


@dataclass(frozen=True)
class DropPrimaryKey(Change):
    """Drop the primary key."""

    @property
    def clause(self) -> str:
        return "DROP PRIMARY KEY"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        if (key := definition.primary_key) is None:
            raise ValueError(f"The table {definition.name.name!r} has no primary key.")
        return definition.without_key(key)

    def is_done(self, definition: TableDefinition) -> bool:
        return definition.primary_key is None


@dataclass(frozen=True)
class AddKey(Change):
    """Add an index, a foreign key or a CHECK."""

    key: Key

    @property
    def clause(self) -> str:
        return f"ADD {self.key.sql}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        changed = definition.with_key(self.key)
        if self.key.kind is KeyKind.FOREIGN_KEY:
            changed = changed.with_foreign_key_indexes()
        return changed

    def is_done(self, definition: TableDefinition) -> bool:
        return definition.key(self.key.kind, self.key.name) is not None


@dataclass(frozen=True)
class DropKey(Change):
    """Drop an index, a foreign key or a CHECK, by its kind and name."""

    kind: KeyKind
    name: str

    @property
    def clause(self) -> str:
        kind = "INDEX" if self.kind.is_index else self.kind.value
        return f"DROP {kind} {quote(self.name)}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        if (key := definition.key(self.kind, self.name)) is None:
            raise ValueError(
                f"The table {definition.name.name!r} has no {self.kind.value} "
                f"{self.name!r}."
            )
        left = definition.without_key(key)
        if left.with_foreign_key_indexes() != left:
            raise ValueError(f"A foreign key needs the index {key.sql}")
        return left

    def is_done(self, definition: TableDefinition) -> bool:
        return definition.key(self.kind, self.name) is None


@dataclass(frozen=True)
class RenameIndex(Change):
    """Rename an index."""

    name: str
    to: str

    @property
    def clause(self) -> str:
        return f"RENAME INDEX {quote(self.name)} TO {quote(self.to)}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        key = definition.key(KeyKind.INDEX, self.name)
        taken = definition.key(KeyKind.INDEX, self.to)
        if key is None or taken not in (None, key):
            raise ValueError(
                f"The table {definition.name.name!r} cannot rename the index "
                f"{self.name!r} to {self.to!r}."
            )
        keys = (key.renamed(self.to) if k is key else k for k in definition.keys)
        return replace(definition, keys=tuple(keys))

    def is_done(self, definition: TableDefinition) -> bool:
        return DropKey(KeyKind.INDEX, self.name).is_done(definition) and bool(
            definition.key(KeyKind.INDEX, self.to)
        )


# -- Options

#: Options about the ids of a table's rows, of which 0 is the server's default.
ROW_ID_OPTIONS = ("AUTO_ID_CACHE", "PRE_SPLIT_REGIONS", "SHARD_ROW_ID_BITS")


@dataclass(frozen=True)
class SetTableOption(Change):
    """Set a table option to a number, or to what `value` is in SQL."""

    name: str
    value: int | str

    @property
    def clause(self) -> str:
        return f"{self.name} = {self.value}"

    @property
    def _shown(self) -> str | None:
        if self.name.upper() in ROW_ID_OPTIONS and str(self.value) == "0":
            return None
        return str(self.value)

    def apply(self, definition: TableDefinition) -> TableDefinition:
        return definition.with_option(self.name, self._shown)

    def is_done(self, definition: TableDefinition) -> bool:
        return definition.option(self.name) == self._shown


# -- Statements


@dataclass(frozen=True)
class Alteration:
    """The changes that one statement makes to one table."""

    table: TableName
    changes: tuple[Change, ...]

    @classmethod
    def parse(cls, sql: str) -> Alteration:
        """
        Return what an ALTER TABLE, CREATE INDEX or DROP INDEX statement, as
        Django's schema editor writes it, changes.

        Raises ValueError for other statements and clauses: RENAME TABLE is not
        about the definition of one table alone.
        """
        reader = Reader(sql)
        if reader.take("ALTER", "TABLE"):
            table = reader.table_name()
            changes = tuple(map(_read_clause, reader.separated()))
        elif reader.take("CREATE"):
            table, change = _read_create_index(reader)
            changes = (change,)
        else:
            reader.expect("DROP", "INDEX")
            name = reader.name()
            reader.expect("ON")
            table = reader.table_name()
            changes = (_drop_index(name),)
        reader.expect_end()
        return cls(table, changes)

    @property
    def clauses(self) -> str:
        """The clauses of ALTER TABLE."""
        return ", ".join(change.clause for change in self.changes)

    @property
    def sql(self) -> str:
        """ALTER TABLE with all changes."""
        return f"ALTER TABLE {self.table.sql} {self.clauses}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        """
        Return the definition after all changes.

        Raises ValueError as :meth:`Change.apply` does.
        """
        for change in self.changes:
            definition = change.apply(definition)
        return definition

    def is_done(self, definition: TableDefinition) -> bool:
        """Return whether all changes have been made, as far as can be told."""
        # A primary key that is added after it has been dropped is there again.
        is_added = any(isinstance(change, AddPrimaryKey) for change in self.changes)
        return all(
            change.is_done(definition)
            or (is_added and isinstance(change, DropPrimaryKey))
            for change in self.changes
        )


def _read_clause(sql: str) -> Change:
    reader = Reader(sql)
    if read := _CLAUSES.get(reader.next.word):
        reader.skip()
        change = read(reader)
    else:
        change = _read_option(reader)
    reader.expect_end()
    return change


def _read_add(reader: Reader) -> Change:
    if reader.take("COLUMN"):
        return AddColumn(_read_column(reader))
    if reader.next.kind == "name":
        return AddColumn(_read_column(reader))
    key = Key.parse(reader.rest())
    return AddPrimaryKey(key) if key.kind is KeyKind.PRIMARY else AddKey(key)


def _read_column(reader: Reader) -> Column:
    column = Column.parse(reader.rest())
    if column.has_position:
        raise ValueError(f"The position of a column is not supported: {column.sql}")
    return column


def _read_alter(reader: Reader) -> Change:
    reader.take("COLUMN")
    name = reader.name()
    if reader.take("DROP", "DEFAULT"):
        return DropDefault(name)
    reader.expect("SET", "DEFAULT")
    return SetDefault(name, reader.value())


def _read_change(reader: Reader) -> Change:
    reader.take("COLUMN")
    return ChangeColumn(reader.name(), _read_column(reader))


def _read_drop(reader: Reader) -> Change:
    if reader.take("PRIMARY", "KEY"):
        return DropPrimaryKey()
    if reader.take("COLUMN"):
        column = reader.name()
        # Django 4.2 adds it, to no effect.
        reader.take("CASCADE")
        return DropColumn(column)
    if reader.take("INDEX") or reader.take("KEY"):
        return _drop_index(reader.name())
    if reader.take("FOREIGN", "KEY"):
        return DropKey(KeyKind.FOREIGN_KEY, reader.name())
    reader.expect("CHECK")
    return DropKey(KeyKind.CHECK, reader.name())


def _drop_index(name: str) -> Change:
    return DropPrimaryKey() if same(name, "PRIMARY") else DropKey(KeyKind.INDEX, name)


def _read_modify(reader: Reader) -> Change:
    reader.take("COLUMN")
    return ModifyColumn(_read_column(reader))


def _read_rename(reader: Reader) -> Change:
    kind: Callable[[str, str], Change] = RenameColumn
    if not reader.take("COLUMN"):
        if not reader.take("KEY"):
            reader.expect("INDEX")
        kind = RenameIndex
    name = reader.name()
    reader.expect("TO")
    return kind(name, reader.name())


def _read_option(reader: Reader) -> Change:
    if not (name := reader.skip().word):
        raise ValueError(f"This is not a clause of ALTER TABLE: {reader.sql}")
    if not reader.take("=") and reader.next.kind == "word":
        raise ValueError(f"This does not change a definition: {reader.sql}")
    value = reader.value()
    return SetTableOption(name, int(value) if value.isdecimal() else value)


def _read_create_index(reader: Reader) -> tuple[TableName, Change]:
    words = []
    while not reader.take("INDEX"):
        words.append(reader.skip().word)
    name = quote(reader.name())
    reader.expect("ON")
    table = reader.table_name()
    key = Key.parse(" ".join([*words, "INDEX", name, reader.rest()]))
    return table, AddKey(key)


_CLAUSES: dict[str, Callable[[Reader], Change]] = {
    "ADD": _read_add,
    "ALTER": _read_alter,
    "CHANGE": _read_change,
    "DROP": _read_drop,
    "MODIFY": _read_modify,
    "RENAME": _read_rename,
}


# -- From one definition to another


def changes_to(current: TableDefinition, wanted: TableDefinition) -> Iterator[Change]:
    """
    Yield the changes, one for one statement, that lead from the `current`
    definition of a table to a `wanted` one that it had before. A column that
    is gone does not come back; the primary key and table options stay.
    """

    def missing_in(definition: TableDefinition, other: TableDefinition) -> list[Key]:
        return [
            key
            for key in definition.keys
            if key.kind is not KeyKind.PRIMARY and other.key(key.kind, key.name) != key
        ]

    surplus = missing_in(current, wanted)
    # A foreign key may need one of these indexes until another is back.
    last = [
        key
        for key in surplus
        if key.kind.is_index
        and wanted.key(key.kind, key.name) is None
        and not any(
            key.mentions(column.name)
            for column in current.columns
            if wanted.column(column.name) is None
        )
    ]
    for kinds in _DROPPED_FIRST:
        for key in surplus:
            if key.kind in kinds and key not in last:
                yield DropKey(key.kind, key.name)
    yield from _column_changes(current, wanted)
    for kinds in reversed(_DROPPED_FIRST):
        for key in missing_in(wanted, current):
            if key.kind in kinds:
                yield AddKey(key)
    for key in last:
        yield DropKey(key.kind, key.name)


_DROPPED_FIRST = (
    (KeyKind.FOREIGN_KEY,),
    (KeyKind.CHECK,),
    (KeyKind.UNIQUE, KeyKind.INDEX),
)


def _column_changes(
    current: TableDefinition, wanted: TableDefinition
) -> Iterator[Change]:
    gone = [c for c in wanted.columns if current.column(c.name) is None]
    new = [c for c in current.columns if wanted.column(c.name) is None]
    renamed = {}
    if len(gone) == len(new) == 1:
        (before,), (now,) = gone, new
        yield RenameColumn(now.name, before.name)
        renamed[before.name] = now.renamed(before.name)
    else:
        for column in new:
            yield DropColumn(column.name)
    for column in wanted.columns:
        found = renamed.get(column.name) or current.column(column.name)
        if found not in (None, column):
            yield ModifyColumn(column)
