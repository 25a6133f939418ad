"""How many round trips it takes to connect."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading

import pytest
from django.db import NotSupportedError, connections
from django.db.backends.mysql.base import DatabaseWrapper as MySQLDatabaseWrapper

from django_tidb.base import DatabaseWrapper

pytestmark = pytest.mark.django_db
QUERY = b"\x03"


class Proxy:
    """Passes on what client and server say, and remembers the commands."""

    def __init__(self, server):
        self.server = server
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        #: Each packet that the client began to speak with, without its header.
        self.commands = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.server)
            for ends in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source, target, is_client):
        pending = b""
        # Either of them may hang up.
        with contextlib.suppress(OSError), target:
            while data := source.recv(65536):
                pending += data if is_client else b""
                # Three bytes are the packet's length, one is its number.
                while len(pending) >= 4:
                    length = 4 + int.from_bytes(pending[:3], "little")
                    if len(pending) < length:
                        break
                    if pending[3] == 0:
                        self.commands.append(pending[4:length].upper())
                    pending = pending[length:]
                target.sendall(data)


@pytest.fixture
def round_trips():
    """
    A function that connects with a backend, runs a query and returns the
    commands that this took, without those of the handshake.
    """
    settings = connections["default"].settings_dict
    proxy = Proxy((settings["HOST"], int(settings["PORT"])))

    def round_trips(backend, alias="default", **options):
        wrapper = backend({**settings, "PORT": proxy.port, "OPTIONS": options}, alias)
        proxy.commands.clear()
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 42")
            assert cursor.fetchone() == (42,)
            commands = [c for c in proxy.commands if c.startswith(QUERY)]
            cursor.execute("SELECT @@autocommit, @@transaction_isolation")
            assert cursor.fetchone() == (1, "READ-COMMITTED")
        wrapper.close()
        return commands

    yield round_trips
    proxy.listener.close()


#: Django looks at the version once per alias.
aliases = (f"alias {number}" for number in itertools.count())


def test_a_first_connection_asks_for_the_version(round_trips):
    alias = next(aliases)
    first, second = (round_trips(DatabaseWrapper, alias) for _ in range(2))
    asked = [command for command in first if b"TIDB_VERSION()" in command]
    assert len(asked) == 1
    assert [command for command in first if command not in asked] == second


def test_a_connection_asks_nothing(round_trips):
    round_trips(DatabaseWrapper)
    assert round_trips(DatabaseWrapper) == [
        QUERY + b"SET NAMES UTF8MB4",
        QUERY + b"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        QUERY + b"SELECT 42",
    ]


def test_autocommit_can_be_asked_for(round_trips):
    commands = round_trips(DatabaseWrapper, autocommit=False)
    assert [b"AUTOCOMMIT" in command for command in commands].count(True) == 2


def test_fewer_than_with_djangos_backend(round_trips):
    alias, another = next(aliases), next(aliases)
    for _ in range(2):
        ours = round_trips(DatabaseWrapper, alias)
        try:
            theirs = round_trips(MySQLDatabaseWrapper, another)
        except NotSupportedError as error:
            pytest.skip(
                f"Django's mysql backend refuses this TiDB: {error}. "
                "https://docs.djangoproject.com/en/stable/ref/databases/#mysql-notes"
            )
        assert len(ours) <= len(theirs) - 2
