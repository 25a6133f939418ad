"""Provoke every error of the table of errors on a server or with a driver."""

from __future__ import annotations

import copy
import runpy
import socket
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import (
    DatabaseError,
    Error,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connections,
)

from django_tidb.driver import ensure_driver
from django_tidb.error_numbers import ErrorNumber
from django_tidb.errors import (
    ERRORS,
    CommitOutcomeUnknown,
    Left,
    Repeat,
    find_error,
)
from tests.faults import Direction, Proxy, deadlock, raw_connection, wait_for

pytestmark = pytest.mark.django_db(transaction=True)

DRIVER = ensure_driver()

# This query takes very long. KILL QUERY would end SLEEP() without an error.
LONG = "SELECT COUNT(*) FROM " + ", ".join(f"fault {name}" for name in "abcdefghijkl")


@dataclass
class Case:
    """
    An open transaction that has inserted the row 100, and a cursor of another
    connection in autocommit mode.
    """

    connection: Any
    observer: Any
    proxy: Proxy

    def execute(self, sql, params=None):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall()

    @property
    def id(self):
        return self.execute("SELECT CONNECTION_ID()")[0][0]

    def is_row_there(self):
        self.observer.execute("SELECT COUNT(*) FROM fault WHERE id = 100")
        return self.observer.fetchone() == (1,)

    def what_is_left(self):
        """
        Return the state of the transaction after the error. The queries use the
        driver's connection directly, because Django may refuse them.
        """
        driver = self.connection.connection
        try:
            with driver.cursor() as cursor:
                cursor.execute("SELECT COUNT(*) FROM fault WHERE id = 100")
                (visible,) = cursor.fetchone()
            driver.commit()
        except driver.Error:
            assert not self.is_row_there()
            return Left.GONE
        assert self.is_row_there() == bool(visible)
        return Left.ALIVE if visible else Left.ROLLED_BACK


@contextmanager
def open_case(host, port):
    with ExitStack() as stack:
        direct = connections["default"].copy()
        direct.settings_dict = copy.deepcopy(direct.settings_dict)
        direct.settings_dict.update(NAME=None, HOST=host, PORT=str(port))
        observer = stack.enter_context(raw_connection(direct)).cursor()
        for statement in (
            "DROP DATABASE IF EXISTS faults",
            "CREATE DATABASE faults",
            "USE faults",
            "CREATE TABLE fault (id INT PRIMARY KEY, u INT UNIQUE, b LONGTEXT)",
            "INSERT INTO fault (id, u) VALUES "
            + ", ".join(f"({i}, {i})" for i in range(1, 10)),
        ):
            observer.execute(statement)
        proxy = stack.enter_context(Proxy(host, int(port)))
        connection = direct.copy()
        connection.settings_dict.update(NAME="faults", HOST=proxy.host, PORT=proxy.port)
        stack.callback(connection.close)
        yield Case(connection, observer, proxy)
        observer.execute("DROP DATABASE faults")


PROVOKED = {}


def provokes(
    number, *, set_up=(), since=(0,), config=None, at_commit=False, driver=None
):
    """
    Register a function that makes the transaction of a case raise the error `number`.
    """

    def register(function):
        param = pytest.param(
            ErrorNumber(number),
            function,
            set_up,
            since,
            config,
            at_commit,
            driver,
            id=function.__name__,
        )
        PROVOKED.setdefault(ErrorNumber(number), []).append(param)
        return function

    return register


# -- The connection


@provokes(ErrorNumber.CONNECTION_CLOSED)
def closed_before(case):
    case.connection.connection.close()
    case.execute("SELECT 1")


@provokes(ErrorNumber.CANNOT_CONNECT_TO_SOCKET, driver="mysqlclient")
def no_socket(case):
    other = case.connection.copy()
    other.settings_dict["HOST"] = "/no/such/socket"
    case.connection.connection.close()
    other.ensure_connection()


# The client library of MariaDB reports CANNOT_CONNECT_TO_SOCKET here as well.
@provokes(ErrorNumber.CANNOT_CONNECT, driver="PyMySQL")
def no_server(case):
    other = case.connection.copy()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        other.settings_dict["PORT"] = unused.getsockname()[1]
    case.connection.connection.close()
    other.ensure_connection()


