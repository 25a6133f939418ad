"""Test the state of transactions after errors, lost connections and interrupts."""

from __future__ import annotations

import logging
import signal
import threading
import unittest
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from django.db import (
    DatabaseError,
    Error,
    IntegrityError,
    OperationalError,
    connection,
    transaction,
)
from django.db.backends.signals import connection_created
from django.http import HttpResponse
from django.test import Client, TestCase, override_settings
from django.urls import path

from django_tidb import errors
from django_tidb.driver import ensure_driver
from django_tidb.error_numbers import ErrorNumber
from django_tidb.errors import ERRORS, CommitOutcomeUnknown, find_error
from django_tidb.outcome import Point
from tests.core.models import Author
from tests.faults import (
    PATIENCE,
    Direction,
    How,
    deadlock,
    raw_connection,
    through_proxy,
    wait_for,
)

pytestmark = pytest.mark.django_db(transaction=True)

TransactionManagementError = transaction.TransactionManagementError

DRIVER = ensure_driver()
TABLE = Author._meta.db_table
IDS = range(1, 10)

TO_SERVER, TO_CLIENT = Direction.TO_SERVER, Direction.TO_CLIENT


@pytest.fixture
def authors(transactional_db):
    """Create authors whose names are their ids."""
    Author.objects.bulk_create(Author(id=i, name=str(i)) for i in IDS)


@pytest.fixture
def names(transactional_db):
    """Return a function that reads the authors' names on another connection."""
    with raw_connection(connection) as raw, raw.cursor() as cursor:

        def read():
            cursor.execute(f"SELECT name FROM {TABLE} ORDER BY id")
            return [name for (name,) in cursor.fetchall()]

        yield read


@pytest.fixture
def proxy(transactional_db):
    """Let the connection go through a proxy; return the proxy."""
    with through_proxy(connection) as proxy:
        yield proxy


