"""
A table of errors: for each error, the state of the transaction afterwards, and the work
that may be repeated.

The backend and :mod:`django_tidb.transaction` follow this table, and the page
``docs/ref/errors.md`` is generated from it. For every error that can be provoked on a
server, a test compares the row with the server's behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from django.db import DatabaseError, InterfaceError, InternalError, OperationalError

from .error_numbers import ErrorNumber

__all__ = [
    "ERRORS",
    "CommitOutcomeUnknown",
    "Left",
    "Repeat",
    "ServerError",
    "find_error",
    "is_connection_lost",
]

_DOCS = "https://docs.pingcap.com/tidb/stable"
_CODES = f"{_DOCS}/error-codes"
_MYSQL = "https://dev.mysql.com/doc/mysql-errors/8.0/en"


class Left(Enum):
    """The state of a transaction after one of its statements has failed."""

    #: The transaction goes on without the statement that failed.
    ALIVE = "alive"
    #: The server has rolled back the whole transaction; the connection works.
    ROLLED_BACK = "rolled back"
    #: The connection is lost, and the server rolls back the whole transaction.
    GONE = "gone with the connection"


class Repeat(Enum):
    """The work that may be repeated after an error that did not answer a COMMIT."""

    #: The whole transaction from its beginning, after a ROLLBACK.
    TRANSACTION = "the transaction"
    #: The statement alone may be repeated as well, if the application chooses to.
    STATEMENT = "the statement"
    #: Nothing may be repeated, because the same error would follow.
    NEVER = "nothing"


@dataclass(frozen=True)
class ServerError:
    """One error of the server or the driver that a transaction can meet."""

    number: ErrorNumber
    #: One sentence: when the error is raised.
    summary: str
    left: Left
    repeat: Repeat
    #: The documentation of TiDB or MySQL.
    link: str
    #: Whether this error means for certain that nothing was committed, when it answers
    #: a COMMIT or a write that commits by itself.
    definite: bool = True
    #: Whether a test makes a server or a driver raise this error.
    provoked: bool = True

    @property
    def name(self) -> str:
        """The name of the error, such as DEADLOCK."""
        return self.number.name


class CommitOutcomeUnknown(OperationalError):
    """
    It is unknown whether the server has committed.

    There are two causes. The connection was lost after the driver had sent COMMIT or a
    statement that commits by itself, or the server answered such a statement with an
    error that does not show whether it has committed.

    The first argument is the number of the original error, which is the ``__cause__``.
    The application has to check whether its changes are there before it repeats them.
    """

    def __init__(self, *args: object) -> None:
        number, *rest = args or (None,)
        message = " ".join(map(str, rest)).rstrip(". ")
        super().__init__(
            number,
            f"{message or 'The connection was lost'}. It is unknown whether the "
            "changes were committed, so they must not be repeated blindly.",
        )


def _table(*errors: ServerError) -> dict[int, ServerError]:
    return {int(error.number): error for error in errors}


#: The errors, by their numbers. An error that is not in the table leaves the
#: transaction alive if it answers a statement, and does not say whether the
#: transaction was committed if it answers a COMMIT; see :func:`find_error`.
ERRORS: Mapping[int, ServerError] = _table(
    # -- The connection
    ServerError(
        ErrorNumber.CONNECTION_CLOSED,
        "The driver's connection was closed before the statement, which was not sent. "
        "PyMySQL raises an InterfaceError, mysqlclient error 2006 without a message.",
        Left.GONE,
        Repeat.TRANSACTION,
        "https://pymysql.readthedocs.io/en/latest/modules/connections.html",
    ),
    ServerError(
        ErrorNumber.CANNOT_CONNECT_TO_SOCKET,
        "No connection could be made through a Unix socket. The client library of "
        "MariaDB uses this number for TCP too.",
        Left.GONE,
        Repeat.TRANSACTION,
        f"{_MYSQL}/client-error-reference.html",
    ),
    ServerError(
        ErrorNumber.CANNOT_CONNECT,
        "No connection could be made: the server does not run, or is shutting down.",
        Left.GONE,
        Repeat.TRANSACTION,
        f"{_MYSQL}/client-error-reference.html",
    ),
    ServerError(
        ErrorNumber.SERVER_GONE,
        "The connection was found closed when the statement was sent.",
        Left.GONE,
        Repeat.TRANSACTION,
        f"{_MYSQL}/client-error-reference.html",
        definite=False,
    ),
    ServerError(
        ErrorNumber.SERVER_LOST,
        "The connection was lost before the answer had arrived. The server also closes "
        "it on KILL, after tidb_idle_transaction_timeout, and if it cannot tell the "
        "result of a COMMIT itself.",
        Left.GONE,
        Repeat.TRANSACTION,
        f"{_MYSQL}/client-error-reference.html",
        definite=False,
    ),
    ServerError(
        ErrorNumber.OUT_OF_SYNC,
        "Results of an earlier statement have not been read, so the statement was not "
        "sent. PyMySQL reads them instead.",
        Left.ALIVE,
        Repeat.NEVER,
        f"{_MYSQL}/client-error-reference.html",
    ),
    ServerError(
        ErrorNumber.MALFORMED_PACKET,
        "The driver did not understand the answer, and closed the connection. PyMySQL "
        "raises an InternalError without a number.",
        Left.GONE,
        Repeat.TRANSACTION,
        f"{_MYSQL}/client-error-reference.html",
        definite=False,
        provoked=False,
    ),
    ServerError(
        ErrorNumber.SERVER_LOST_EXTENDED,
        "The connection was lost; MySQL's client library names the system's error.",
        Left.GONE,
        Repeat.TRANSACTION,
        f"{_MYSQL}/client-error-reference.html",
        definite=False,
        provoked=False,
    ),
    # -- Conflicts with other transactions
    ServerError(
        ErrorNumber.DEADLOCK,
        "A pessimistic transaction would wait for one that waits for it. The "
        "savepoints are gone too.",
        Left.ROLLED_BACK,
        Repeat.TRANSACTION,
        f"{_DOCS}/pessimistic-transaction",
    ),
    ServerError(
        ErrorNumber.WRITE_CONFLICT,
        "Another transaction has changed a row; in an optimistic transaction the error "
        "answers the COMMIT.",
        Left.ROLLED_BACK,
        Repeat.TRANSACTION,
        f"{_DOCS}/optimistic-transaction",
    ),
    ServerError(
        ErrorNumber.LOCK_WAIT_TIMEOUT,
        "A row was locked for longer than innodb_lock_wait_timeout.",
        Left.ALIVE,
        Repeat.TRANSACTION,
        f"{_DOCS}/pessimistic-transaction",
    ),
    ServerError(
        ErrorNumber.LOCK_NOWAIT,
        "A row is locked, and the statement has NOWAIT.",
        Left.ALIVE,
        Repeat.STATEMENT,
        f"{_DOCS}/sql-statement-select",
    ),
    ServerError(
        ErrorNumber.SELECT_FOR_UPDATE_CONFLICT,
        "An optimistic transaction with SELECT ... FOR UPDATE met a conflict.",
        Left.ROLLED_BACK,
        Repeat.TRANSACTION,
        _CODES,
        provoked=False,
    ),
    ServerError(
        ErrorNumber.STALE_WRITE_CONFLICT,
        "The transaction is older than a conflicting one.",
        Left.ROLLED_BACK,
        Repeat.TRANSACTION,
        _CODES,
        provoked=False,
    ),
    ServerError(
        ErrorNumber.COMMIT_ROLLED_BACK,
        "The COMMIT failed, and the server has rolled back.",
        Left.ROLLED_BACK,
        Repeat.TRANSACTION,
        _CODES,
        provoked=False,
    ),
    ServerError(
        ErrorNumber.TRANSACTION_ABORTED,
        "The server has given up the transaction, for example because it was open for "
        "too long.",
        Left.ROLLED_BACK,
        Repeat.TRANSACTION,
        _CODES,
        provoked=False,
    ),
    # -- Uniqueness
    ServerError(
        ErrorNumber.DUPLICATE_KEY,
        "A unique key exists already. In an optimistic transaction the error answers "
        "the COMMIT, and the transaction is rolled back.",
        Left.ALIVE,
        Repeat.NEVER,
        f"{_DOCS}/constraints#unique-key",
    ),
    ServerError(
        ErrorNumber.LAZY_UNIQUENESS_CHECK,
        "A unique key that was not checked at first, because "
        "tidb_constraint_check_in_place_pessimistic is OFF, exists already.",
        Left.ROLLED_BACK,
        Repeat.NEVER,
        f"{_DOCS}/constraints#pessimistic-transactions",
    ),
    ServerError(
        ErrorNumber.ASSERTION_FAILED,
        "The storage is not in the state that the transaction expects, for example a "
        "unique key that was not checked at first exists already. The error answers "
        "the COMMIT.",
        Left.ROLLED_BACK,
        Repeat.NEVER,
        f"{_DOCS}/system-variables#tidb_txn_assertion_level-new-in-v600",
    ),
    # -- Changes of the schema
    ServerError(
        ErrorNumber.SCHEMA_OUT_OF_DATE,
        "This server does not know the newest schema.",
        Left.ROLLED_BACK,
        Repeat.TRANSACTION,
        _CODES,
        provoked=False,
    ),
    ServerError(
        ErrorNumber.SCHEMA_CHANGED,
        "A table of the transaction was changed by DDL while tidb_enable_metadata_lock "
        "is OFF. The error answers the COMMIT.",
        Left.ROLLED_BACK,
        Repeat.TRANSACTION,
        f"{_DOCS}/metadata-lock",
    ),
    # -- Limits
    ServerError(
        ErrorNumber.MAX_EXECUTION_TIME,
        "A SELECT took longer than max_execution_time.",
        Left.ALIVE,
        Repeat.NEVER,
        f"{_DOCS}/system-variables#max_execution_time",
    ),
    ServerError(
        ErrorNumber.QUERY_INTERRUPTED,
        "The statement was ended by KILL QUERY.",
        Left.ALIVE,
        Repeat.NEVER,
        f"{_DOCS}/sql-statement-kill",
    ),
    ServerError(
        ErrorNumber.MEMORY_QUOTA,
        "The statement needs more memory than tidb_mem_quota_query.",
        Left.ALIVE,
        Repeat.NEVER,
        f"{_DOCS}/configure-memory-usage",
    ),
    ServerError(
        ErrorNumber.ENTRY_TOO_LARGE,
        "A row is larger than txn-entry-size-limit.",
        Left.ALIVE,
        Repeat.NEVER,
        _CODES,
    ),
    ServerError(
        ErrorNumber.TRANSACTION_TOO_LARGE,
        "The transaction is larger than txn-total-size-limit.",
        Left.ALIVE,
        Repeat.NEVER,
        _CODES,
    ),
    ServerError(
        ErrorNumber.READ_ONLY,
        "The server is read-only.",
        Left.ALIVE,
        Repeat.NEVER,
        f"{_DOCS}/system-variables#tidb_restricted_read_only-new-in-v520",
    ),
    # -- The cluster
    *(
        ServerError(
            number,
            summary,
            Left.ROLLED_BACK,
            Repeat.TRANSACTION,
            _CODES,
            definite=False,
            provoked=False,
        )
        for number, summary in (
            (ErrorNumber.PD_TIMEOUT, "The placement driver (PD) did not answer."),
            (ErrorNumber.TIKV_TIMEOUT, "The storage (TiKV) did not answer."),
            (ErrorNumber.TIKV_BUSY, "The storage (TiKV) is overloaded."),
            (
                ErrorNumber.RESOLVE_LOCK_TIMEOUT,
                "The lock of another transaction could not be removed in time. A write "
                "that commits by itself waits for a lock until this error.",
            ),
            (ErrorNumber.REGION_UNAVAILABLE, "A part of the storage is unavailable."),
        )
    ),
)

# The numbers of MySQL's client library; the drivers raise them themselves.
_CLIENT_ERRORS = range(2000, 3000)


def find_error(error: BaseException) -> ServerError | None:
    """
    Return the row of :data:`ERRORS` for an exception of Django's, or None if the
    error says nothing about the transaction.

    An error of a driver that has no row in the table counts as a lost connection, and
    so does an answer of the server that the driver cannot decode.
    """
    if not isinstance(error, DatabaseError | InterfaceError):
        return None
    number = error.args[0] if error.args else None
    # PyMySQL raises InternalError without a number.
    if isinstance(error, InternalError) and not isinstance(number, int):
        return ERRORS[ErrorNumber.MALFORMED_PACKET]
    if not isinstance(number, int):
        return None
    # With this number and an empty message, mysqlclient reports that the connection had
    # been closed before.
    if number == ErrorNumber.SERVER_GONE and error.args[1:] == ("",):
        return ERRORS[ErrorNumber.CONNECTION_CLOSED]
    # The drivers report a closed connection as an InterfaceError. Other errors with the
    # number 0 are not about a closed connection.
    if number == ErrorNumber.CONNECTION_CLOSED and not isinstance(
        error, InterfaceError
    ):
        return None
    if number in _CLIENT_ERRORS and number not in ERRORS:
        return ERRORS[ErrorNumber.SERVER_LOST]
    return ERRORS.get(number)


def is_connection_lost(error: BaseException) -> bool:
    """Return whether the connection was lost with `error`, an exception of Django's."""
    row = find_error(error)
    return row is not None and row.left is Left.GONE
