from __future__ import annotations

import django
from django.apps import AppConfig
from django.core import checks

from django_tidb.plugins import get_plugins
from django_tidb.table_options import extend_autodetectors

# Django imports this module before it imports any model, so the plugin's
# options of class Meta are registered in time.
get_plugins()


class TiDBAutoRandomConfig(AppConfig):
    name = "django_tidb_autorandom"
    verbose_name = "TiDB AUTO_RANDOM"

    def ready(self) -> None:
        from .checks import check_id_usage, check_options, check_table_options
        from .generic import check_generic_foreign_keys

        checks.register(check_options, checks.Tags.models)
        checks.register(check_generic_foreign_keys, checks.Tags.models)
        checks.register(check_id_usage, checks.Tags.database)
        if django.VERSION < (5, 2):
            checks.register(check_table_options, checks.Tags.database)
        extend_autodetectors()