@contextmanager
def interrupting():
    """
    Return a function that raises KeyboardInterrupt in the main thread from any thread.
    """

    def interrupt(*args):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident
    try:
        yield lambda: signal.pthread_kill(main, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def execute(sql, params=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def work():
    """Update one row and insert another."""
    Author.objects.filter(id=8).update(name="eight")
    Author.objects.create(id=20, name="new")


UNCHANGED = [str(i) for i in IDS]
CHANGED = [*"1234567", "eight", "9", "new"]


# -- The server rolls back


def by_raw_sql(row):
    execute(f"UPDATE {TABLE} SET bio = 'x' WHERE id = %s", [row])


def by_many(row):
    with connection.cursor() as cursor:
        cursor.executemany(f"UPDATE {TABLE} SET bio = %s WHERE id = %s", [("x", row)])


def by_update(row):
    Author.objects.filter(id=row).update(bio="x")


def by_save(row):
    Author(id=row, name="x").save(force_update=True)


def by_lock(row):
    Author.objects.select_for_update().get(id=row)


def in_savepoint(row):
    with transaction.atomic():
        by_update(row)


def in_two_savepoints(row):
    with transaction.atomic(), transaction.atomic():
        by_update(row)


def without_savepoint(row):
    with transaction.atomic(savepoint=False):
        by_update(row)


def in_second_savepoint(row):
    with transaction.atomic():
        Author.objects.filter(id=7).update(name="seven")
    in_savepoint(row)


WAYS = [
    by_raw_sql,
    by_many,
    by_update,
    by_save,
    by_lock,
    pytest.param(in_savepoint, marks=pytest.mark.works("savepoint")),
    pytest.param(in_two_savepoints, marks=pytest.mark.works("savepoint")),
    without_savepoint,
    pytest.param(in_second_savepoint, marks=pytest.mark.works("savepoint")),
]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_follows_a_deadlock(authors, names, way):
    with pytest.raises(TransactionManagementError) as refused, transaction.atomic():
        work()
        with pytest.raises(OperationalError) as caught:
            deadlock(connection, TABLE, IDS, way)
        assert caught.value.args[0] == ErrorNumber.DEADLOCK
        assert connection.needs_rollback
        Author.objects.create(name="after")
    assert refused.value.__cause__ is caught.value
    assert "has rolled back the whole transaction: error 1213" in str(refused.value)
    assert "outermost atomic()" in str(refused.value)
    assert names() == UNCHANGED
    # The connection can still be used.
    Author.objects.create(name="later")
    assert names() == [*UNCHANGED, "later"]


@pytest.mark.works("savepoint")
def test_savepoint_cannot_be_rolled_back_to_after_a_deadlock(authors, names):
    with suppress(TransactionManagementError), transaction.atomic():
        savepoint = connection.savepoint()
        with pytest.raises(OperationalError):
            deadlock(connection, TABLE, IDS)
        with pytest.raises(TransactionManagementError):
            transaction.savepoint_rollback(savepoint)
        # set_rollback(False) does not make the transaction usable again.
        transaction.set_rollback(False)
        with pytest.raises(TransactionManagementError):
            work()
    assert names() == UNCHANGED


def test_block_that_hides_a_deadlock(authors, names):
    hooks = []
    with pytest.raises(TransactionManagementError) as refused, transaction.atomic():
        work()
        transaction.on_commit(lambda: hooks.append(1))
        with pytest.raises(OperationalError) as caught:
            deadlock(connection, TABLE, IDS)
    assert "as if it had succeeded" in str(refused.value)
    assert refused.value.__cause__ is caught.value
    assert names() == UNCHANGED
    assert hooks == []
    with transaction.atomic():
        work()
    assert names() == CHANGED


def test_block_that_hides_a_deadlock_while_an_error_is_handled(authors, names):
    try:
        raise ValueError("another error")
    except ValueError:
        with pytest.raises(TransactionManagementError), transaction.atomic():
            work()
            with pytest.raises(OperationalError):
                deadlock(connection, TABLE, IDS)
    assert names() == UNCHANGED


def test_block_that_asks_for_a_rollback_hides_nothing(authors, names):
    with transaction.atomic():
        work()
        with pytest.raises(OperationalError):
            deadlock(connection, TABLE, IDS)
        transaction.set_rollback(True)
    assert names() == UNCHANGED


def test_error_of_the_block_itself_goes_out(authors, names):
    error = ValueError("the application's own")
    with pytest.raises(ValueError, match="own") as raised, transaction.atomic():
        work()
        with pytest.raises(OperationalError):
            deadlock(connection, TABLE, IDS)
        raise error
    assert raised.value is error
    assert names() == UNCHANGED
    assert not connection.needs_rollback


@contextmanager
def manual_transactions():
    connection.set_autocommit(False)
    try:
        yield
    finally:
        connection.rollback()
        connection.set_autocommit(True)


def test_deadlock_in_manual_mode(authors, names):
    with manual_transactions():
        work()
        with pytest.raises(OperationalError):
            deadlock(connection, TABLE, IDS)
        for refused in (work, connection.commit, by_update_in_block):
            with pytest.raises(
                TransactionManagementError, match="rolled back the whole"
            ):
                refused()
        with pytest.raises(TransactionManagementError):
            connection.set_autocommit(True)
        assert names() == UNCHANGED
        connection.rollback()
        work()
        connection.commit()
        assert names() == CHANGED


def by_update_in_block():
    with transaction.atomic():
        by_update(1)


def test_deadlock_in_a_block_in_manual_mode(authors, names):
    with manual_transactions():
        work()
        with pytest.raises(OperationalError), transaction.atomic():
            deadlock(connection, TABLE, IDS)
        for refused in (work, connection.commit, by_update_in_block):
            with pytest.raises(TransactionManagementError):
                refused()
        connection.rollback()
        assert names() == UNCHANGED


def view(request):
    work()
    with pytest.raises(OperationalError):
        deadlock(connection, TABLE, IDS)
    if "write" in request.GET:
        with pytest.raises(TransactionManagementError):
            Author.objects.create(name="after")
    return HttpResponse("done")


urlpatterns = [path("view", view)]


@pytest.mark.parametrize("query", ["", "?write"])
def test_atomic_requests(authors, names, query, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    with override_settings(ROOT_URLCONF=__name__):
        with pytest.raises(TransactionManagementError):
            Client().get(f"/view{query}")
        response = Client(raise_request_exception=False).get(f"/view{query}")
    assert response.status_code == 500
    assert names() == UNCHANGED


@pytest.mark.works("savepoint")
def test_test_case(authors, names):
    class Tests(TestCase):
        @classmethod
        def setUpTestData(cls):
            work()

        def test_1(self):
            with self.assertRaises(OperationalError):
                deadlock(connection, TABLE, IDS)
            Author.objects.create(name="after")

        def test_2(self):
            Author.objects.get(name="new")

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Tests).run(result)
    assert result.testsRun == 2
    assert len(result.errors) == 2
    for _, traceback in result.errors:
        assert "This includes the data of setUpTestData()" in traceback
    assert names() == UNCHANGED
    assert not connection.needs_rollback


# -- The transaction goes on


@pytest.mark.works("savepoint")
@pytest.mark.parametrize("lock", ["NOWAIT", ""])
def test_transaction_survives_a_lock(authors, names, lock):
    if not lock:
        execute("SET SESSION innodb_lock_wait_timeout = 1")
    with raw_connection(connection) as raw, raw.cursor() as other:
        other.execute("BEGIN PESSIMISTIC")
        other.execute(f"SELECT * FROM {TABLE} WHERE id = 1 FOR UPDATE")
        with transaction.atomic():
            with pytest.raises(OperationalError) as caught, transaction.atomic():
                execute(f"SELECT * FROM {TABLE} WHERE id = 1 FOR UPDATE {lock}")
            assert caught.value.args[0] == (
                ErrorNumber.LOCK_NOWAIT if lock else ErrorNumber.LOCK_WAIT_TIMEOUT
            )
            assert not connection.needs_rollback
            work()
        other.execute("ROLLBACK")
    assert names() == CHANGED
    connection.close()


# -- COMMIT is answered with an error


@pytest.fixture
def optimistic(transactional_db):
    execute("SET tidb_txn_mode = 'optimistic'")
    yield
    connection.close()


def conflict():
    work()
    with raw_connection(connection) as raw, raw.cursor() as other:
        other.execute(f"UPDATE {TABLE} SET name = 'other' WHERE id = 8")


OTHER = [*"1234567", "other", "9"]


def test_conflict_at_commit(authors, names, optimistic):
    with pytest.raises(OperationalError) as caught, transaction.atomic():
        conflict()
    assert caught.value.args[0] == ErrorNumber.WRITE_CONFLICT
    assert not isinstance(caught.value, CommitOutcomeUnknown)
    assert connection.tidb_session.personal
    assert names() == OTHER
    with transaction.atomic():
        work()
    assert names() == CHANGED


def test_conflict_at_commit_in_manual_mode(authors, names, optimistic):
    with manual_transactions():
        conflict()
        with pytest.raises(OperationalError) as caught:
            connection.commit()
        assert caught.value.args[0] == ErrorNumber.WRITE_CONFLICT
        with pytest.raises(TransactionManagementError):
            work()
        connection.rollback()
        work()
        connection.commit()
    assert names() == CHANGED


def test_duplicate_at_commit(authors, names, optimistic):
    with pytest.raises(IntegrityError), transaction.atomic():
        work()
        execute(f"INSERT INTO {TABLE} (id, name, bio) VALUES (1, 'x', '')")
    assert names() == UNCHANGED


def test_error_that_the_table_does_not_know(authors, names, optimistic, monkeypatch):
    # Replace the whole table, because the page of errors depends on its order.
    others = {n: row for n, row in ERRORS.items() if n != ErrorNumber.WRITE_CONFLICT}
    monkeypatch.setattr(errors, "ERRORS", others)
    with pytest.raises(CommitOutcomeUnknown) as caught, transaction.atomic():
        conflict()
    assert caught.value.args[0] == ErrorNumber.WRITE_CONFLICT
    assert caught.value.__cause__.args[0] == ErrorNumber.WRITE_CONFLICT
    assert names() == OTHER


# -- COMMIT is cut off

CUTS = [
    (TO_SERVER, 0, How.CLOSE),
    (TO_SERVER, 5, How.RESET),
    (TO_SERVER, 11, How.CLOSE),
    (TO_CLIENT, 0, How.CLOSE),
    (TO_CLIENT, 0, How.RESET),
    (TO_CLIENT, 3, How.CLOSE),
    (TO_CLIENT, 10, How.RESET),
]


def in_block():
    with transaction.atomic():
        work()


def in_manual_mode():
    connection.set_autocommit(False)
    work()
    connection.commit()


def by_switching_to_autocommit():
    connection.set_autocommit(False)
    work()
    connection.set_autocommit(True)


def by_a_statement():
    with transaction.atomic():
        work()
        execute("COMMIT")


@pytest.mark.parametrize("direction_byte_how", CUTS, ids=str)
@pytest.mark.parametrize(
    ("block", "statement"),
    [
        (in_block, "COMMIT"),
        (in_manual_mode, "COMMIT"),
        (by_switching_to_autocommit, "SET AUTOCOMMIT = 1"),
        (by_a_statement, "COMMIT"),
    ],
)
def test_commit_cut_off(authors, names, proxy, block, statement, direction_byte_how):
    direction, byte, how = direction_byte_how
    connection.ensure_connection()
    # The statement is prefix-matched, and the drivers differ in the spaces around "=".
    statement = statement if block is not by_switching_to_autocommit else "SET AUTO"
    nth = 2 if block is by_switching_to_autocommit else 1
    cut = proxy.cut(statement, direction, byte, nth, how)
    hooks = []
    with pytest.raises(CommitOutcomeUnknown) as caught:
        if block is in_block:
            with transaction.atomic():
                transaction.on_commit(lambda: hooks.append(1))
                in_block()
        else:
            block()
    assert cut.done.wait(PATIENCE)
    error = caught.value
    assert isinstance(error, OperationalError)
    assert find_error(error) is find_error(error.__cause__)
    assert error.args[0] in (ErrorNumber.SERVER_GONE, ErrorNumber.SERVER_LOST)
    assert "unknown whether" in error.args[1]
    assert hooks == []
    if direction is TO_CLIENT:
        assert names() == CHANGED
    elif byte < 11:
        assert names() == UNCHANGED
    if not connection.get_autocommit():
        for refused in (work, connection.commit):
            with pytest.raises(TransactionManagementError, match="unknown outcome"):
                refused()
        connection.rollback()
        connection.set_autocommit(True)
    # The next statement takes a new connection.
    Author.objects.create(name="later")
    assert names()[-1] == "later"


def test_connection_closed_before_commit(authors, names):
    with pytest.raises(Error) as caught, transaction.atomic():
        work()
        connection.connection.close()
    assert find_error(caught.value) is ERRORS[ErrorNumber.CONNECTION_CLOSED]
    assert not isinstance(caught.value, CommitOutcomeUnknown)
    assert names() == UNCHANGED
    Author.objects.create(name="later")
    assert names() == [*UNCHANGED, "later"]


# -- A statement that commits by itself is cut off


def create():
    Author.objects.create(id=20, name="new")


def insert_many():
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {TABLE} (id, name, bio) VALUES (%s, %s, %s)",
            [(20, "new", ""), (21, "newer", "")],
        )


def insert_in_a_comment():
    execute(f"/* SELECT */ INSERT INTO {TABLE} (id, name, bio) VALUES (20, 'new', '')")


@pytest.mark.parametrize("write", [create, insert_many, insert_in_a_comment])
@pytest.mark.parametrize("direction", Direction)
def test_write_cut_off(names, proxy, write, direction):
    connection.ensure_connection()
    proxy.cut("/* " if write is insert_in_a_comment else "INSERT", direction)
    with pytest.raises(CommitOutcomeUnknown) as caught:
        write()
    assert caught.value.args[0] == ErrorNumber.SERVER_LOST
    assert names()[:1] == (["new"] if direction is TO_CLIENT else [])
    assert not connection.needs_rollback
    connection.close()


def test_ddl_cut_off(proxy):
    connection.ensure_connection()
    proxy.cut("CREATE TABLE cut_off", TO_CLIENT)
    try:
        with pytest.raises(CommitOutcomeUnknown):
            execute("CREATE TABLE cut_off (id INT)")
        connection.close()
        assert "cut_off" in connection.introspection.table_names()
    finally:
        connection.close()
        execute("DROP TABLE IF EXISTS cut_off")


def test_ddl_in_a_block_cut_off(authors, names, proxy):
    connection.ensure_connection()
    proxy.cut("CREATE TABLE cut_off", TO_CLIENT)
    try:
        with pytest.raises(CommitOutcomeUnknown), transaction.atomic():
            work()
            current = connection.tidb_session.transaction
            execute("CREATE TABLE cut_off (id INT)")
        assert current.is_split
        # The CREATE TABLE has committed the rows.
        assert names() == CHANGED
    finally:
        execute("DROP TABLE IF EXISTS cut_off")


@pytest.mark.parametrize("read", ["SELECT 1", "SELECT * FROM core_author FOR UPDATE"])
def test_read_cut_off(proxy, read):
    connection.ensure_connection()
    proxy.cut("SELECT", TO_CLIENT)
    with pytest.raises(OperationalError) as caught:
        execute(read)
    assert type(caught.value) is OperationalError
    assert caught.value.args[0] == ErrorNumber.SERVER_LOST
    connection.close()


def test_procedure_cut_off(proxy):
    connection.ensure_connection()
    proxy.cut("CALL", TO_CLIENT)
    with connection.cursor() as cursor, pytest.raises(CommitOutcomeUnknown):
        cursor.callproc("no_such_procedure")
    connection.close()


def test_write_whose_error_is_not_definite(authors, monkeypatch):
    """Use another error as an example, because error 9004 takes too long to provoke."""
    assert not ERRORS[ErrorNumber.RESOLVE_LOCK_TIMEOUT].definite
    row = replace(ERRORS[ErrorNumber.DUPLICATE_KEY], definite=False)
    monkeypatch.setitem(ERRORS, ErrorNumber.DUPLICATE_KEY, row)
    with pytest.raises(CommitOutcomeUnknown):
        execute(f"INSERT INTO {TABLE} (id, name, bio) VALUES (1, '1', '')")
    # In a transaction, the statement does not commit, so its error stays as it is.
    with pytest.raises(IntegrityError), transaction.atomic():
        execute(f"INSERT INTO {TABLE} (id, name, bio) VALUES (1, '1', '')")


# -- The connection is lost in a transaction


@pytest.mark.parametrize("how", [How.CLOSE, How.RESET])
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("refusing", [False, True])
def test_lost_in_a_block(authors, names, proxy, direction, how, refusing):
    connection.ensure_connection()
    proxy.cut("SELECT 1", direction, how=how)

    def lose():
        with transaction.atomic():
            work()
            execute("SELECT 1")

    if refusing:
        # An error of the clean-up must not hide the first error.
        with proxy.refusing(), pytest.raises(OperationalError) as caught:
            lose()
    else:
        with pytest.raises(OperationalError) as caught:
            lose()
    assert caught.value.args[0] == ErrorNumber.SERVER_LOST
    assert type(caught.value) is OperationalError
    Author.objects.create(name="later")
    assert names() == [*UNCHANGED, "later"]


@pytest.mark.parametrize(
    "wrapped", [False, pytest.param(True, marks=pytest.mark.works("savepoint"))]
)
def test_nothing_follows_a_lost_connection(authors, names, proxy, wrapped):
    connection.ensure_connection()
    proxy.cut("SELECT 1", TO_CLIENT)
    with pytest.raises(TransactionManagementError) as refused, transaction.atomic():
        work()
        with pytest.raises(OperationalError) as caught:
            if wrapped:
                with transaction.atomic():
                    execute("SELECT 1")
            else:
                execute("SELECT 1")
        for _ in range(2):
            with pytest.raises(TransactionManagementError):
                Author.objects.create(name="after")
        Author.objects.create(name="after")
    assert "The connection was lost" in str(refused.value)
    assert refused.value.__cause__ is caught.value
    assert names() == UNCHANGED
    Author.objects.create(name="later")
    assert names() == [*UNCHANGED, "later"]


def test_closing_the_connection_mends_no_block(authors, names):
    with pytest.raises(TransactionManagementError), transaction.atomic():
        work()
        with pytest.raises(OperationalError):
            deadlock(connection, TABLE, IDS)
        connection.close()
        with pytest.raises(TransactionManagementError):
            execute("SELECT 1")
        Author.objects.create(name="after")
    assert names() == UNCHANGED
    in_block()
    assert names() == CHANGED


def test_closing_a_lost_connection_mends_no_block(authors, names, proxy):
    connection.ensure_connection()
    proxy.cut("SELECT 1")
    with pytest.raises(TransactionManagementError), transaction.atomic():
        work()
        with pytest.raises(OperationalError):
            execute("SELECT 1")
        connection.close()
        Author.objects.create(name="after")
    assert names() == UNCHANGED
    in_block()
    assert names() == CHANGED


def test_lost_in_manual_mode(authors, names, proxy):
    connection.ensure_connection()
    proxy.cut("SELECT 1")
    with manual_transactions():
        work()
        with pytest.raises(OperationalError):
            execute("SELECT 1")
        for refused in (work, connection.commit):
            with pytest.raises(TransactionManagementError, match=r"rollback\(\)"):
                refused()
        connection.rollback()
        # The new connection has autocommit off like the old connection.
        work()
        assert names() == UNCHANGED
        connection.rollback()
        work()
        connection.commit()
    assert names() == CHANGED


@pytest.mark.parametrize("lose", [False, True])
def test_variables_are_restored_after_a_broken_block(authors, proxy, lose):
    connection.ensure_connection()
    proxy.cut("SELECT 1")

    def fail():
        if lose:
            execute("SELECT 1")
        else:
            deadlock(connection, TABLE, IDS)

    before = execute("SELECT @@foreign_key_checks, @@div_precision_increment")
    with (
        pytest.raises(OperationalError) as caught,
        transaction.atomic(),
        connection.constraint_checks_disabled(),
        connection.session_variables(div_precision_increment=7),
    ):
        assert connection.tidb_session.personal
        fail()
    assert caught.value.args[0] == (
        ErrorNumber.SERVER_LOST if lose else ErrorNumber.DEADLOCK
    )
    if not lose:
        assert not connection.tidb_session.personal
    assert execute("SELECT @@foreign_key_checks, @@div_precision_increment") == before


# -- Before the transaction has begun, and after it has ended


@pytest.mark.parametrize("direction", Direction)
def test_lost_at_the_beginning(authors, names, proxy, direction):
    connection.ensure_connection()
    proxy.cut("SET AUTOCOMMIT", direction)
    with pytest.raises(OperationalError) as caught:
        in_block()
    assert type(caught.value) is OperationalError
    assert connection.tidb_session.point is Point.NOT_BEGUN
    assert connection.tidb_session.has_raised(caught.value)
    in_block()
    assert connection.tidb_session.point is Point.COMMITTED
    assert names() == CHANGED


@pytest.mark.parametrize("direction", Direction)
def test_lost_after_commit(authors, names, proxy, direction, caplog):
    connection.ensure_connection()
    proxy.cut("SET AUTOCOMMIT", direction, nth=2)
    hooks = []

    def hook():
        hooks.append(names())
        Author.objects.create(name="hook")

    with caplog.at_level(logging.WARNING), transaction.atomic():
        work()
        transaction.on_commit(hook)
    assert hooks == [CHANGED]
    assert names() == [*CHANGED, "hook"]
    assert connection.get_autocommit()
    (record,) = caplog.records
    assert "was lost after the end of a transaction" in record.getMessage()


def test_lost_after_commit_while_no_connection_can_be_made(authors, names, proxy):
    connection.ensure_connection()
    proxy.cut("SET AUTOCOMMIT", nth=2)
    hooks = []
    with proxy.refusing(), transaction.atomic():
        work()
        transaction.on_commit(lambda: hooks.append(1))
    assert hooks == [1]
    assert names() == CHANGED


def test_lost_after_commit_with_state_of_the_session(authors, names, proxy):
    execute("SET @mine = 1")
    proxy.cut("SET AUTOCOMMIT", nth=2)
    hooks = []
    with transaction.atomic():
        work()
        transaction.on_commit(lambda: hooks.append(1))
    assert hooks == [1]
    assert names() == CHANGED
    # The lost session state is reported once.
    with pytest.raises(OperationalError, match="had set in the session"):
        execute("SELECT @mine")
    assert execute("SELECT @mine") == ((None,),)


def test_lost_after_a_rollback(authors, names, proxy):
    connection.ensure_connection()
    proxy.cut("SET AUTOCOMMIT", nth=2)
    with pytest.raises(ValueError, match="own"), transaction.atomic():
        work()
        raise ValueError("the application's own")
    Author.objects.create(name="later")
    assert names() == [*UNCHANGED, "later"]


def test_lost_at_the_rollback(authors, names, proxy):
    connection.ensure_connection()
    proxy.cut("ROLLBACK")
    with pytest.raises(ValueError, match="own"), transaction.atomic():
        work()
        raise ValueError("the application's own")
    Author.objects.create(name="later")
    assert names() == [*UNCHANGED, "later"]


def test_lost_while_the_session_is_set_up(authors, names, proxy):
    proxy.cut("SET SESSION TRANSACTION")
    with pytest.raises(OperationalError):
        work()
    assert connection.connection is None
    in_block()
    isolation = "@@transaction_isolation"
    assert execute(f"SELECT {isolation}") == (("READ-COMMITTED",),)
    assert names() == CHANGED


def test_receiver_of_connection_created_fails(authors, names, proxy):
    def fail(**kwargs):
        raise ValueError("of the receiver")

    connection_created.connect(fail)
    try:
        with pytest.raises(ValueError, match="receiver"):
            work()
    finally:
        connection_created.disconnect(fail)
    assert connection.connection is None
    in_block()
    assert names() == CHANGED


# -- Interrupts


@pytest.mark.parametrize(
    ("statement", "nth"), [("SET AUTOCOMMIT", 1), ("COMMIT", 1), ("SET AUTOCOMMIT", 2)]
)
@pytest.mark.parametrize("direction", Direction)
def test_interrupted(authors, names, proxy, statement, nth, direction):
    connection.ensure_connection()
    hooks = []
    with interrupting() as interrupt:
        cut = proxy.cut(statement, direction, 0, nth, How.PASS, interrupt)
        with pytest.raises(KeyboardInterrupt), transaction.atomic():
            work()
            transaction.on_commit(lambda: hooks.append(1))
    assert cut.done.wait(PATIENCE)
    assert hooks == []
    assert not connection.in_atomic_block
    begun = (statement, nth) != ("SET AUTOCOMMIT", 1)
    if begun:
        # The transaction has ended, so the row is not locked any more.
        wait_for_end_of_transactions()
    if nth == 2 or (statement == "COMMIT" and direction is TO_CLIENT):
        assert names() == CHANGED
    elif not begun:
        assert names() == UNCHANGED
    # The next transaction and the next write are committed.
    Author.objects.filter(id=20).delete()
    Author.objects.filter(id=8).update(name="8")
    in_block()
    assert names() == CHANGED
    Author.objects.create(name="later")
    assert names() == [*CHANGED, "later"]
    assert connection.get_autocommit()


def wait_for_end_of_transactions():
    with raw_connection(connection) as raw, raw.cursor() as cursor:

        def is_free():
            cursor.execute("SELECT COUNT(*) FROM information_schema.tidb_trx")
            return cursor.fetchone() == (0,)

        wait_for(is_free, "the end of the transactions")


@pytest.mark.parametrize("direction", Direction)
def test_interrupted_rollback_commits_nothing(authors, names, proxy, direction):
    connection.ensure_connection()
    with interrupting() as interrupt:
        proxy.cut("ROLLBACK", direction, how=How.PASS, then=interrupt)
        with pytest.raises(KeyboardInterrupt), transaction.atomic():
            work()
            raise ValueError
    wait_for_end_of_transactions()
    assert names() == UNCHANGED
    in_block()
    assert names() == CHANGED


# -- Several statements in one string


@pytest.fixture
def several(transactional_db, monkeypatch):
    """Let the driver accept several statements, as mysqlclient does by default."""
    if DRIVER.is_pymysql:
        from pymysql.constants import CLIENT

        flag = CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "client_flag", flag)
        connection.close()
    yield
    monkeypatch.undo()
    connection.close()


