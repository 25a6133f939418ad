"""Test locks and isolation as docs/topics/transactions.md describes them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from tests.faults import is_waiting_for_lock, wait_for

from .models import Author, Shelf


@pytest.fixture
def shelf(transactional_db):
    return Shelf.objects.create(height=1)


@contextmanager
def other_connection():
    """Return a cursor of another connection to the same database."""
    other = connection.copy()
    with closing(other), other.cursor() as cursor:
        yield cursor


@pytest.fixture
def rival(transactional_db):
    with other_connection() as cursor:
        yield cursor


@pytest.fixture
def third(transactional_db):
    with other_connection() as cursor:
        yield cursor


@pytest.fixture
def thread():
    """Execute functions in a thread, and wait for the thread after the test."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def update(cursor, shelf, height):
    cursor.execute(
        "UPDATE core_shelf SET height = %s WHERE id = %s", [height, shelf.pk]
    )
    return cursor.rowcount


def session(cursor):
    """Return the connection id of the cursor's session."""
    cursor.execute("SELECT CONNECTION_ID()")
    return cursor.fetchone()[0]


def is_executing(cursor, number, statement):
    """Return whether the session executes a statement that begins with `statement`."""
    cursor.execute(
        "SELECT info FROM information_schema.processlist WHERE id = %s", [number]
    )
    (info,) = cursor.fetchone()
    return (info or "").upper().startswith(statement)


def times_out(cursor, shelf):
    """
    Return whether an update in a transaction of `cursor` gets the lock wait timeout.
    """
    cursor.execute("BEGIN PESSIMISTIC")
    try:
        update(cursor, shelf, 5)
    except OperationalError as error:
        return error.args[0] == 1205
    finally:
        cursor.execute("ROLLBACK")
    return False


def test_an_autocommit_write_ignores_the_time_limit(shelf, rival, third, thread):
    """
    An UPDATE in autocommit mode still waits after two updates in transactions timed
    out.
    """
    with other_connection() as waiting:
        for cursor in (third, waiting):
            cursor.execute("SET innodb_lock_wait_timeout = 1")
        number = session(waiting)
        rival.execute("BEGIN PESSIMISTIC")
        update(rival, shelf, 2)
        waiting.db.inc_thread_sharing()
        written = thread.submit(update, waiting, shelf, 3)
        wait_for(lambda: is_executing(third, number, "UPDATE"), "the write")
        assert times_out(third, shelf)
        assert times_out(third, shelf)
        assert is_executing(third, number, "UPDATE")
        rival.execute("COMMIT")
        assert written.result() == 1
    shelf.refresh_from_db()
    assert shelf.height == 3


def test_an_optimistic_commit_waits_for_an_older_lock(shelf, rival, third, thread):
    third.execute("SET innodb_lock_wait_timeout = 1")
    with other_connection() as waiting:
        number = session(waiting)
        rival.execute("BEGIN PESSIMISTIC")
        update(rival, shelf, 2)
        waiting.execute("BEGIN OPTIMISTIC")
        assert update(waiting, shelf, 3) == 1
        waiting.db.inc_thread_sharing()
        committed = thread.submit(waiting.execute, "COMMIT")
        wait_for(lambda: is_executing(third, number, "COMMIT"), "the COMMIT")
        assert times_out(third, shelf)
        assert is_executing(third, number, "COMMIT")
        rival.execute("ROLLBACK")
        committed.result()
    shelf.refresh_from_db()
    assert shelf.height == 3


def test_an_optimistic_commit_does_not_wait_for_a_newer_lock(shelf, rival, third):
    if connection.tidb_version < (6,):
        pytest.skip(
            "TiDB 5 waits for the lock, and answers 9004 after half a minute: "
            "https://docs.pingcap.com/tidb/stable/error-codes"
        )
    third.execute("BEGIN OPTIMISTIC")
    assert update(third, shelf, 3) == 1
    rival.execute("BEGIN PESSIMISTIC")
    update(rival, shelf, 2)
    with pytest.raises(OperationalError) as caught:
        third.execute("COMMIT")
    assert caught.value.args[0] == 9007
    rival.execute("ROLLBACK")


