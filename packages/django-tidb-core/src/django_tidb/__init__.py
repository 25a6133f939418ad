"""Django's database backend for TiDB: ``ENGINE = "django_tidb"``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["__version__", "is_tidb"]

__version__ = "0.3.0"


def is_tidb(connection: BaseDatabaseWrapper) -> bool:
    """
    Return whether `connection` is this backend's. Neither connects nor needs
    a driver, so it may be asked of any connection.
    """
    return getattr(connection, "tidb", False)