def read_by_nextset(row):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1; UPDATE {TABLE} SET bio = 'x' WHERE id = {row}")
        cursor.nextset()


def read_by_close(row):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1; UPDATE {TABLE} SET bio = 'x' WHERE id = {row}")


def read_by_the_next(row):
    cursor = connection.cursor()
    cursor.execute(f"SELECT 1; UPDATE {TABLE} SET bio = 'x' WHERE id = {row}")
    execute("SELECT 1")


READS = [read_by_nextset, read_by_close, read_by_the_next]


@pytest.mark.parametrize("way", READS)
def test_deadlock_of_a_later_statement(authors, names, several, way):
    with pytest.raises(TransactionManagementError), transaction.atomic():
        work()
        with pytest.raises(OperationalError) as caught:
            deadlock(connection, TABLE, IDS, way)
        assert caught.value.args[0] == ErrorNumber.DEADLOCK
        Author.objects.create(name="after")
    assert names() == UNCHANGED


@pytest.mark.parametrize("way", READS)
def test_later_statement_cut_off(authors, names, several, proxy, way):
    connection.ensure_connection()
    # Let the whole answer to SELECT 1 through, so that the answer to the second
    # statement is missing.
    proxy.cut("SELECT 1;", TO_CLIENT, len(answer_to_select(proxy)))
    with pytest.raises(CommitOutcomeUnknown):
        way(1)
    connection.close()


