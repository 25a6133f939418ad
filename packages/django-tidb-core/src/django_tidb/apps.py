from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from .checks import check_driver, check_old_distribution, check_search_backends
from .plugins import get_plugins

# Django imports this module before it imports any model, so the plugins'
# options of class Meta are registered in time.
get_plugins()


class TiDBConfig(AppConfig):
    name = "django_tidb"
    verbose_name = "TiDB"

    def ready(self) -> None:
        from .table_options import extend_autodetectors

        extend_autodetectors()
        checks.register(check_old_distribution)
        checks.register(check_search_backends)
        checks.register(check_driver, checks.Tags.database)
