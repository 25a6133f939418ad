"""https://docs.pingcap.com/tidb/stable/time-to-live"""

from __future__ import annotations

from django_tidb.plugins import API_VERSION, Plugin, register_meta_options


def table_options(model, connection):
    if ttl := getattr(model._meta, "tidb_ttl", None):
        name, days = ttl
        column = connection.ops.quote_name(model._meta.get_field(name).column)
        yield f"TTL = {column} + INTERVAL {days:d} DAY"


plugin = Plugin(
    name="ttl",
    api_version=API_VERSION,
    meta_options=("tidb_ttl",),
    table_options=table_options,
)

# This module is also what the project puts into INSTALLED_APPS.
register_meta_options(plugin.meta_options)
