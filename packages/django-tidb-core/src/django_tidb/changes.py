"""
Changes of a table's definition, each of which is one clause of ALTER TABLE.

A change writes its clause, applies itself to a definition, and tells whether a
definition shows that the change has been made. A
:class:`django_tidb.alteration.Alteration` is a statement with one or several changes.
This module uses neither a connection nor a schema editor.

https://docs.pingcap.com/tidb/stable/sql-statement-alter-table
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from .definition import TableDefinition
from .elements import Column, Key, KeyKind, all_same, same
from .names import TableName, quote

__all__ = [
    "ROW_ID_OPTIONS",
    "AddColumn",
    "AddKey",
    "AddPrimaryKey",
    "Change",
    "ChangeColumn",
    "DropColumn",
    "DropDefault",
    "DropKey",
    "DropPrimaryKey",
    "DuplicateColumnError",
    "ModifyColumn",
    "RenameColumn",
    "RenameIndex",
    "SetDefault",
    "SetTableOption",
]


class DuplicateColumnError(ValueError):
    """A change would add a column that the table already has."""


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

        Raises ValueError if the server refuses the change, for example because a key
        needs the column, or if CREATE TABLE cannot express the result.
        """

    @abstractmethod
    def is_done(self, definition: TableDefinition) -> bool:
        """
        Return whether a table with this definition no longer needs the change.
        The result is False if the definition does not show it; the change can
        then be made again without harm.
        """


def _refusal(definition: TableDefinition, problem: str) -> ValueError:
    columns = ", ".join(column.name for column in definition.columns)
    return ValueError(
        f"The table {definition.name.name!r} {problem}. Its columns are {columns}."
    )


def _existing(definition: TableDefinition, name: str) -> Column:
    if (column := definition.column(name)) is None:
        raise _refusal(definition, f"has no column {name!r}")
    return column


# -- Columns


@dataclass(frozen=True)
class AddColumn(Change):
    """Add a column, with the keys that its definition contains."""

    column: Column

    @property
    def clause(self) -> str:
        return f"ADD COLUMN {self.column.sql}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        if definition.column(self.column.name):
            problem = f"has a column {self.column.name!r} already"
            raise DuplicateColumnError(str(_refusal(definition, problem)))
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
        # The server writes most definitions in another form than the statement, so the
        # definitions may differ although the change has been made.
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
        renamed = _with_renamed_column(definition, self.name, self.column.name)
        return renamed.with_column(self.column)

    def is_done(self, definition: TableDefinition) -> bool:
        return definition.column(self.column.name) == self.column


def _with_renamed_column(
    definition: TableDefinition, old: str, new: str
) -> TableDefinition:
    column, taken = _existing(definition, old), definition.column(new)
    if taken not in (None, column):
        raise _refusal(definition, f"has a column {new!r} already")
    for other in definition.columns:
        if other.is_generated_from(old) and not same(old, new):
            raise _refusal(definition, f"needs {old!r} for {other.sql}")
    keys = [key.with_renamed_column(old, new) for key in definition.keys]
    for place, key in enumerate(keys):
        # The foreign key refers to the same table.
        target = key.refers_to
        if target and target.table.is_same(TableName(definition.name.name)):
            columns = [new if same(name, old) else name for name in target.columns]
            keys[place] = key.pointed_at(target.table, columns)
    return replace(definition, keys=tuple(keys)).with_columns(
        other.renamed(new) if other is column else other for other in definition.columns
    )


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
            # RENAME COLUMN does not change the case of a name in TiDB; CHANGE does.
            _existing(definition, self.name)
            return definition
        return _with_renamed_column(definition, self.name, self.to)

    def is_done(self, definition: TableDefinition) -> bool:
        return not definition.column(self.name) and bool(definition.column(self.to))


@dataclass(frozen=True)
class DropColumn(Change):
    """
    Drop a column. Indexes lose the column. An index without further columns and
    a CHECK constraint on this column alone are dropped too.
    """

    name: str

    @property
    def clause(self) -> str:
        return f"DROP COLUMN {quote(self.name)}"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        column = _existing(definition, self.name)
        left = [other for other in definition.columns if other is not column]
        for other in left:
            if other.is_generated_from(self.name):
                raise _refusal(definition, f"needs {self.name!r} for {other.sql}")
        keys = []
        for key in definition.keys:
            others = any(key.mentions(other.name) for other in left)
            if key.kind is KeyKind.CHECK and key.mentions(self.name) and not others:
                continue
            if kept := key.without_column(self.name):
                keys.append(kept)
        return replace(definition, keys=tuple(keys)).with_columns(left)

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
    """Remove the default of a column."""

    name: str

    @property
    def clause(self) -> str:
        return f"ALTER COLUMN {quote(self.name)} DROP DEFAULT"

    def apply(self, definition: TableDefinition) -> TableDefinition:
        column = _existing(definition, self.name)
        if not column.is_not_null:
            # A column that can be NULL always gets the default NULL in CREATE TABLE.
            raise _refusal(definition, f"would have the default NULL for {column.sql}")
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
            raise _refusal(definition, "has no primary key")
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
            raise _refusal(definition, f"has no {self.kind.value} {self.name!r}")
        left = definition.without_key(key)
        if len(left.foreign_keys_to_index()) > len(definition.foreign_keys_to_index()):
            raise _refusal(definition, f"needs {key.sql} for a foreign key")
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
        if key is None:
            raise _refusal(definition, f"has no index {self.name!r}")
        if taken not in (None, key):
            raise _refusal(definition, f"has an index {self.to!r} already")
        keys = (key.renamed(self.to) if k is key else k for k in definition.keys)
        return replace(definition, keys=tuple(keys))

    def is_done(self, definition: TableDefinition) -> bool:
        return DropKey(KeyKind.INDEX, self.name).is_done(definition) and bool(
            definition.key(KeyKind.INDEX, self.to)
        )


# -- Options

#: Table options that control row ids. The value 0 restores the server's default.
ROW_ID_OPTIONS = ("AUTO_ID_CACHE", "PRE_SPLIT_REGIONS", "SHARD_ROW_ID_BITS")


@dataclass(frozen=True)
class SetTableOption(Change):
    """Set a table option to a number or to an SQL expression."""

    name: str
    value: int | str

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(
                f"{self.name!r} is no name of a table option, which is one word."
            )

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
