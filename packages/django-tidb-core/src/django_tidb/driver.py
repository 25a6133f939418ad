"""The choice of the driver, which is made before Django's MySQL backend imports it."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured

__all__ = ["Driver", "ensure_driver"]


@dataclass(frozen=True)
class Driver:
    """The driver that this process uses, mysqlclient or PyMySQL."""

    #: "mysqlclient" or "PyMySQL".
    name: str
    version: str
    #: The message of the error that the import of mysqlclient raised, or "".
    import_error: str = ""

    @property
    def is_pymysql(self) -> bool:
        return self.name == "PyMySQL"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@functools.cache
def ensure_driver() -> Driver:
    """
    Make ``import MySQLdb`` work, and return the driver that it imports. This is
    mysqlclient if it can be imported, else PyMySQL.

    The choice holds for the whole process. Raises ``ImproperlyConfigured`` if
    neither can be imported.
    """
    import_error = ""
    try:
        import MySQLdb
    except ImportError as error:
        import_error = str(error)
        _forget("MySQLdb")
        try:
            import pymysql
        except ImportError:
            raise ImproperlyConfigured(
                "django_tidb needs a driver, and neither mysqlclient nor PyMySQL can "
                f"be imported: {error}. PyMySQL (pure Python) comes with "
                "django-tidb-core; mysqlclient (faster, is compiled on installation) "
                'with: pip install "django-tidb-core[mysqlclient]".'
            ) from error
        pymysql.install_as_MySQLdb()
        MySQLdb = pymysql
    # The project may have called pymysql.install_as_MySQLdb() itself.
    if MySQLdb.__name__ == "pymysql":
        # PyMySQL's __version__ is a version of mysqlclient that it claims to be
        # compatible with, so this reads VERSION_STRING.
        return Driver("PyMySQL", MySQLdb.VERSION_STRING, import_error)
    return Driver("mysqlclient", ".".join(map(str, MySQLdb.version_info[:3])))


def _forget(package: str) -> None:
    """
    Remove from sys.modules the submodules that a failed import of `package` has
    left there.
    """
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        del sys.modules[name]
