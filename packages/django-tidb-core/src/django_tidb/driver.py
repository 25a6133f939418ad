"""Choose the driver, before Django's mysql backend imports it."""

from __future__ import annotations

import importlib.util

from django.core.exceptions import ImproperlyConfigured

__all__ = ["ensure_driver"]


def ensure_driver() -> None:
    """
    Make ``import MySQLdb`` work: with mysqlclient wherever it is installed,
    else with PyMySQL under that name.

    The choice holds for the whole process. Raises ``ImproperlyConfigured`` if
    neither is installed.
    """
    if importlib.util.find_spec("MySQLdb"):
        return
    try:
        import pymysql
    except ImportError as error:
        raise ImproperlyConfigured(
            "django_tidb needs a driver. Install mysqlclient (recommended, is "
            'compiled on installation): pip install "django-tidb-core[mysqlclient]"; '
            'or PyMySQL (pure Python): pip install "django-tidb-core[pymysql]".'
        ) from error
    pymysql.install_as_MySQLdb()
