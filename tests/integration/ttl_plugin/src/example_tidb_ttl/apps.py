from __future__ import annotations

from django.apps import AppConfig

from django_tidb.plugins import get_plugins
from django_tidb.table_options import extend_autodetectors

# Django imports this module before any model, and the models' class Meta may have the
# options of the plugin.
get_plugins()


class TTLConfig(AppConfig):
    name = "example_tidb_ttl"

    def ready(self):
        extend_autodetectors()
