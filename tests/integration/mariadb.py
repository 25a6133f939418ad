"""A MariaDB server that ends with the tests that need it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Timeouts in seconds. On an idle machine, making the data directory and starting
# the server take one second.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0

# A shell script that starts the server, whose command line is in its arguments, and
# stops it when its standard input is closed. So the server also stops if the test
# run is killed.
SUPERVISOR = """
exec 3<&0
"$@" 3<&- </dev/null &
server=$!
{ read -r nothing <&3; kill -9 $server; } &
wait $server
"""


class MariaDBError(Exception):
    """The server could not be set up, or did not answer in time."""


def find_program(name: str) -> str | None:
    """Return the path of `name`; programs in sbin folders need not be on PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


class MariaDB:
    """
    A running server. `settings` are the settings of a Django database without NAME.
    """

    def __init__(self, path: Path) -> None:
        self.settings = {
            "ENGINE": "django.db.backends.mysql",
            "HOST": str(path),
            "USER": "root",
        }

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Yield a cursor of a separate connection."""
        # A process that only starts the server does not need the driver.
        import MySQLdb

        connection = MySQLdb.connect(
            unix_socket=self.settings["HOST"],
            user=self.settings["USER"],
            charset="utf8mb4",
            autocommit=True,
        )
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


@contextmanager
def running_mariadb(install_db: str, mariadbd: str) -> Iterator[MariaDB]:
    """
    Start an empty server that listens on a socket only, with the programs
    `mariadb-install-db` and `mariadbd`. Stop it and remove its data after the block.

    Raises MariaDBError, with the output of the server, if the server cannot be started
    or does not answer within START_TIMEOUT.
    """
    with tempfile.TemporaryDirectory(prefix="mariadb-") as name:
        directory = Path(name)
        path = directory / "socket"
        log = directory / "log"
        options = [
            "--no-defaults",
            f"--datadir={directory / 'data'}",
            "--innodb-log-file-size=4M",
        ]
        # mariadbd refuses to run as root without this option.
        if os.geteuid() == 0:
            options.append("--user=root")
        with log.open("wb") as output:
            try:
                subprocess.run(
                    [
                        install_db,
                        *options,
                        "--auth-root-authentication-method=normal",
                        "--skip-test-db",
                    ],
                    stdout=output,
                    stderr=output,
                    timeout=START_TIMEOUT,
                    check=True,
                )
            except subprocess.SubprocessError as error:
                raise MariaDBError(f"{error}\n{log.read_text()}") from error
            process = subprocess.Popen(
                [
                    *("sh", "-c", SUPERVISOR, "sh", mariadbd),
                    *options,
                    "--skip-networking",
                    "--character-set-server=utf8mb4",
                    f"--socket={path}",
                    f"--pid-file={directory / 'pid'}",
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                # Ctrl-C must reach only the tests, which then stop the server.
                start_new_session=True,
            )
        try:
            _wait(path, process, log)
            yield MariaDB(path)
        finally:
            process.stdin.close()
            process.wait(timeout=STOP_TIMEOUT)


def _wait(path: Path, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                return
        except OSError as error:
            if process.poll() is not None:
                reason = f"MariaDB exited with status {process.returncode}."
            elif time.monotonic() > deadline:
                reason = f"MariaDB did not answer in {START_TIMEOUT:g} seconds."
            else:
                time.sleep(0.1)
                continue
            raise MariaDBError(f"{reason}\n{log.read_text()}") from error
