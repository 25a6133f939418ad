from __future__ import annotations

from django.apps import AppConfig

from django_tidb.plugins import register_meta_options

from .plugin import plugin

# Django imports this module before the first model of any app.
register_meta_options(plugin.meta_options)


class TiDBAutoRandomConfig(AppConfig):
    name = "django_tidb_autorandom"
    verbose_name = "TiDB AUTO_RANDOM"
