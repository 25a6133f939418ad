"""
The import paths of django-tidb, which users' migrations hold forever.

Whoever writes new code imports from the plugins' own packages.
"""

from __future__ import annotations

from django_tidb.plugins import legacy_names

__getattr__ = legacy_names(__name__, ["BigAutoRandomField"], "django-tidb-autorandom")
