"""What this distribution adds to the backend; see django_tidb.plugins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from django_tidb.plugins import Plugin

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model


def table_options(model: type[Model], connection: BaseDatabaseWrapper) -> Iterable[str]:
    """
    Yield AUTO_ID_CACHE for a model with ``Meta.tidb_auto_id_cache``, which is
    the number of ids that each TiDB server takes at a time.

    Raises ValueError if it is not an integer of 1 or more.
    https://docs.pingcap.com/tidb/stable/auto-increment#cache-size-control
    """
    size = getattr(model._meta, "tidb_auto_id_cache", None)
    if size is None:
        return
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ValueError(
            f"{model._meta.label}.Meta.tidb_auto_id_cache is {size!r}; it must be "
            "an integer of 1 or more."
        )
    yield f"AUTO_ID_CACHE {size}"


def primary_key(model: type[Model], connection: BaseDatabaseWrapper) -> str:
    """
    Return CLUSTERED for a model with an AUTO_RANDOM key, which has to be,
    whatever the server's ``tidb_enable_clustered_index``.
    """
    from .fields import BigAutoRandomField

    if any(isinstance(f, BigAutoRandomField) for f in model._meta.local_fields):
        return "CLUSTERED"
    return ""


_SHARDING = re.compile(r"PK_AUTO_RANDOM_BITS=(\d+)(?:, RANGE BITS=(\d+))?")


def field_type(
    column: Any, connection: BaseDatabaseWrapper
) -> tuple[str, dict[str, Any]] | None:
    """Recognise an AUTO_RANDOM column: the first of its table's primary key."""
    sharding = _SHARDING.match(column.row_id_sharding)
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


plugin = Plugin(
    name="autorandom",
    api_version=1,
    meta_options=("tidb_auto_id_cache",),
    table_options=table_options,
    primary_key=primary_key,
    field_type=field_type,
    write=write,
    loading=loading,
    moved={
        "django_tidb.fields.BigAutoRandomField": (
            "django_tidb_autorandom.BigAutoRandomField"
        ),
    },
)
