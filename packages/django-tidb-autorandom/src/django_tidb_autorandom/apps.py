from __future__ import annotations

import django
from django.apps import AppConfig
from django.core import checks

from django_tidb.plugins import register_meta_options

from .plugin import plugin

# Django imports this module before the first model of any app.
register_meta_options(plugin.meta_options)


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
        self._extend_autodetectors()

    def _extend_autodetectors(self) -> None:
        from django.core.management.commands import makemigrations, migrate

        from .operations import RowIdOptionsDetector

        # Django has them from 5.2 on, and wants the same one in both. Other apps
        # may have put theirs there.
        extended: dict[type, type] = {}
        for command in (makemigrations.Command, migrate.Command):
            base = getattr(command, "autodetector", None)
            if base is None or issubclass(base, RowIdOptionsDetector):
                continue
            if base not in extended:
                name = f"RowIdOptions{base.__name__}"
                extended[base] = type(name, (RowIdOptionsDetector, base), {})
            command.autodetector = extended[base]
