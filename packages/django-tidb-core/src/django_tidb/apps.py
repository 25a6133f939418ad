from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from .checks import check_driver, check_old_distribution


class TiDBConfig(AppConfig):
    name = "django_tidb"
    verbose_name = "TiDB"

    def ready(self) -> None:
        checks.register(check_old_distribution)
        checks.register(check_driver, checks.Tags.database)
