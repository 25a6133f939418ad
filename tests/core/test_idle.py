"""Test connections that are lost while they are idle."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError, connections, transaction

from .models import Author

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def idle(request):
    """
    Return a connection that is checked before each statement, with these `options`.
    """
    original = connections["default"]
    connection = original.copy()
    connection.settings_dict = {
        **original.settings_dict,
        "OPTIONS": {
            **original.settings_dict["OPTIONS"],
            "check_after_idle": 0,
            **getattr(request, "param", {}),
        },
    }
    with closing(connection):
        yield connection


def ask(connection, statement="SELECT CONNECTION_ID()"):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def lose(connection):
    """Close the connection from the server's side, without telling the client."""
    connection.ensure_connection()
    lost = connection.connection
    number = lost.fileno() if hasattr(lost, "fileno") else lost._sock.fileno()
    # Shut down a duplicate of the socket. The driver's socket stays open, but can
    # neither send nor receive any more.
    with socket.socket(fileno=socket.dup(number)) as end:
        end.shutdown(socket.SHUT_RDWR)


def test_connection_that_was_lost_is_replaced(idle):
    first = ask(idle)
    lose(idle)
    assert ask(idle) != first


def test_connection_that_was_killed_is_replaced(idle, tidb):
    first = ask(idle)
    tidb.execute(f"KILL TIDB {first}")
    assert ask(idle) != first


def test_lost_connection_is_an_error_without_the_option(transactional_db):
    connection = connections["default"].copy()
    with closing(connection):
        ask(connection)
        lose(connection)
        with pytest.raises((OperationalError, InterfaceError)):
            ask(connection)


@pytest.mark.parametrize("idle", [{"check_after_idle": 3600}], indirect=True)
def test_connection_that_was_not_idle_is_not_asked(idle):
    ask(idle)
    lose(idle)
    with pytest.raises((OperationalError, InterfaceError)):
        ask(idle)


@pytest.mark.parametrize("idle", [{"check_after_idle": 3600}], indirect=True)
def test_begin_finds_that_the_connection_was_lost(idle):
    """
    BEGIN finds the loss, although the connection was used too recently to be checked.
    """
    first = ask(idle)
    lose(idle)
    idle.set_autocommit(False)
    try:
        assert ask(idle) != first
    finally:
        idle.rollback()
        idle.set_autocommit(True)


def test_atomic_block_on_a_lost_connection(idle):
    alias = "idle"
    idle.alias = alias
    connections[alias] = idle
    try:
        ask(idle)
        lose(idle)
        with transaction.atomic(alias):
            Author.objects.using(alias).create(name="a")
        lose(idle)
        with transaction.atomic(alias), transaction.atomic(alias):
            Author.objects.using(alias).create(name="b")
        assert {a.name for a in Author.objects.using(alias).all()} == {"a", "b"}
        # Within a transaction, a lost connection is not replaced.
        with (
            pytest.raises((OperationalError, InterfaceError)),
            transaction.atomic(alias),
        ):
            Author.objects.using(alias).create(name="c")
            lose(idle)
            Author.objects.using(alias).create(name="d")
        assert Author.objects.using(alias).count() == 2
    finally:
        del connections[alias]


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(
            "SELECT GET_LOCK('test_idle', 0)", marks=pytest.mark.works("get-lock")
        ),
        "SET @mine = 1",
        "SET SESSION max_execution_time = 1000",
        "PREPARE mine FROM 'SELECT 1'",
    ],
)
def test_loss_of_session_state_is_told(idle, statement):
    ask(idle)
    assert not idle.tidb_session.personal
    with idle.cursor() as cursor:
        cursor.execute(statement)
    assert idle.tidb_session.personal
    lose(idle)
    with pytest.raises(OperationalError, match="had set in the session") as error:
        ask(idle)
    assert error.value.args[0] in (2006, 2013)
    # The loss has been reported once, so the next statement takes a new connection.
    assert ask(idle)
    assert not idle.tidb_session.personal


@pytest.mark.parametrize("idle", [{"check_after_idle": 3600}], indirect=True)
def test_begin_tells_the_loss_of_session_state(idle):
    ask(idle, "SELECT @mine := 1")
    lose(idle)
    with pytest.raises((OperationalError, InterfaceError)):
        idle.set_autocommit(False)
    idle.close()
    ask(idle)
    assert idle.get_autocommit()


def test_statements_of_the_backend_are_no_session_state(idle):
    ask(idle)
    with idle.constraint_checks_disabled():
        ask(idle)
    with idle.session_variables(max_execution_time=1000):
        ask(idle)
    with idle.schema_editor():
        pass
    assert not idle.tidb_session.personal


@pytest.mark.parametrize("idle", [{"isolation_level": "read committed"}], indirect=True)
def test_settings_are_set_again(idle):
    statement = "SELECT @@transaction_isolation"
    assert ask(idle, statement) == "READ-COMMITTED"
    lose(idle)
    assert ask(idle, statement) == "READ-COMMITTED"


def test_health_check_does_not_connect_anew():
    connection = connections["default"].copy()
    with closing(connection):
        ask(connection)
        assert connection.is_usable()
        lose(connection)
        assert not connection.is_usable()
        assert not connection.is_usable()


@pytest.mark.parametrize("value", [-1, "5", True, None, float("nan"), float("inf")])
def test_option_that_is_not_valid(idle, value):
    idle.settings_dict["OPTIONS"]["check_after_idle"] = value
    with pytest.raises(ImproperlyConfigured) as error:
        idle.get_connection_params()
    assert "DATABASES['default']['OPTIONS']['check_after_idle']" in str(error.value)
    assert repr(value) in str(error.value)
