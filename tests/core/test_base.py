from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import NotSupportedError, connections

from django_tidb import is_tidb
from django_tidb.base import DatabaseWrapper
from django_tidb.version import TiDBVersion

# django.db.connection is a proxy with its own __dict__; the tests need the wrapper.
connection = connections["default"]


def wrapper(**settings):
    """Return a separate connection to the test server."""
    return DatabaseWrapper({**connection.settings_dict, **settings}, "default")


@pytest.mark.django_db
def test_version():
    assert connection.tidb_version >= (5, 0)
    assert connection.get_database_version() == connection.tidb_version.release
    assert connection.tidb_version.edition
    assert connection.display_name == "TiDB"
    assert connection.vendor == "mysql"


@pytest.mark.django_db
def test_second_connection_does_not_ask_for_the_version(monkeypatch):
    assert connection.tidb_version
    monkeypatch.setattr(DatabaseWrapper, "_ask_version", None)
    other = wrapper()
    assert other.tidb_version == connection.tidb_version


def statements(connection):
    return [query["sql"] for query in connection.queries_log]


@pytest.mark.django_db
def test_round_trips_of_connecting(monkeypatch):
    monkeypatch.setattr(DatabaseWrapper, "_versions", {})
    monkeypatch.setattr("django.db.backends.base.base.RAN_DB_VERSION_CHECK", set())
    isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
    for expected in (["SELECT VERSION(), tidb_version()", isolation], [isolation]):
        other = wrapper()
        other.force_debug_cursor = True
        other.ensure_connection()
        assert statements(other) == expected
        assert other.features.uses_savepoints in (True, False)
        assert statements(other) == expected
        other.close()


@pytest.mark.django_db
def test_mysql_constants_do_not_depend_on_the_server(monkeypatch):
    other = wrapper()
    monkeypatch.setattr(other, "tidb_version", TiDBVersion.parse("8.4.0-TiDB-v8.5.6"))
    assert other.mysql_version == (8, 0, 11)
    assert other.mysql_is_mariadb is False


@pytest.mark.django_db
def test_server_that_is_not_tidb(monkeypatch):
    # A MySQL server does not know tidb_version(), so it answers only VERSION().
    other = wrapper()
    monkeypatch.setattr(DatabaseWrapper, "_versions", {})
    monkeypatch.setattr(TiDBVersion, "parse", lambda version, details: None)
    with pytest.raises(NotSupportedError) as error:
        _ = other.tidb_version
    assert "'default' has the ENGINE 'django_tidb'" in str(error.value)
    assert "'django.db.backends.mysql'" in str(error.value)


def test_isolation_level_that_tidb_refuses():
    other = wrapper(OPTIONS={"isolation_level": "serializable"})
    with pytest.raises(
        ImproperlyConfigured, match="Use one of 'read committed', 'repeatable read'"
    ):
        other.get_connection_params()


@pytest.mark.django_db
def test_options_init_command():
    other = wrapper(OPTIONS={"init_command": "SET @@max_execution_time = 12345"})
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT @@max_execution_time")
            assert cursor.fetchone() == (12345,)
    finally:
        other.close()


@pytest.mark.django_db
def test_password(tidb_server):
    with connection.cursor() as cursor:
        cursor.execute("CREATE USER 'limited'@'%' IDENTIFIED BY 'p%ss word'")
    try:
        other = wrapper(USER="limited", PASSWORD="p%ss word", NAME="")
        with other.cursor() as cursor:
            cursor.execute("SELECT CURRENT_USER()")
            assert cursor.fetchone() == ("limited@%",)
        other.close()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP USER 'limited'@'%'")


def test_is_tidb():
    assert is_tidb(connection)
    assert not is_tidb(connections["sqlite"])
