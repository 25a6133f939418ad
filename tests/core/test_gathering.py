"""Test when gathered statements are sent, without a server."""

from __future__ import annotations

from contextlib import contextmanager, suppress

import pytest

from django_tidb.gathering import Gathering
from django_tidb.pending import Addition, Creation


class Connection:
    """A fake connection with the part of Django's connection that gathering uses."""

    def __init__(self, sent):
        self.sent = sent
        self.wrappers = []

    @contextmanager
    def execute_wrapper(self, wrapper):
        self.wrappers.append(wrapper)
        yield
        self.wrappers.pop()

    def execute(self, sql):
        def execute(*args):
            self.sent.append(sql)

        for wrapper in self.wrappers:
            wrapper(execute, sql, None, False, {})
        if not self.wrappers:
            execute()


@pytest.fixture
def sent():
    return []


@pytest.fixture
def connection(sent):
    return Connection(sent)


@pytest.fixture
def gathering(connection, sent):
    def send(statements):
        for statement in statements:
            if statement.table == "bad":
                raise ZeroDivisionError
            sent.append(statement.table)

    return Gathering(connection, send)


def test_the_end_of_a_block_sends_the_rest(gathering, sent):
    with gathering.block("first"):
        gathering.add(Creation("a"))
        gathering.begin_operation("second")
        gathering.add(Creation("b"))
        assert gathering.origin == "second"
        assert sent == []
    assert sent == ["a", "b"]
    assert gathering.origin is None


def test_an_error_drops_the_rest(gathering, sent):
    with suppress(KeyError), gathering.block("first"):
        gathering.add(Creation("a"))
        raise KeyError
    gathering.send()
    assert sent == []
    assert gathering.get("a") is None


def test_operations_that_may_not_gather(gathering, sent):
    with gathering.block("first"):
        gathering.add(Creation("a"))
        gathering.begin_operation(None)
        assert sent == ["a"]
        assert gathering.origin is None
        gathering.begin_operation("third")
        gathering.add(Creation("b"))
        assert sent == ["a"]


def test_a_block_in_an_operation(gathering, sent):
    with gathering.block("first"):
        gathering.begin_operation(None)
        with gathering.block("inner"):
            gathering.add(Creation("a"))
        assert sent == ["a"]
        assert gathering.origin is None


def test_other_statements_come_afterwards(gathering, connection, sent):
    with gathering.block("first"):
        gathering.add(Creation("a"))
        with gathering.kept():
            connection.execute("SELECT 1")
        connection.execute("SELECT 2")
    assert sent == ["SELECT 1", "a", "SELECT 2"]
    connection.execute("SELECT 3")
    assert connection.wrappers == []


def test_what_does_not_go_together(gathering, sent):
    with gathering.block("first"):
        gathering.add(Creation("a"))
        gathering.add(Addition("b"))
        assert sent == ["a"]
        gathering.drop_addition()
        gathering.add(Creation("a"))
        gathering.drop_addition()
        gathering.send_addition()
        assert sent == ["a"]
    assert sent == ["a", "a"]


@pytest.mark.parametrize(
    "go_on",
    [
        lambda gathering: None,
        lambda gathering: gathering.begin_operation("second"),
        lambda gathering: gathering.begin_operation(None),
        lambda gathering: gathering.send(),
        lambda gathering: gathering.send_addition(),
        lambda gathering: [][0],
    ],
)
def test_an_error_that_was_suppressed(gathering, connection, sent, go_on):
    with pytest.raises(ZeroDivisionError), gathering.block("first"):
        gathering.add(Creation("bad"))
        with suppress(ZeroDivisionError):
            connection.execute("SELECT 1")
        go_on(gathering)
        connection.execute("SELECT 2")
    # The error has been raised by now, so send() does not raise it again.
    gathering.send()
    assert "SELECT 1" not in sent
