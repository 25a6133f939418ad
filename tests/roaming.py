"""
Implement the test mode TIDB_CLUSTER=N: connections move from server to server.

The tests run on a cluster of N servers. Before each new cursor, a connection outside of
a transaction moves to the next server together with the state of its session, as
TiProxy would move it:
https://docs.pingcap.com/tidb/stable/tiproxy-overview#connection-migration

A connection stays on its server as long as its session cannot be moved: in a
transaction, with a lock of GET_LOCK(), with a temporary table, or with another open
cursor.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary, WeakSet

import pytest

VARIABLE = "TIDB_CLUSTER"
# The client reports these errors for a lost connection. The move ignores them, because
# the next statement of the test raises them as well.
LOST_CONNECTION = (2006, 2013)
OUT_OF_SYNC = 2014  # an unbuffered result is being read
# https://docs.pingcap.com/tidb/stable/error-codes
CANNOT_MIGRATE = 8146

# The servers sign the states of sessions with this certificate.
CONFIG = """
[security]
session-token-signing-cert = "{certificate}"
session-token-signing-key = "{key}"
"""


def servers_wanted():
    """Return the number of servers in TIDB_CLUSTER, or None if it is not set."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 2:
        raise pytest.UsageError(f"{VARIABLE} is {text!r}; it must be at least 2.")
    if os.environ.get("TIDB_HOST"):
        raise pytest.UsageError(f"{VARIABLE} and TIDB_HOST are both set.")
    return int(text)


def config(directory):
    """Write a certificate to `directory` and return a configuration that uses it."""
    import trustme

    issued = trustme.CA().issue_cert("tidb")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    return CONFIG.format(certificate=certificate, key=key)


class Roaming:
    """Moves the connections of Django between the servers at `ports`."""

    def __init__(self, ports):
        self.ports = list(ports)
        self.moves = 0
        self._stay = 0
        self._only_home = False
        self._cursors = WeakKeyDictionary()  # the sets of cursors by wrapper
        # the driver's connection and its port by wrapper
        self._port = WeakKeyDictionary()

    @contextmanager
    def installed(self, wrapper_class):
        create_cursor = wrapper_class.create_cursor
        session_variables = wrapper_class.session_variables

        def create_roaming_cursor(wrapper, name=None):
            self._move(wrapper)
            cursor = create_cursor(wrapper, name)
            self._cursors.setdefault(wrapper, WeakSet()).add(cursor)
            return cursor

        @contextmanager
        def staying_session_variables(wrapper, **values):
            # session_variables() restores the variables on the same driver's
            # connection.
            with self.staying(), session_variables(wrapper, **values):
                yield

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wrapper_class, "create_cursor", create_roaming_cursor)
            patch.setattr(wrapper_class, "session_variables", staying_session_variables)
            yield self

    @contextmanager
    def staying(self):
        """Keep every connection on its present server during the block."""
        self._stay += 1
        try:
            yield
        finally:
            self._stay -= 1

    @contextmanager
    def at_home(self):
        """
        Move connections to the first server, and keep them there during the block.
        """
        self._only_home = True
        try:
            yield
        finally:
            self._only_home = False

    def _move(self, wrapper):
        # A connection with another port belongs to a server outside of the cluster.
        if (
            self._stay
            or wrapper.in_atomic_block
            or not wrapper.autocommit
            or int(wrapper.settings_dict["PORT"] or 0) != self.ports[0]
            or any(is_open(cursor) for cursor in self._cursors.get(wrapper, ()))
        ):
            return
        old = wrapper.connection
        last, port = self._port.get(wrapper, (None, None))
        index = self.ports.index(port) if last is old else 0
        next_index = 0 if self._only_home else (index + 1) % len(self.ports)
        if next_index == index or (states := session_states(old)) is None:
            return
        port = self.ports[next_index]
        with ExitStack() as stack:
            new = wrapper.get_new_connection(
                {**wrapper.get_connection_params(), "port": port}
            )
            stack.callback(new.close)
            with new.cursor() as cursor:
                cursor.execute("SET SESSION_STATES %s", [states])
            stack.pop_all()
        wrapper.connection = new
        self._port[wrapper] = new, port
        self.moves += 1
        old.close()


def is_open(cursor):
    # Both drivers set this attribute to None when a cursor is closed.
    return cursor.cursor.connection is not None


def session_states(connection):
    """Return the state of the session, or None if the session cannot be moved."""
    from django.db.backends.mysql.base import Database

    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION_STATES")
            return cursor.fetchone()[0]
    except (Database.OperationalError, Database.InterfaceError) as error:
        tied = (CANNOT_MIGRATE, OUT_OF_SYNC, *LOST_CONNECTION)
        # PyMySQL's InterfaceError for a closed connection has the error number 0.
        if isinstance(error, Database.InterfaceError) or error.args[0] in tied:
            return None
        raise
