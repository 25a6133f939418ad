"""
Statements that change one table's definition, such as ALTER TABLE.

:meth:`Alteration.parse` parses the SQL that Django's schema editor sends, because
Django has no other representation of these changes. This module uses neither a
connection nor a schema editor.

https://docs.pingcap.com/tidb/stable/sql-statement-alter-table
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .changes import (
    AddColumn,
    AddKey,
    AddPrimaryKey,
    Change,
    ChangeColumn,
    DropColumn,
    DropDefault,
    DropKey,
    DropPrimaryKey,
    ModifyColumn,
    RenameColumn,
    RenameIndex,
    SetDefault,
    SetTableOption,
)
from .definition import TableDefinition
from .elements import Column, Key, KeyKind, same
from .names import TableName, quote
from .tokens import Reader

__all__ = ["Alteration", "changes_to"]


@dataclass(frozen=True)
class Alteration:
    """The changes that one statement makes to one table."""

    table: TableName
    changes: tuple[Change, ...]

    @classmethod
    def parse(cls, sql: str) -> Alteration:
        """
        Return the changes in an ALTER TABLE, CREATE INDEX or DROP INDEX statement of
        Django's schema editor.

        Raises ValueError for all other statements and clauses. RENAME TABLE is such a
        statement, because it changes more than the definition of one table.
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
    def sql(self) -> str:
        """The ALTER TABLE statement with all changes."""
        clauses = ", ".join(change.clause for change in self.changes)
        return f"ALTER TABLE {self.table.sql} {clauses}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        """
        Return the definition after all changes.

        Raises ValueError as :meth:`Change.apply` does.
        """
        for change in self.changes:
            definition = change.apply(definition)
        return definition

    def is_done(self, definition: TableDefinition) -> bool:
        """Return whether the definition shows that all changes have been made."""
        # If the alteration drops a primary key and adds another, the table has a
        # primary key afterwards, although DropPrimaryKey has been done.
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
    if reader.take("COLUMN") or reader.next.kind == "name":
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
        return DropColumn(reader.name())
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
    Yield the changes that restore a `wanted` definition, which the table had
    before its `current` one. Each change needs a statement of its own. Dropped
    columns are not restored, and the primary key and the table options are not
    changed.
    """

    def missing_in(definition: TableDefinition, other: TableDefinition) -> list[Key]:
        return [
            key
            for key in definition.keys
            if key.kind is not KeyKind.PRIMARY and other.key(key.kind, key.name) != key
        ]

    surplus = missing_in(current, wanted)
    # A foreign key may need one of these indexes until another index is restored.
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
