"""
The import paths of django-tidb, which users' migrations hold forever.

Whoever writes new code imports from the plugins' own packages.
"""

from __future__ import annotations

from django_tidb.plugins import import_moved

__all__ = ["BigAutoRandomField"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_moved(f"{__name__}.{name}", "django-tidb-autorandom")
