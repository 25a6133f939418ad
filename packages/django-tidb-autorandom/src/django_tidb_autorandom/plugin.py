"""What this distribution adds to the backend; see django_tidb.plugins."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from django_tidb.plugins import Plugin

from .options import OPTION_NAMES, primary_key, table_options

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Field, Model


#: information_schema's words for the shard bits and the range of a table.
SHARDING = re.compile(r"PK_AUTO_RANDOM_BITS=(\d+)(?:, RANGE BITS=(\d+))?")


def field_type(
    column: Any, connection: BaseDatabaseWrapper
) -> tuple[str, dict[str, Any]] | None:
    """
    Recognise an AUTO_RANDOM column: the first of its table's primary key.

    TiDB 7.5 does not tell of one in a composite key; 8.5 does.
    """
    sharding = SHARDING.match(column.row_id_sharding)
    if not sharding or column.primary_key != 1:
        return None
    arguments = {"shard_bits": int(sharding[1])}
    if sharding[2]:
        arguments["range"] = int(sharding[2])
    return "django_tidb_autorandom.BigAutoRandomField", arguments


def write(query: Any, connection: BaseDatabaseWrapper) -> None:
    from .explicit import check_write

    check_write(query, connection)


def loading(connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
    from .explicit import loading

    return loading(connection)


def alter_field(
    schema_editor: Any, model: type[Model], old_field: Field, new_field: Field
) -> bool:
    from .conversion import alter_field

    return alter_field(schema_editor, model, old_field, new_field)


def report(connection: BaseDatabaseWrapper) -> dict[str, list[dict[str, Any]]]:
    from .capacity import report

    return report(connection)


plugin = Plugin(
    name="autorandom",
    api_version=1,
    meta_options=OPTION_NAMES,
    table_options=table_options,
    primary_key=primary_key,
    field_type=field_type,
    alter_field=alter_field,
    write=write,
    loading=loading,
    report=report,
    options=("id_usage_threshold",),
    moved={
        "django_tidb.fields.BigAutoRandomField": (
            "django_tidb_autorandom.BigAutoRandomField"
        ),
    },
)