@provokes(ErrorNumber.SERVER_GONE)
def cannot_send(case):
    driver = case.connection.connection
    with socket.socket(fileno=_descriptor(driver)) as connected:
        try:
            connected.shutdown(socket.SHUT_WR)
        finally:
            connected.detach()
    case.execute("SELECT 1")


def _descriptor(driver):
    return driver._sock.fileno() if DRIVER.is_pymysql else driver.fileno()


@provokes(ErrorNumber.SERVER_LOST)
def answer_cut_off(case):
    case.proxy.cut("SELECT 1", Direction.TO_CLIENT)
    case.execute("SELECT 1")


@provokes(ErrorNumber.SERVER_LOST)
def killed(case):
    connection_id = case.id
    with killer(case, connection_id, f"KILL TIDB {connection_id}"):
        try:
            case.execute(LONG)
        except OperationalError as error:
            # Older servers first answer with QUERY_INTERRUPTED, and then close the
            # connection.
            if error.args[0] != ErrorNumber.QUERY_INTERRUPTED:
                raise
    wait_for(lambda: not is_connected(case, connection_id), "the end of the session")
    case.execute("SELECT 1")


@provokes(
    ErrorNumber.SERVER_LOST,
    set_up=["SET tidb_idle_transaction_timeout = 1"],
    since=(7, 6),
)
def idle_for_too_long(case):
    connection_id = case.id
    wait_for(lambda: not is_connected(case, connection_id), "the end of the session")
    case.execute("SELECT 1")


@provokes(ErrorNumber.OUT_OF_SYNC, at_commit=True, driver="mysqlclient")
def unread_results(case):
    cursor = case.connection.cursor()
    cursor.execute("SELECT 1; SELECT 2")
    case.connection.commit()


# -- Conflicts


@provokes(ErrorNumber.DEADLOCK)
def deadlocked(case):
    deadlock(case.connection, "fault", range(1, 10))


@provokes(
    ErrorNumber.WRITE_CONFLICT,
    set_up=["SET tidb_txn_mode = 'optimistic'"],
    at_commit=True,
)
def write_conflict(case):
    case.execute("UPDATE fault SET u = 21 WHERE id = 1")
    case.observer.execute("UPDATE fault SET u = 22 WHERE id = 1")
    case.connection.commit()


@provokes(
    ErrorNumber.LOCK_WAIT_TIMEOUT, set_up=["SET SESSION innodb_lock_wait_timeout = 1"]
)
def locked_for_too_long(case):
    with locked_row(case):
        case.execute("UPDATE fault SET u = 21 WHERE id = 1")


@provokes(ErrorNumber.LOCK_NOWAIT)
def locked_nowait(case):
    with locked_row(case):
        case.execute("SELECT * FROM fault WHERE id = 1 FOR UPDATE NOWAIT")


@contextmanager
def locked_row(case):
    case.observer.execute("BEGIN PESSIMISTIC")
    case.observer.execute("SELECT * FROM fault WHERE id = 1 FOR UPDATE")
    try:
        yield
    finally:
        case.observer.execute("ROLLBACK")


# -- Uniqueness


@provokes(ErrorNumber.DUPLICATE_KEY)
def duplicate(case):
    case.execute("INSERT INTO fault (id) VALUES (1)")


@provokes(
    ErrorNumber.DUPLICATE_KEY,
    set_up=["SET tidb_txn_mode = 'optimistic'"],
    at_commit=True,
)
def duplicate_at_commit(case):
    case.execute("INSERT INTO fault (id) VALUES (1)")
    case.connection.commit()


LAZY = "SET tidb_constraint_check_in_place_pessimistic = 0"


@provokes(ErrorNumber.LAZY_UNIQUENESS_CHECK, set_up=[LAZY], since=(6, 3))
def duplicate_found_late(case):
    case.execute("INSERT INTO fault (id) VALUES (1)")
    case.execute("UPDATE fault SET u = 21 WHERE id = 1")


@provokes(
    ErrorNumber.ASSERTION_FAILED,
    set_up=[LAZY, "SET tidb_txn_assertion_level = 'STRICT'"],
    since=(6, 3),
    at_commit=True,
)
def duplicate_never_found(case):
    case.execute("INSERT INTO fault (id) VALUES (1)")
    # SELECT FOR UPDATE finds the duplicate, after which the server counts the key as
    # checked.
    with pytest.raises(DatabaseError) as duplicate:
        case.execute("SELECT * FROM fault WHERE id = 1 FOR UPDATE")
    assert find_error(duplicate.value) is ERRORS[ErrorNumber.DUPLICATE_KEY]
    case.connection.commit()


