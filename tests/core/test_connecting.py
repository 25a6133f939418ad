"""Test how many round trips a new connection takes."""

from __future__ import annotations

import itertools

import pytest
from django.db import NotSupportedError, connections
from django.db.backends.mysql.base import DatabaseWrapper as MySQLDatabaseWrapper

from django_tidb.base import DatabaseWrapper
from tests.faults import Proxy

pytestmark = pytest.mark.django_db


@pytest.fixture
def round_trips():
    """
    Return a function that connects with a backend, runs a query, and returns the
    statements that were sent, in upper case.
    """
    settings = connections["default"].settings_dict
    with Proxy(settings["HOST"], int(settings["PORT"])) as proxy:

        def round_trips(backend, alias="default", **options):
            changed = {"HOST": proxy.host, "PORT": proxy.port, "OPTIONS": options}
            wrapper = backend({**settings, **changed}, alias)
            proxy.exchanges.clear()
            with wrapper.cursor() as cursor:
                cursor.execute("SELECT 42")
                assert cursor.fetchone() == (42,)
                statements = [statement.upper() for statement in proxy.statements()]
                cursor.execute("SELECT @@autocommit, @@transaction_isolation")
                assert cursor.fetchone() == (1, "READ-COMMITTED")
            wrapper.close()
            return statements

        yield round_trips


#: Each test takes a new alias, because Django asks for the version once per alias.
aliases = (f"alias {number}" for number in itertools.count())


def test_a_first_connection_asks_for_the_version(round_trips):
    alias = next(aliases)
    first, second = (round_trips(DatabaseWrapper, alias) for _ in range(2))
    asked = [command for command in first if "TIDB_VERSION()" in command]
    assert len(asked) == 1
    assert [command for command in first if command not in asked] == second


def test_a_connection_asks_nothing(round_trips):
    round_trips(DatabaseWrapper)
    assert round_trips(DatabaseWrapper) == [
        "SET NAMES UTF8MB4",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SELECT 42",
    ]


def test_autocommit_can_be_asked_for(round_trips):
    commands = round_trips(DatabaseWrapper, autocommit=False)
    assert ["AUTOCOMMIT" in command for command in commands].count(True) == 2


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
