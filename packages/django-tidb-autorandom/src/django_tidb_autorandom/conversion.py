"""
Schema changes of AUTO_RANDOM keys (AlterField operations to, from or between
AUTO_RANDOM types) and of this plugin's options in ``class Meta``.

https://docs.pingcap.com/tidb/stable/auto-random#restrictions
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, NotSupportedError, models
from django.db.models import Field, Model

from django_tidb import is_tidb
from django_tidb.alteration import Alteration
from django_tidb.changes import (
    AddPrimaryKey,
    Change,
    DropPrimaryKey,
    ModifyColumn,
    SetTableOption,
)
from django_tidb.definition import Column, Key, TableDefinition
from django_tidb.names import TableName

from .fields import BigAutoRandomField
from .options import NUMBERS, OPTION_NAMES, has_auto_random, option_values

__all__ = ["alter_field", "alter_options", "warn_of_altered_cache"]

if TYPE_CHECKING:
    from django.db.migrations.state import ModelState

    from django_tidb.base import DatabaseWrapper
    from django_tidb.schema import DatabaseSchemaEditor

_VARIABLE = "SESSION.tidb_allow_remove_auto_inc"


def rebuild(
    schema_editor: DatabaseSchemaEditor,
    model: type[Model],
    changes: Sequence[Change] | None,
    reason: str,
) -> None:
    """
    Rebuild the table to apply `changes` that TiDB's ALTER TABLE does not support.
    `reason` explains the lack of support and begins the error messages. `changes` is
    None if a rebuild cannot make the change either.

    Raises ``NotSupportedError`` before any SQL has changed the table: if `changes` is
    None, or if the table has rows and OPTIONS["rebuild_tables"] does not allow a
    rebuild.
    """
    if changes is None:
        raise NotSupportedError(
            f"{reason} Its migration has to go by way of a BigAutoField or "
            "BigIntegerField with the same column name."
        )
    schema_editor.rebuild_table(model, changes, reason)


# -- Fields


def _is_auto_increment(field: Field | None) -> bool:
    return isinstance(field, models.AutoField) and not isinstance(
        field, BigAutoRandomField
    )


def alter_field(
    schema_editor: DatabaseSchemaEditor,
    model: type[Model],
    old_field: Field,
    new_field: Field,
) -> bool:
    """
    Alter a column whose type gains, loses or changes AUTO_RANDOM. Return
    whether this function has altered the column.

    A change from AUTO_INCREMENT to AUTO_RANDOM, and an increase of the shard
    bits, are made in place. For all other changes :func:`rebuild` is called
    before any SQL has changed the table.
    """
    connection = schema_editor.connection
    old = isinstance(old_field, BigAutoRandomField)
    new = isinstance(new_field, BigAutoRandomField)
    if not is_tidb(connection) or not (old or new):
        return False
    # For example, the types are equal if only the range differs and the server does not
    # support ranges.
    if old_field.db_type(connection) == new_field.db_type(connection):
        return False
    if reason := _cannot_alter(schema_editor, model, old_field, new_field):
        rebuild(
            schema_editor,
            model,
            _changes(schema_editor, old_field, new_field),
            f"The field {new_field.name!r} of {model._meta.label} cannot be changed "
            f"in the table {model._meta.db_table!r}: {reason}",
        )
        return True
    # An earlier run of this migration may have failed after the conversion.
    done = not old and _is_auto_random(connection, model._meta.db_table)
    if not done and _is_renamed(schema_editor, model, old_field, new_field):
        old_field = _step(old_field, new_field)
    if not done and (not old or old_field.column != new_field.column):
        # Django first makes the changes that do not concern AUTO_RANDOM: it alters the
        # column to BIGINT, alters the foreign keys to match, and renames the column.
        step = _step(old_field if old else models.BigAutoField(), new_field)
        schema_editor.alter_field(model, old_field, step)
        old_field = step
    try:
        if old:
            _modify(schema_editor, model, new_field)
        else:
            _convert(schema_editor, model, new_field)
    except DatabaseError as error:
        # The server answers with this text if existing ids are so large that they use
        # the bits that AUTO_RANDOM would draw at random.
        if "max allowed auto_random shard bits" not in str(error):
            raise
        rebuild(
            schema_editor,
            model,
            _changes(schema_editor, old_field, new_field),
            f"The field {new_field.name!r} of {model._meta.label} cannot be changed "
            f"in the table {model._meta.db_table!r}, which has large ids: "
            f"{error.args[1]}.",
        )
    return True


def _cannot_alter(
    schema_editor: DatabaseSchemaEditor,
    model: type[Model],
    old_field: Field,
    new_field: Field,
) -> str | None:
    """Return the reason why ALTER TABLE cannot make the change, or None if it can."""
    connection = schema_editor.connection
    if not isinstance(new_field, BigAutoRandomField):
        return "TiDB cannot take AUTO_RANDOM from a column."
    bits, range_bits = new_field.bits(connection)
    if isinstance(old_field, BigAutoRandomField):
        old_bits, old_range = old_field.bits(connection)
        if range_bits != old_range:
            return (
                f"TiDB cannot change the range of AUTO_RANDOM from {old_range} to "
                f"{range_bits}."
            )
        if bits < old_bits:
            return (
                f"TiDB cannot lower the shard bits of AUTO_RANDOM from {old_bits} to "
                f"{bits}."
            )
        return None
    if not _is_auto_increment(old_field) or not old_field.primary_key:
        return (
            "TiDB makes AUTO_RANDOM of an AUTO_INCREMENT primary key only, not of a "
            f"{type(old_field).__name__}."
        )
    if not new_field.primary_key:
        return "TiDB cannot change a primary key to one of several columns."
    if range_bits != 64:
        return (
            "TiDB can give AUTO_RANDOM to a column of an existing table with a range "
            f"of 64 only, not {range_bits}."
        )
    definition = _definition(connection, model._meta.db_table)
    if definition and definition.primary_key and not definition.clustered_key:
        return "Its primary key is NONCLUSTERED."
    return None


def _changes(
    schema_editor: DatabaseSchemaEditor, old_field: Field, new_field: Field
) -> list[Change] | None:
    """Return the changes that a rebuild applies, or None if it cannot make them."""
    # A rebuild copies columns by name and leaves other tables alone, so neither the
    # column's name nor the type of the foreign keys that refer to it may change.
    if (
        not (old_field.primary_key and new_field.primary_key)
        or old_field.column != new_field.column
        or old_field.rel_db_type(schema_editor.connection) != "bigint"
        or new_field.rel_db_type(schema_editor.connection) != "bigint"
    ):
        return None
    modify = _modification(schema_editor, new_field)
    if not isinstance(new_field, BigAutoRandomField):
        return [modify]
    key = _primary_key(schema_editor, [new_field.column], clustered=True)
    return [DropPrimaryKey(), AddPrimaryKey(key), modify]


def _primary_key(
    schema_editor: DatabaseSchemaEditor, columns: Iterable[str], clustered: bool | None
) -> Key:
    name_of = schema_editor.connection.introspection.identifier_converter
    return Key.primary(map(name_of, columns), clustered)


def _definition(connection: DatabaseWrapper, table: str) -> TableDefinition | None:
    """Return the definition of a table, or None if the table does not exist."""
    # django_tidb.introspection imports the driver, which makemigrations in a project
    # without TiDB does not need.
    from django_tidb.introspection import read_definition

    # The table may not exist yet when sqlmigrate runs.
    if not connection.introspection.existing([table]):
        return None
    return read_definition(connection, table, exact=False)


def _is_auto_random(connection: DatabaseWrapper, table: str) -> bool:
    definition = _definition(connection, table)
    return definition is not None and has_auto_random(definition)


def _is_renamed(
    schema_editor: DatabaseSchemaEditor,
    model: type[Model],
    old_field: Field,
    new_field: Field,
) -> bool:
    """Return whether an earlier run of the migration has renamed the column."""
    if schema_editor.collect_sql or old_field.column == new_field.column:
        return False
    connection = schema_editor.connection
    definition = _definition(connection, model._meta.db_table)
    name_of = connection.introspection.identifier_converter
    return (
        definition is not None
        and definition.column(name_of(old_field.column)) is None
        and definition.column(name_of(new_field.column)) is not None
    )


def _step(field: Field, new_field: Field) -> Field:
    """Return a copy of `field` with the name, column and model of `new_field`."""
    step: Field = field.clone()
    step.primary_key = new_field.primary_key
    step.db_column = new_field.db_column
    step.set_attributes_from_name(new_field.name)
    step.model = new_field.model
    return step


def _modification(schema_editor: DatabaseSchemaEditor, field: Field) -> Change:
    connection = schema_editor.connection
    name = connection.introspection.identifier_converter(field.column)
    return ModifyColumn(Column(name, f"{field.db_type(connection)} NOT NULL"))


def _modify(
    schema_editor: DatabaseSchemaEditor, model: type[Model], field: Field
) -> None:
    _alter(schema_editor, model, _modification(schema_editor, field))


def _alter(
    schema_editor: DatabaseSchemaEditor, model: type[Model], change: Change
) -> None:
    alteration = Alteration(TableName.of(model._meta.db_table), (change,))
    schema_editor.execute(alteration.sql, None)


def _convert(
    schema_editor: DatabaseSchemaEditor, model: type[Model], field: Field
) -> None:
    connection = schema_editor.connection
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT @@{_VARIABLE}")
        (before,) = cursor.fetchone()
    # The variable allows every column to lose AUTO_INCREMENT, so it is set only for the
    # conversion of this column.
    schema_editor.execute(f"SET @@{_VARIABLE} = 1")
    try:
        _modify(schema_editor, model, field)
    finally:
        schema_editor.execute(f"SET @@{_VARIABLE} = {before:d}")
    if not _has_central_ids(connection, table):
        return
    # From TiDB 6.4, a table with AUTO_ID_CACHE 1 gets its AUTO_INCREMENT ids from a
    # separate service. The counter of AUTO_RANDOM does not know these ids and would
    # start from 1.
    quote = schema_editor.quote_name
    bits, range_bits = field.bits(connection)
    counter = 2 ** (range_bits - 1 - bits) - 1
    column = quote(field.column)
    with connection.cursor() as cursor:
        # Since the conversion, other sessions may have inserted rows whose ids have
        # random bits, so these bits are masked out.
        cursor.execute(
            f"SELECT MAX({column} & {counter:d}) FROM {quote(table)} "  # noqa: S608
            f"WHERE {column} > 0"
        )
        (largest,) = cursor.fetchone()
    _alter(schema_editor, model, SetTableOption("AUTO_RANDOM_BASE", (largest or 0) + 1))


def _has_central_ids(connection: DatabaseWrapper, table: str) -> bool:
    definition = _definition(connection, table)
    return definition is not None and definition.option("AUTO_ID_CACHE") == "1"


# -- Options


def cannot_alter_cache(old: int | None, new: int | None) -> bool:
    """
    Return whether TiDB 6.4 and later refuse to alter AUTO_ID_CACHE from `old`
    to `new`. They do if one of the two is 1, because a separate service
    allocates the ids of a table with AUTO_ID_CACHE 1.
    """
    return old != new and 1 in (old, new)


def warn_of_altered_cache(old_state: ModelState, new_state: ModelState) -> None:
    """
    Warn if ``tidb_auto_id_cache`` changes in a way that needs a rebuild of the
    table.
    """
    old, new = (
        state.options.get("tidb_auto_id_cache") for state in (old_state, new_state)
    )
    if cannot_alter_cache(old, new) and not any(
        isinstance(field, BigAutoRandomField) for field in new_state.fields.values()
    ):
        warnings.warn(
            f"{new_state.app_label}.{new_state.name_lower}: TiDB cannot alter "
            "AUTO_ID_CACHE between 1 and another value (tidb_auto_id_cache from "
            f"{old} to {new}) from 6.4 on. The migration rebuilds the table: with "
            "rows, only if OPTIONS['rebuild_tables'] of the database allows it.",
            RuntimeWarning,
            stacklevel=2,
        )


def alter_options(
    schema_editor: DatabaseSchemaEditor, old_model: type[Model], new_model: type[Model]
) -> None:
    """
    Alter the table of `new_model` from the options of `old_model` to those of
    `new_model`. For options that TiDB cannot alter, :func:`rebuild` is called
    before any SQL has changed the table.
    """
    old, new = option_values(old_model), option_values(new_model)
    changed = [name for name in OPTION_NAMES if old.get(name) != new.get(name)]
    if not _is_auto_increment(new_model._meta.auto_field) and cannot_alter_cache(
        old.get("tidb_auto_id_cache"), new.get("tidb_auto_id_cache")
    ):
        # The key has lost AUTO_INCREMENT, so its AUTO_ID_CACHE has no effect.
        changed.remove("tidb_auto_id_cache")
    refused = {
        name: reason
        for name in changed
        if (reason := _cannot_alter_option(schema_editor, name, old, new))
    }
    if refused:
        rebuild(
            schema_editor,
            new_model,
            # The rebuild also applies the changes that ALTER TABLE could make.
            [
                change
                for name in changed
                for change in _option_changes(schema_editor, new_model, name)
            ],
            " ".join(
                f"Meta.{name} of {new_model._meta.label} cannot be changed in the "
                f"table {new_model._meta.db_table!r}: {reason}"
                for name, reason in refused.items()
            ),
        )
        return
    for name in changed:
        for change in _option_changes(schema_editor, new_model, name):
            _alter(schema_editor, new_model, change)


def _option_changes(
    schema_editor: DatabaseSchemaEditor, model: type[Model], name: str
) -> list[Change]:
    value = option_values(model).get(name)
    if name != "tidb_clustered":
        # 0 restores the server's default.
        return [SetTableOption(NUMBERS[name][0], value or 0)]
    columns = getattr(model._meta.pk, "columns", (model._meta.pk.column,))
    key = _primary_key(schema_editor, columns, clustered=value)
    return [DropPrimaryKey(), AddPrimaryKey(key)]


def _cannot_alter_option(
    schema_editor: DatabaseSchemaEditor,
    name: str,
    old: dict[str, Any],
    new: dict[str, Any],
) -> str | None:
    if name == "tidb_clustered":
        return "TiDB cannot change whether a primary key is clustered."
    if name == "tidb_pre_split_regions":
        return "TiDB splits a table into regions when it creates it."
    if (
        name == "tidb_auto_id_cache"
        and cannot_alter_cache(old.get(name), new.get(name))
        and schema_editor.connection.tidb_version >= (6, 4)
    ):
        return (
            "TiDB cannot alter AUTO_ID_CACHE between 1 and another value "
            f"({old.get(name, 'the default')} to {new.get(name, 'the default')})."
        )
    return None