def answer_to_select(proxy):
    execute("SELECT 1")
    return b"x" * proxy.exchanges[-1].answered


def test_error_of_a_later_statement_is_not_lost(authors, several):
    with pytest.raises(IntegrityError), connection.cursor() as cursor:
        cursor.execute(
            f"SELECT 1; INSERT INTO {TABLE} (id, name, bio) VALUES (1, '1', '')"
        )
    # The error of the later statement does not hide an error of the block.
    with pytest.raises(ValueError, match="own"), connection.cursor() as cursor:
        cursor.execute(
            f"SELECT 1; INSERT INTO {TABLE} (id, name, bio) VALUES (1, '1', '')"
        )
        raise ValueError("the application's own")
    assert execute("SELECT 1") == ((1,),)


# -- The state of a connection


def test_points(authors):
    session = connection.tidb_session
    points = []
    with transaction.atomic():
        mine = session.transaction
        points.append(mine.point)
        transaction.on_commit(lambda: points.append(mine.point))
        transaction.on_commit(in_block)
    assert points == [Point.BEGUN, Point.COMMITTED]
    # The hook has begun another transaction.
    assert session.transaction is not mine
    with suppress(ValueError), transaction.atomic():
        mine = session.transaction
        raise ValueError
    assert mine.point is Point.BEGUN