# -- The schema


@provokes(ErrorNumber.SCHEMA_CHANGED, at_commit=True)
def schema_changed(case):
    variable = "tidb_enable_metadata_lock"
    case.observer.execute(f"SHOW GLOBAL VARIABLES LIKE '{variable}'")
    before = case.observer.fetchone()
    case.connection.rollback()
    if before is not None:
        case.observer.execute(f"SET GLOBAL {variable} = OFF")
    try:
        case.execute("INSERT INTO fault (id) VALUES (100)")
        case.observer.execute("ALTER TABLE fault ADD COLUMN added INT DEFAULT 5")
        case.connection.commit()
    finally:
        if before is not None:
            case.observer.execute(f"SET GLOBAL {variable} = %s", [before[1]])


# -- Limits


# TiDB 6.1 answers with the error of KILL QUERY.
@provokes(ErrorNumber.MAX_EXECUTION_TIME, since=(7,))
def takes_too_long(case):
    case.execute(LONG.replace("SELECT", "SELECT /*+ MAX_EXECUTION_TIME(10) */"))


@provokes(ErrorNumber.QUERY_INTERRUPTED)
def query_killed(case):
    connection_id = case.id
    with killer(case, connection_id, f"KILL TIDB QUERY {connection_id}"):
        case.execute(LONG)


# TiDB 7.5 and older versions answer with error 1105.
@provokes(
    ErrorNumber.MEMORY_QUOTA,
    set_up=["SET tidb_mem_quota_query = 1048576"],
    since=(8,),
)
def too_much_memory(case):
    # The server moves a sort to the disk, but not an aggregation with DISTINCT.
    case.execute(
        "SELECT COUNT(DISTINCT CONCAT(a.id, b.id, REPEAT('x', 100000))) "
        "FROM fault a, fault b"
    )


@provokes(ErrorNumber.ENTRY_TOO_LARGE)
def large_row(case):
    case.execute("INSERT INTO fault (id, b) VALUES (50, REPEAT('x', 7 * 1024 * 1024))")


@provokes(
    ErrorNumber.TRANSACTION_TOO_LARGE,
    config="[performance]\ntxn-total-size-limit = 1000000",
)
def large_transaction(case):
    for i in range(30):
        case.execute(
            "INSERT INTO fault (id, b) VALUES (%s, REPEAT('x', 100000))", [50 + i]
        )


@provokes(ErrorNumber.READ_ONLY, since=(5, 2), config="")
def read_only(case):
    case.observer.execute("SET GLOBAL tidb_restricted_read_only = ON")
    try:
        case.execute("UPDATE fault SET u = 21 WHERE id = 1")
    finally:
        case.observer.execute("SET GLOBAL tidb_restricted_read_only = OFF")
        case.observer.execute("SET GLOBAL tidb_super_read_only = OFF")


def is_connected(case, connection_id):
    case.observer.execute(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE id = %s",
        [connection_id],
    )
    return case.observer.fetchone() == (1,)


@contextmanager
def killer(case, connection_id, statement):
    """
    Execute `statement` as soon as the connection has executed LONG for a second. A
    query that is killed before it reads rows can end with error 1105.
    """
    errors = []

    def is_executing():
        case.observer.execute(
            "SELECT COUNT(*) FROM information_schema.processlist "
            "WHERE id = %s AND info LIKE '%%fault l' AND time >= 1",
            [connection_id],
        )
        return case.observer.fetchone() == (1,)

    def kill():
        try:
            wait_for(is_executing, "the query to be executed")
            case.observer.execute(statement)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        assert errors == []


