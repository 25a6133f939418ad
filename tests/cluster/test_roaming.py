"""Test the test mode TIDB_CLUSTER: see tests/roaming.py."""

from __future__ import annotations

import pytest
from django.db import connections, transaction

from django_tidb.base import DatabaseWrapper
from tests import roaming


@pytest.mark.parametrize("text", ["1", "two", "-2"])
def test_bad_number(monkeypatch, text):
    monkeypatch.setenv("TIDB_CLUSTER", text)
    with pytest.raises(pytest.UsageError, match=f"TIDB_CLUSTER is '{text}'; it must"):
        roaming.servers_wanted()


def test_external_server(monkeypatch):
    monkeypatch.setenv("TIDB_CLUSTER", "2")
    monkeypatch.setenv("TIDB_HOST", "db.example.com")
    with pytest.raises(pytest.UsageError, match="TIDB_CLUSTER and TIDB_HOST are both"):
        roaming.servers_wanted()


@pytest.fixture
def connection(fresh_cluster, tmp_path, django_db_blocker):
    """Return a connection that roams between two servers, with the alias "roaming"."""
    cluster = fresh_cluster(config=roaming.config(tmp_path))
    mode = roaming.Roaming(server.port for server in cluster.servers)
    settings = {
        **connections["default"].settings_dict,
        "HOST": "127.0.0.1",
        "PORT": str(cluster.port),
        "USER": "root",
        "PASSWORD": "",
        "NAME": "",
    }
    connection = connections["roaming"] = DatabaseWrapper(settings, "roaming")
    with django_db_blocker.unblock(), mode.installed(DatabaseWrapper):
        connection.roaming = mode
        yield connection
        connection.close()
    del connections["roaming"]


def value(connection, expression):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {expression}")
        return cursor.fetchone()[0]


def test_connection_goes_from_server_to_server(connection):
    ports = [value(connection, "@@port") for _ in range(4)]
    assert set(ports) == set(connection.roaming.ports)
    assert ports[:2] == ports[2:]

    with transaction.atomic("roaming"):
        assert len({value(connection, "@@port") for _ in range(3)}) == 1

    # User variables and session variables move to the next server.
    with connection.cursor() as cursor:
        cursor.execute("SET @mine = 5, sql_mode = 'ANSI_QUOTES'")
    for _ in range(2):
        assert value(connection, "@mine") == 5
        assert value(connection, "@@sql_mode") == "ANSI_QUOTES"

    # A session with state that cannot be moved stays on its server.
    assert value(connection, "GET_LOCK('mine', 1)") == 1
    assert len({value(connection, "@@port") for _ in range(3)}) == 1
    assert value(connection, "RELEASE_LOCK('mine')") == 1
    assert len({value(connection, "@@port") for _ in range(2)}) == 2

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert len({value(connection, "@@port") for _ in range(3)}) == 1
        assert cursor.fetchone() == (1,)

    with connection.session_variables(sql_mode="NO_BACKSLASH_ESCAPES"):
        assert value(connection, "@@sql_mode") == "NO_BACKSLASH_ESCAPES"
    assert value(connection, "@@sql_mode") == "ANSI_QUOTES"

    with connection.roaming.at_home():
        home = {value(connection, "@@port") for _ in range(3)}
    assert home == {connection.roaming.ports[0]}