def test_has_raised(authors):
    session = connection.tidb_session
    with pytest.raises(IntegrityError) as first, transaction.atomic():
        Author.objects.create(name="1")
    assert session.has_raised(first.value) is False
    with transaction.atomic():
        mine = session.transaction
        with pytest.raises(OperationalError) as second:
            execute("SELECT no_such_column")
        assert session.has_raised(second.value)
        assert second.value in mine.raised
        assert not session.has_raised(OperationalError(*second.value.args))


@pytest.mark.parametrize(
    ("statement", "personal"),
    [
        ("SELECT 1", False),
        ("SELECT @@version", False),
        ("SELECT @a := 1", True),
        ("SET @a = 1", True),
        ("SET time_zone = '+00:00'", True),
        ("SELECT GET_LOCK('core', 1)", True),
        ("CREATE TEMPORARY TABLE temporary_of_outcome (id INT)", True),
        ("PREPARE p FROM 'SELECT 1'", True),
        (f"UPDATE {TABLE} SET name = name", False),
    ],
)
def test_personal(statement, personal):
    connection.close()
    execute("SELECT 1")
    assert not connection.tidb_session.personal
    # Older servers refuse some of these statements.
    with suppress(DatabaseError):
        execute(statement)
    assert connection.tidb_session.personal is personal
    connection.close()
    execute("SELECT 1")
    assert not connection.tidb_session.personal
