"""Django's database backend for TiDB: ``ENGINE = "django_tidb"``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["__version__", "is_tidb"]

__version__ = "0.3.0"


def is_tidb(connection: BaseDatabaseWrapper) -> bool:
    """
    Return whether `connection` is a connection of this backend. The function
    neither connects nor imports a driver, so it can be called with any
    connection.
    """
    return getattr(connection, "tidb", False)
