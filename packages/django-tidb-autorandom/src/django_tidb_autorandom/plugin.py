"""What this distribution adds to the backend; see django_tidb.plugins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

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


plugin = Plugin(
    name="autorandom",
    api_version=1,
    meta_options=("tidb_auto_id_cache",),
    table_options=table_options,
    moved={
        "django_tidb.fields.BigAutoRandomField": (
            "django_tidb_autorandom.BigAutoRandomField"
        ),
    },
)
