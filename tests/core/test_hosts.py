"""Test several servers in HOST."""

from __future__ import annotations

import random
import socket
from contextlib import closing, contextmanager

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections
from hypothesis import given
from hypothesis import strategies as st

from django_tidb import hosts
from django_tidb.hosts import Host, in_order, parse_hosts

pytestmark = pytest.mark.django_db

NAMES = st.from_regex(
    r"[a-z][a-z0-9.-]{0,20}|[0-9.]{7,15}|[0-9a-f:]{2,20}:1", fullmatch=True
)
PORTS = st.none() | st.integers(1, 65535)


@pytest.fixture(autouse=True)
def rested(monkeypatch):
    """Forget the servers that failed in earlier tests."""
    monkeypatch.setattr(hosts, "_resting", {})


@pytest.fixture
def closed_port():
    """Return a port of 127.0.0.1 that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def connection_to(*servers, **settings):
    """Return a new connection with the test's settings and these servers in HOST."""
    original = connections["default"]
    connection = original.copy()
    connection.settings_dict = {
        **original.settings_dict,
        "HOST": ",".join(servers),
        **settings,
    }
    with closing(connection):
        yield connection


def answers(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone() == (1,)


def address():
    settings = connections["default"].settings_dict
    return f"{settings['HOST']}:{settings['PORT']}"


# -- Reading the setting


@given(st.lists(st.builds(Host, NAMES, PORTS), min_size=2, max_size=5, unique=True))
def test_servers_are_read_as_they_are_written(servers):
    assert parse_hosts(",".join(map(str, servers)), "HOST") == tuple(servers)
    assert parse_hosts(" , ".join(map(str, servers)), "HOST") == tuple(servers)


@pytest.mark.parametrize("value", ["", "tidb-0", "tidb-0:4000", "::1", "/tidb.sock"])
def test_one_server_is_left_to_the_driver(value):
    assert parse_hosts(value, "HOST") == ()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("tidb-0,", "'' is no server"),
        ("tidb-0,::1", "'::1' is no server"),
        ("tidb-0,tidb-1:0", "'tidb-1:0' is no server"),
        ("tidb-0,tidb-1:65536", "'tidb-1:65536' is no server"),
        ("tidb-0,tidb-1:x", "'tidb-1:x' is no server"),
        ("tidb-0,/run/tidb.sock", "'/run/tidb.sock' is no server"),
        ("tidb-0,tidb 1", "'tidb 1' is no server"),
        ("tidb-0:4000,tidb-0:4000", "tidb-0:4000 is in it twice"),
    ],
)
def test_servers_that_are_not_valid(value, said):
    with (
        connection_to(value) as connection,
        pytest.raises(ImproperlyConfigured) as error,
    ):
        connection.get_connection_params()
    assert f"DATABASES['default']['HOST'] is {value!r}" in str(error.value)
    assert said in str(error.value)


def test_host_in_options_is_the_only_one():
    settings = connections["default"].settings_dict
    options = {**settings["OPTIONS"], "host": settings["HOST"]}
    with connection_to("tidb-0", "tidb-1", OPTIONS=options) as connection:
        assert answers(connection)


# -- The order


def test_each_server_comes_first_at_some_time():
    servers = parse_hosts("a,b,c", "HOST")
    random.seed(0)
    first = [next(in_order(servers)) for _ in range(300)]
    assert all(first.count(server) > 50 for server in servers)


def test_server_that_failed_is_tried_last(monkeypatch):
    a, b, c = servers = parse_hosts("a,b,c", "HOST")
    now = [1000.0]
    monkeypatch.setattr(hosts.time, "monotonic", lambda: now[0])
    b.rest()
    now[0] += 1
    c.rest()
    assert all(list(in_order(servers)) == [a, b, c] for _ in range(20))
    c.answered()
    assert all(list(in_order(servers))[2] == b for _ in range(20))
    now[0] += hosts.REST
    assert {next(in_order(servers)) for _ in range(100)} == {a, b, c}