def test_an_optimistic_transaction_reads_a_snapshot(shelf, rival, third):
    """An optimistic transaction reads a snapshot even with READ COMMITTED."""
    for begin, seen in {"BEGIN OPTIMISTIC": 1, "BEGIN PESSIMISTIC": 2}.items():
        update(third, shelf, 1)
        rival.execute("SET tx_isolation = 'READ-COMMITTED'")
        rival.execute(begin)
        query = "SELECT height FROM core_shelf WHERE id = %s"
        rival.execute(query, [shelf.pk])
        assert rival.fetchone() == (1,)
        update(third, shelf, 2)
        rival.execute(query, [shelf.pk])
        assert rival.fetchone() == (seen,)
        rival.execute("ROLLBACK")


@pytest.mark.works("savepoint")
def test_a_lock_outlives_its_savepoint(shelf, rival):
    with transaction.atomic():
        try:
            with transaction.atomic():
                Shelf.objects.select_for_update().get(pk=shelf.pk)
                raise ValueError
        except ValueError:
            pass
        # Begin a transaction, because in autocommit mode TiDB ignores FOR UPDATE
        # NOWAIT: see the known issue "autocommit-nowait".
        rival.execute("BEGIN PESSIMISTIC")
        with pytest.raises(OperationalError) as caught:
            rival.execute(
                "SELECT height FROM core_shelf WHERE id = %s FOR UPDATE NOWAIT",
                [shelf.pk],
            )
        assert caught.value.args[0] == 3572
        rival.execute("ROLLBACK")


def test_a_time_out_leaves_the_transaction(shelf, rival, third):
    """A lock wait timeout releases none of the locks that the transaction holds."""
    mine = Shelf.objects.create(height=1)
    third.execute("SET innodb_lock_wait_timeout = 1")
    rival.execute("BEGIN PESSIMISTIC")
    update(rival, shelf, 2)
    third.execute("BEGIN PESSIMISTIC")
    update(third, mine, 4)
    with pytest.raises(OperationalError) as caught:
        update(third, shelf, 3)
    assert caught.value.args[0] == 1205
    with pytest.raises(OperationalError) as caught:
        rival.execute(
            "SELECT height FROM core_shelf WHERE id = %s FOR UPDATE NOWAIT", [mine.pk]
        )
    assert caught.value.args[0] == 3572
    third.execute("COMMIT")
    mine.refresh_from_db()
    assert mine.height == 4
    rival.execute("ROLLBACK")


@pytest.mark.parametrize("level", ["READ-COMMITTED", "REPEATABLE-READ"])
def test_gaps_are_not_locked(transactional_db, rival, third, level):
    """
    Both transactions lock a range without rows, and both can insert a row into it.
    """
    for cursor in (rival, third):
        cursor.execute(f"SET tx_isolation = '{level}'")
        cursor.execute("BEGIN PESSIMISTIC")
        cursor.execute("SELECT id FROM core_shelf WHERE height = 7 FOR UPDATE")
        assert cursor.fetchall() == ()
    for cursor in (rival, third):
        cursor.execute("INSERT INTO core_shelf (height) VALUES (7)")
    for cursor in (rival, third):
        cursor.execute("COMMIT")
    assert Shelf.objects.filter(height=7).count() == 2
    Author.objects.create(name="unique")
    with pytest.raises(IntegrityError):
        rival.execute("INSERT INTO core_author (name, bio) VALUES ('unique', '')")


def test_a_transaction_waits_for_a_lock(shelf, rival, third, thread):
    with other_connection() as waiting:
        number = session(waiting)
        rival.execute("BEGIN PESSIMISTIC")
        update(rival, shelf, 2)
        waiting.execute("BEGIN PESSIMISTIC")
        waiting.db.inc_thread_sharing()
        written = thread.submit(update, waiting, shelf, 3)
        wait_for(lambda: is_waiting_for_lock(third, number), "the wait for the lock")
        rival.execute("COMMIT")
        assert written.result() == 1
        waiting.execute("COMMIT")
    shelf.refresh_from_db()
    assert shelf.height == 3
