from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.mysql.client import DatabaseClient as MySQLDatabaseClient

from . import tls
from .driver import ensure_driver
from .hosts import parse_hosts


class DatabaseClient(MySQLDatabaseClient):
    """
    The command-line client that ``manage.py dbshell`` starts: MySQL's or
    MariaDB's, with the TLS options that ``OPTIONS`` contains.
    """

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        """
        Return the command line of the client, which starts with its name, and
        the environment of its process.

        Raises ``ImproperlyConfigured`` if the client has no equivalent for the
        TLS options in ``OPTIONS``.
        """
        options = settings_dict["OPTIONS"]
        # The client can connect to only one server, so it gets the first server in
        # HOST.
        for host in parse_hosts(settings_dict["HOST"], "DATABASES['...']['HOST']")[:1]:
            settings_dict = {
                **settings_dict,
                "HOST": host.name,
                "PORT": host.port or settings_dict["PORT"],
            }
        mode, files = _tls(options)
        verifies = "ca" in files or "capath" in files
        flags = _MODE_FLAGS[_client()](mode, verifies) if mode else []
        if mode != "DISABLED":
            flags += [f"--ssl-{key}={value}" for key, value in files.items()]
        # Django's method would pass only some of the TLS files to the client. All of
        # them are already in `flags`, so Django's method gets none.
        others = {name: value for name, value in options.items() if name != "ssl"}
        args, env = super().settings_to_cmd_args_env(
            {**settings_dict, "OPTIONS": others}, [*flags, *parameters]
        )
        return [_program(), *args[1:]], env

    def runshell(self, parameters: Iterable[str]) -> None:
        mode, _ = _tls(self.connection.settings_dict["OPTIONS"])
        # MariaDB's client would connect without TLS if the server does not support it.
        # Unlike the client, the driver raises an error.
        if mode == "REQUIRED" and _client() == "MariaDB":
            self.connection.ensure_connection()
            self.connection.close()
        super().runshell(parameters)


def _tls(options: dict[str, Any]) -> tuple[str | None, dict[str, str]]:
    return tls.asked_of_client(options, pymysql=ensure_driver().is_pymysql)


def _program() -> str:
    """
    Return the name of the client. Later MariaDB releases install it as mariadb
    only.
    """
    names = ("mysql", "mariadb")
    return next(filter(shutil.which, names), MySQLDatabaseClient.executable_name)


def _client() -> str:
    """
    Return the vendor of the client, "MySQL" or "MariaDB". Their options for TLS
    differ.

    Raises ``FileNotFoundError`` if there is no client, and
    ``ImproperlyConfigured`` if the client is from neither vendor.
    """
    program = _program()
    version = subprocess.run(  # noqa: S603
        [program, "--version"], stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    if "MariaDB" in version:
        return "MariaDB"
    # Builds of MySQL's client by others, such as Percona, have the same options.
    if re.search(r"\bmysql +Ver \d", version):
        return "MySQL"
    raise ImproperlyConfigured(
        "OPTIONS ask for TLS, and dbshell can ask MySQL's client and MariaDB's for it, "
        f"but {shutil.which(program)!r} says that it is {version.strip()!r}."
    )


def _mysql_flags(mode: str, verifies: bool) -> list[str]:
    return [f"--ssl-mode={mode}"]


def _mariadb_flags(mode: str, verifies: bool) -> list[str]:
    # https://mariadb.com/docs/server/clients-and-utilities/mariadb-client/mariadb-command-line-client
    if mode == "DISABLED":
        return ["--skip-ssl"]
    if mode.startswith("VERIFY"):
        # One option verifies both the certificate and the host name.
        return ["--ssl", "--ssl-verify-server-cert"]
    if mode == "REQUIRED" and verifies:
        return ["--ssl"]
    # From MariaDB 11.4 on, the client verifies the certificate by default.
    return ["--ssl", "--skip-ssl-verify-server-cert"]


_MODE_FLAGS = {"MySQL": _mysql_flags, "MariaDB": _mariadb_flags}