# -- Connecting


def test_server_that_refuses_is_passed_over(closed_port):
    dead = f"127.0.0.1:{closed_port}"
    for _ in range(8):
        with connection_to(dead, address()) as connection:
            assert answers(connection)
    # After the first failed attempt, the closed port comes last for REST seconds.
    assert all(
        str(next(in_order(parse_hosts(f"{dead},{address()}", "HOST")))) == address()
        for _ in range(20)
    ) == (Host("127.0.0.1", closed_port) in hosts._resting)


def test_server_that_hangs_up_is_passed_over():
    # A server that is shutting down and a proxy without servers behave like this.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = f"127.0.0.1:{listener.getsockname()[1]}"
        servers = parse_hosts(f"{dead},{address()}", "HOST")
        # Mark the living server as not answering, so that the dead server comes first.
        servers[1].rest()
        listener.settimeout(30)
        with connection_to(
            dead, address(), OPTIONS={"connect_timeout": 1}
        ) as connection:
            assert answers(connection)
        assert servers[0] in hosts._resting
        assert servers[1] not in hosts._resting


def test_no_server_answers(closed_port):
    dead = f"127.0.0.1:{closed_port}", f"localhost:{closed_port}"
    with (
        connection_to(*dead) as connection,
        pytest.raises(OperationalError) as error,
    ):
        connection.ensure_connection()
    assert error.value.args[0] == 2003
    assert all(f"{server}: " in error.value.args[1] for server in dead)


def test_password_that_is_wrong_is_not_tried_at_another_server(tidb, closed_port):
    dead = f"127.0.0.1:{closed_port}"
    # Mark the closed port as not answering, so that the living server comes first.
    Host("127.0.0.1", closed_port).rest()
    resting = dict(hosts._resting)
    tidb.execute("CREATE USER IF NOT EXISTS hosts_test IDENTIFIED BY 'right'")
    try:
        with (
            connection_to(
                dead, address(), USER="hosts_test", PASSWORD="wrong"
            ) as connection,
            pytest.raises(OperationalError) as error,
        ):
            connection.ensure_connection()
    finally:
        tidb.execute("DROP USER hosts_test")
    assert error.value.args[0] == 1045
    # An attempt to connect to the closed port would have changed its time in _resting.
    assert hosts._resting == resting


def test_port_of_the_settings_is_that_of_servers_without_one(closed_port):
    settings = connections["default"].settings_dict
    with connection_to(settings["HOST"], f"127.0.0.1:{closed_port}") as connection:
        assert answers(connection)


def test_connections_end_at_different_times():
    with connection_to(address(), "localhost", CONN_MAX_AGE=1000) as connection:
        ends = set()
        for _ in range(20):
            before = hosts.time.monotonic()
            connection.connect()
            ends.add(round(connection.close_at - before))
            assert connection.close_at >= before
            connection.close()
        assert len(ends) > 5
        assert all(790 <= end <= 1010 for end in ends)
    with connection_to(address(), "localhost", CONN_MAX_AGE=None) as connection:
        connection.connect()
        assert connection.close_at is None


def test_dbshell_connects_to_the_first():
    with connection_to("tidb-0", "[::1]:4001", PORT="4000") as connection:
        args, _ = connection.client.settings_to_cmd_args_env(
            connection.settings_dict, []
        )
        assert {"--host=tidb-0", "--port=4000"} <= set(args)
    with connection_to("[::1]:4001", "tidb-0", PORT="4000") as connection:
        args, _ = connection.client.settings_to_cmd_args_env(
            connection.settings_dict, []
        )
        assert {"--host=::1", "--port=4001"} <= set(args)


def test_connect_timeout_does_not_limit_statements():
    with (
        connection_to(address(), "localhost", OPTIONS={"connect_timeout": 1}) as other,
        other.cursor() as cursor,
    ):
        cursor.execute("SELECT SLEEP(2)")
        assert cursor.fetchone() == (0,)
