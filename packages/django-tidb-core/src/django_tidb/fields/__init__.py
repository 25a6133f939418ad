"""
The import paths of django-tidb, which the migrations of existing projects
contain. New code should import these names from the packages of the plugins.
"""

from __future__ import annotations

from django_tidb.plugins import legacy_names

__getattr__ = legacy_names(__name__, ["BigAutoRandomField"], "django-tidb-autorandom")
