"""
Test that no acknowledged write is lost, and that no write is made twice.

Many threads change the same row, deadlocks occur, and connections are cut at every
byte. The connections use the driver of the environment; continuous integration runs
this module with both drivers.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import product

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.db.models import F

from django_tidb.errors import CommitOutcomeUnknown
from django_tidb.transaction import retry
from tests.core.models import Reader, Shelf
from tests.faults import PATIENCE, Direction, How, Proxy, deadlock, wait_for

THREADS = 8
EACH = 125

HOW = pytest.mark.parametrize("how", [How.CLOSE, How.RESET], ids=lambda how: how.value)


@pytest.fixture
def reconnect(transactional_db, monkeypatch):
    """Return a function that reconnects all threads with other settings."""

    def change(**settings):
        for name, value in settings.items():
            monkeypatch.setitem(connection.settings_dict, name, value)
        connection.close()

    yield change
    connection.close()


def in_threads(function):
    """Call a function in each thread; return the results."""

    def run():
        try:
            return function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(THREADS) as executor:
        futures = [executor.submit(run) for _ in range(THREADS)]
        return [future.result() for future in futures]


def test_conflicting_increments_in_optimistic_mode(reconnect):
    options = connection.settings_dict["OPTIONS"]
    command = "SET tidb_txn_mode = 'optimistic'"
    reconnect(OPTIONS={**options, "init_command": command})
    shelf = Shelf.objects.create(height=0)
    hooks = []

    @retry(times=1000)
    def increment():
        mine = Shelf.objects.get(pk=shelf.pk)
        mine.height += 1
        mine.save()
        transaction.on_commit(partial(hooks.append, mine.height))

    in_threads(lambda: [increment() for _ in range(EACH)])
    total = THREADS * EACH
    assert Shelf.objects.get(pk=shelf.pk).height == total
    # Each value of the counter was committed once.
    assert sorted(hooks) == list(range(1, total + 1))


def test_increments_without_a_lock_are_lost(transactional_db):
    """A retry cannot prevent lost updates, because no statement fails."""
    rounds = EACH
    shelf = Shelf.objects.create(height=0)
    barrier = threading.Barrier(THREADS, timeout=PATIENCE)

    @retry
    def increment():
        mine = Shelf.objects.get(pk=shelf.pk)
        barrier.wait()
        mine.height += 1
        mine.save()
        return 1

    def several():
        acknowledged = 0
        try:
            for _ in range(rounds):
                acknowledged += increment()
                barrier.wait()
        except BaseException:
            barrier.abort()
            raise
        return acknowledged

    assert sum(in_threads(several)) == THREADS * rounds
    # All threads of a round read the same value, so one increment per round remains.
    assert Shelf.objects.get(pk=shelf.pk).height == rounds


@pytest.mark.parametrize("way", ["F()", "select_for_update()"])
def test_increments_that_are_not_lost(transactional_db, way):
    shelf = Shelf.objects.create(height=0)

    @retry
    def increment():
        if way == "F()":
            Shelf.objects.filter(pk=shelf.pk).update(height=F("height") + 1)
        else:
            mine = Shelf.objects.select_for_update().get(pk=shelf.pk)
            mine.height += 1
            mine.save()

    in_threads(lambda: [increment() for _ in range(25)])
    assert Shelf.objects.get(pk=shelf.pk).height == THREADS * 25


class Bank:
    """Two accounts, and a marker for each transfer between them."""

    AMOUNT = 10_000

    def __init__(self):
        self.source = Shelf.objects.create(height=self.AMOUNT)
        self.target = Shelf.objects.create(height=self.AMOUNT)
        self.hooks = Counter()

    def add(self, account, amount):
        Shelf.objects.filter(pk=account.pk).update(height=F("height") + amount)

    def transfer(self, key, between=lambda: None):
        """Transfer 1 in the open transaction; call `between` after the withdrawal."""
        Reader.objects.create(rank=key, level=1)
        self.add(self.source, -1)
        between()
        self.add(self.target, 1)
        transaction.on_commit(partial(self.hooks.update, [key]))

    def assert_exact(self, acknowledged, unknown=()):
        """Assert that each acknowledged transfer was made once, and none twice."""
        made = Counter(Reader.objects.values_list("rank", flat=True))
        assert set(made.values()) <= {1}
        assert set(acknowledged) <= set(made) <= {*acknowledged, *unknown}
        assert self.hooks == Counter([*acknowledged])
        balances = [
            Shelf.objects.get(pk=account.pk).height
            for account in (self.source, self.target)
        ]
        assert balances == [self.AMOUNT - len(made), self.AMOUNT + len(made)]
        return made


def test_deadlocks_that_are_caught(transactional_db):
    """The block continues after a deadlock that has rolled back its first half."""
    bank, rows = Bank(), [Shelf.objects.create(height=1).pk for _ in range(20)]
    deadlocks = []

    def meet_a_deadlock():
        if len(deadlocks) == key:
            try:
                deadlock(connection, "core_shelf", rows)
            except OperationalError as error:
                deadlocks.append(error.args[0])

    for key in range(20):
        retry(bank.transfer)(key, meet_a_deadlock)
    assert deadlocks == [1213] * 20
    bank.assert_exact(range(20))


@contextmanager
def proxied(reconnect):
    """Make the connections go through a proxy, and yield the proxy."""
    settings = connection.settings_dict
    direct = {name: settings[name] for name in ("HOST", "PORT")}
    with Proxy(settings["HOST"], int(settings["PORT"])) as proxy:
        reconnect(HOST=proxy.host, PORT=str(proxy.port))
        try:
            yield proxy
        finally:
            reconnect(**direct)
    wait_for_the_server()


def wait_for_the_server():
    """Wait until the server has ended the sessions of the cut connections."""
    with connection.cursor() as cursor:

        def is_alone():
            cursor.execute(
                "SELECT COUNT(*) FROM information_schema.processlist "
                "WHERE db = %s AND id <> CONNECTION_ID()",
                [connection.settings_dict["NAME"]],
            )
            return cursor.fetchone() == (0,)

        wait_for(is_alone, "the server to end the sessions that were cut")


def head(statement):
    """Return the first words of a statement, which are the same for all transfers."""
    return " ".join(statement.replace("=", " ").split()[:2])


@HOW
def test_transfers_that_are_cut_at_every_byte(reconnect, how):
    """
    The connection is cut at each byte of each statement of a transfer, from the one
    that begins the transaction to the one that follows its COMMIT, and at each byte of
    each answer.
    """
    bank = Bank()
    transfer = retry(backoff=0)(bank.transfer)
    # All keys have the same length, so all statements of a kind have the same length.
    keys = iter(range(10_000, 100_000))
    acknowledged, unknown = {}, {}
    with proxied(reconnect) as proxy:
        connection.ensure_connection()
        before = len(proxy.exchanges)
        acknowledged[key := next(keys)] = None
        transfer(key)
        life = proxy.exchanges[before:]
        assert len(life) == 6
        seen = Counter()
        for number, exchange in enumerate(life):
            seen[start := head(exchange.statement)] += 1
            for place in (
                *product([Direction.TO_SERVER], range(exchange.sent + 1)),
                *product([Direction.TO_CLIENT], range(exchange.answered + 1)),
            ):
                connection.close()
                connection.ensure_connection()
                cut = proxy.cut(start, *place, nth=seen[start], how=how)
                key = next(keys)
                try:
                    transfer(key)
                except CommitOutcomeUnknown:
                    unknown[key] = (number, *place)
                else:
                    acknowledged[key] = (number, *place)
                assert cut.done.wait(PATIENCE)
    made = bank.assert_exact(acknowledged, unknown)
    # Only the outcome of COMMIT can be unknown, and both outcomes occur. COMMIT is also
    # sent if the connection is cut after the whole answer to the statement before it.
    commit = 4
    before_commit = (commit - 1, Direction.TO_CLIENT, life[commit - 1].answered)
    assert {place for place in unknown.values() if place[0] != commit} <= {
        before_commit
    }
    assert 0 < len(made.keys() & unknown.keys()) < len(unknown)
    assert {place[0] for place in acknowledged.values() if place} >= {0, 1, 2, 3, 5}


@HOW
def test_connecting_that_is_cut_at_every_byte(reconnect, how):
    """The connection is cut at each byte, in each direction, before it can be used."""
    bank, keys = Bank(), []
    transfer = retry(backoff=0)(bank.transfer)
    with proxied(reconnect) as proxy:
        connection.ensure_connection()
        lengths = dict(proxy.passed())
        assert min(lengths.values()) > 50
        for direction, length in lengths.items():
            for byte in range(length):
                connection.close()
                cut = proxy.cut_connecting(direction, byte, how)
                keys.append(len(keys))
                transfer(keys[-1])
                assert cut.done.wait(PATIENCE)
    bank.assert_exact(keys)
