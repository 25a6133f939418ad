from __future__ import annotations

from django.apps import AppConfig, apps
from django.core import checks


class TiDBVectorConfig(AppConfig):
    name = "django_tidb_vector"
    verbose_name = "TiDB vector search"

    def ready(self) -> None:
        from . import compat
        from .indexes import check_indexes

        checks.register(check_indexes, checks.Tags.models)
        compat.validate_constraints()
        if apps.is_installed("django.contrib.admin"):
            compat.display_in_admin()
        if apps.is_installed("rest_framework"):
            from . import rest

            rest.register()
