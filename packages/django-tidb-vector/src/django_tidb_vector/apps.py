from __future__ import annotations

from django.apps import AppConfig


class TiDBVectorConfig(AppConfig):
    name = "django_tidb_vector"
    verbose_name = "TiDB vector search"