@pytest.mark.parametrize(
    ("number", "provoke", "set_up", "since", "config", "at_commit", "driver"),
    [param for params in PROVOKED.values() for param in params],
)
def test_table_and_server_agree(
    tidb_server,
    another_server,
    number,
    provoke,
    set_up,
    since,
    config,
    at_commit,
    driver,
):
    if driver not in (None, DRIVER.name):
        pytest.skip(f"{DRIVER} does not raise the error {number.name}.")
    version = connections["default"].tidb_version
    if version < since:
        pytest.skip(f"TiDB {version} does not answer with {number.name} here.")
    row = ERRORS[number]
    with ExitStack() as stack:
        server = tidb_server
        if config is not None:
            server = stack.enter_context(another_server(config))
        case = stack.enter_context(open_case(server.host, server.port))
        for statement in (
            "SET tidb_txn_mode = 'pessimistic'",
            *set_up,
        ):
            case.execute(statement)
        case.connection.set_autocommit(False)
        case.execute("INSERT INTO fault (id) VALUES (100)")
        with pytest.raises(Error) as caught:
            provoke(case)
        error = caught.value
        assert find_error(error) is row, error
        assert row.provoked
        is_other = not case.connection.tidb_session.has_raised(error)
        if at_commit:
            assert row.definite
            assert type(error) is not CommitOutcomeUnknown
            assert case.connection.needs_rollback
            if number is ErrorNumber.OUT_OF_SYNC:
                # ROLLBACK cannot be sent either; the connection is closed instead.
                with pytest.raises(ProgrammingError):
                    case.connection.rollback()
            else:
                case.connection.rollback()
            assert not case.is_row_there()
            assert not case.connection.needs_rollback
        else:
            # For these numbers, the case has tried to make another connection, and the
            # error does not belong to the connection of the case.
            assert is_other == (
                number
                in (ErrorNumber.CANNOT_CONNECT, ErrorNumber.CANNOT_CONNECT_TO_SOCKET)
            )
            assert case.connection.needs_rollback == (
                row.left is not Left.ALIVE and not is_other
            )
            assert case.what_is_left() is row.left


def test_every_row_is_provoked_or_says_that_it_is_not():
    assert set(PROVOKED) == {row.number for row in ERRORS.values() if row.provoked}
    assert {number for number, row in ERRORS.items() if not row.provoked} == {
        ErrorNumber.MALFORMED_PACKET,
        ErrorNumber.SERVER_LOST_EXTENDED,
        ErrorNumber.SELECT_FOR_UPDATE_CONFLICT,
        ErrorNumber.STALE_WRITE_CONFLICT,
        ErrorNumber.COMMIT_ROLLED_BACK,
        ErrorNumber.SCHEMA_OUT_OF_DATE,
        ErrorNumber.TRANSACTION_ABORTED,
        ErrorNumber.PD_TIMEOUT,
        ErrorNumber.TIKV_TIMEOUT,
        ErrorNumber.TIKV_BUSY,
        ErrorNumber.RESOLVE_LOCK_TIMEOUT,
        ErrorNumber.REGION_UNAVAILABLE,
    }


def test_rows_are_consistent():
    for number, row in ERRORS.items():
        assert number == row.number
        assert row.name == row.number.name
        assert row.link.startswith("https://")
        assert row.summary.endswith(".")
        # A statement may be repeated alone only if its transaction is still open.
        if row.repeat is Repeat.STATEMENT:
            assert row.left is Left.ALIVE


def test_page_is_up_to_date():
    root = Path(__file__).parents[2]
    script = runpy.run_path(str(root / "scripts" / "errors.py"))
    assert script["PAGE"].read_text() == script["page"](), "run: hatch run docs:errors"


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OperationalError(1213, "Deadlock"), 1213),
        (CommitOutcomeUnknown(2013, "Lost"), 2013),
        (InterfaceError(0, ""), 0),
        # mysqlclient raises this error.
        (OperationalError(2006, ""), 0),
        (OperationalError(2006, "Server has gone away"), 2006),
        # This error does not mean that the connection was lost.
        (OperationalError(0, ""), None),
        (ProgrammingError("not enough arguments for format string"), None),
        (ProgrammingError(1064, "syntax"), None),
        (OperationalError(), None),
        (ValueError(1213), None),
        (KeyError(0), None),
        # PyMySQL raises the first of these errors, and a client library the last.
        (InternalError("Packet sequence number wrong"), 2027),
        (InternalError(1105, "unknown"), None),
        (OperationalError(2012, "Error in server handshake"), 2013),
    ],
    ids=repr,
)
def test_find_error(error, number):
    row = find_error(error)
    assert (row and row.number) == number


def test_unknown_outcome_says_what_to_do():
    error = CommitOutcomeUnknown(2013, "Lost connection.")
    assert isinstance(error, OperationalError)
    assert error.args[0] == 2013
    assert error.args[1] == (
        "Lost connection. It is unknown whether the changes were committed, so they "
        "must not be repeated blindly."
    )
    assert str(CommitOutcomeUnknown()).startswith("(None, 'The connection was lost.")
