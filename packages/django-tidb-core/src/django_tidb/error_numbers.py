"""The numbers of the errors that the server and the drivers answer with."""

from __future__ import annotations

from enum import IntEnum, unique

__all__ = ["ErrorNumber"]


@unique
class ErrorNumber(IntEnum):
    """
    The number of an error, which is the first argument of the exception.

    Plugins may use it. For numbers that say something about the transaction,
    :data:`django_tidb.errors.ERRORS` has a row. The numbers below 8000 are MySQL's:
    https://dev.mysql.com/doc/mysql-errors/8.0/en/, the others are TiDB's:
    https://docs.pingcap.com/tidb/stable/error-codes
    """

    # The driver's connection had been closed before, so nothing was sent. PyMySQL
    # raises an InterfaceError with this number and without a message.
    CONNECTION_CLOSED = 0
    CANNOT_CONNECT_TO_SOCKET = 2002
    CANNOT_CONNECT = 2003
    UNKNOWN_HOST = 2005
    SERVER_GONE = 2006
    HANDSHAKE_FAILED = 2012
    SERVER_LOST = 2013
    OUT_OF_SYNC = 2014
    TLS_FAILED = 2026
    MALFORMED_PACKET = 2027
    SERVER_LOST_EXTENDED = 2055

    # -- Errors of the server for statements that it refuses
    TOO_MANY_CONNECTIONS = 1040
    NO_DATABASE_SELECTED = 1046
    TABLE_EXISTS = 1050
    NO_TABLE_TO_DROP = 1051
    SERVER_SHUTDOWN = 1053
    UNKNOWN_COLUMN = 1054
    DUPLICATE_COLUMN = 1060
    DUPLICATE_KEY_NAME = 1061
    DUPLICATE_KEY = 1062
    SYNTAX = 1064
    NO_INDEX_TO_DROP = 1091
    UNKNOWN = 1105
    NO_SUCH_TABLE = 1146
    NO_SUCH_INDEX = 1176
    FULLTEXT_NOT_SUPPORTED = 1214
    #: A privilege is missing.
    ACCESS_DENIED = 1227
    #: A function, a procedure or a savepoint that does not exist.
    DOES_NOT_EXIST = 1305
    ROUTINE_ACCESS_DENIED = 1370
    DEFAULT_NOT_CONSTANT = 1674
    DUPLICATE_FOREIGN_KEY = 1826
    GENERATED_COLUMN_NOT_SUPPORTED = 3106
    GENERATED_COLUMN_DEPENDS = 3108
    DUPLICATE_CHECK = 3822
    #: A privilege for an administrative statement is missing.
    PRIVILEGE_CHECK_FAILED = 8121
    DDL_NOT_SUPPORTED = 8200

    # -- Errors of the server about a transaction
    LOCK_WAIT_TIMEOUT = 1205
    DEADLOCK = 1213
    QUERY_INTERRUPTED = 1317
    READ_ONLY = 1836
    MAX_EXECUTION_TIME = 3024
    LOCK_NOWAIT = 3572
    SELECT_FOR_UPDATE_CONFLICT = 8002
    TRANSACTION_TOO_LARGE = 8004
    STALE_WRITE_CONFLICT = 8005
    COMMIT_ROLLED_BACK = 8022
    ENTRY_TOO_LARGE = 8025
    SCHEMA_OUT_OF_DATE = 8027
    SCHEMA_CHANGED = 8028
    ASSERTION_FAILED = 8141
    LAZY_UNIQUENESS_CHECK = 8147
    MEMORY_QUOTA = 8175
    TRANSACTION_ABORTED = 8229
    PD_TIMEOUT = 9001
    TIKV_TIMEOUT = 9002
    TIKV_BUSY = 9003
    RESOLVE_LOCK_TIMEOUT = 9004
    REGION_UNAVAILABLE = 9005
    WRITE_CONFLICT = 9007
