"""
Explicit ids for AUTO_RANDOM keys: ids that the client chooses.

TiDB refuses explicit ids unless the session variable
``allow_auto_random_explicit_insert`` is on. Then TiDB accepts every id that fits in a
BIGINT: even an id outside of the key's range, and an id after which TiDB has no ids
left to draw (error 8059).
https://docs.pingcap.com/tidb/stable/auto-random#explicit-insertion
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, Error, NotSupportedError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql import InsertQuery
from django.db.utils import DataError

from django_tidb import is_tidb

from .fields import BigAutoRandomField
from .options import is_auto_random

if TYPE_CHECKING:
    from django.db.models.sql import UpdateQuery

    from django_tidb.base import DatabaseWrapper

__all__ = ["EXPLICIT_ID_SHARE", "allow_explicit_ids", "check_write", "loading"]

#: The share of the id space that one explicit id may use up without a warning.
EXPLICIT_ID_SHARE = 0.1

# The attribute of a connection that holds its active _Permission.
_PERMISSION = "_tidb_explicit_ids"


class _Permission:
    """
    The permission for explicit ids on one connection: the session variable is set while
    a block runs.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self.stack = ExitStack()
        # The driver's connection for which the variable is set. Django may open a new
        # connection inside the block.
        self.switched_on: Any = None

    def take(self) -> None:
        self.connection.ensure_connection()
        if self.switched_on is not self.connection.connection:
            self.stack.enter_context(
                self.connection.session_variables(allow_auto_random_explicit_insert=1)
            )
            self.switched_on = self.connection.connection

    def give_back(self) -> None:
        try:
            self.stack.close()
        except Error:
            # A session in which the variable stays on must not be reused.
            self.connection.close()


@contextmanager
def _permission(connection: BaseDatabaseWrapper, now: bool) -> Iterator[None]:
    if not is_tidb(connection) or getattr(connection, _PERMISSION, None):
        if now and is_tidb(connection):
            getattr(connection, _PERMISSION).take()
        yield
        return
    permission = _Permission(connection)
    if now:
        permission.take()
    setattr(connection, _PERMISSION, permission)
    try:
        yield
    finally:
        delattr(connection, _PERMISSION)
        permission.give_back()


@contextmanager
def allow_explicit_ids(using: str | None = None) -> Iterator[None]:
    """
    Allow the code in this block to insert explicit ids into AUTO_RANDOM tables
    of the database `using` (the default database if it is None).

    Sets ``allow_auto_random_explicit_insert`` in the session of this thread,
    and restores it at the end of the block, also after an error. Asynchronous
    methods, such as ``acreate()``, use the session of another thread. If Django
    opens a new session inside the block, the variable is set in it before its
    first explicit id. Blocks may be nested. On other databases the block has no
    effect.
    """
    with _permission(connections[using or DEFAULT_DB_ALIAS], now=True):
        yield


@contextmanager
def loading(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """
    Allow explicit ids while fixtures are loaded. Unlike
    :func:`allow_explicit_ids`, this context manager sets the variable only when
    a row with an explicit id is inserted.
    """
    with _permission(connection, now=False):
        yield


def check_write(query: InsertQuery | UpdateQuery, connection: DatabaseWrapper) -> None:
    """
    Check the explicit ids of an InsertQuery or UpdateQuery before the query is
    sent.

    Raises ``NotSupportedError`` if the session does not allow explicit ids, and
    ``DataError`` if an id is outside of the key's range. If the table in the
    database has no AUTO_RANDOM key yet, a warning takes the place of either
    error. Also warns if an id that is not refused uses up more than
    :data:`EXPLICIT_ID_SHARE` of the id space.
    """
    field = query.get_meta().auto_field
    if not isinstance(field, BigAutoRandomField):
        return
    if isinstance(query, InsertQuery):
        if field not in query.fields:
            return
        values = [getattr(obj, field.attname) for obj in query.objs]
    else:
        values = [value for changed, _, value in query.values if changed == field]
    values = [value for value in values if value is not None]
    if not values:
        return
    # Ids that are expressions are computed by the server, so they cannot be checked.
    known = [value for value in values if not hasattr(value, "resolve_expression")]
    refusal: Error | None = _check_range(field, known, connection)
    if refusal is None and isinstance(query, InsertQuery):
        refusal = _check_permission(field, values[0], connection)
    if refusal is None:
        _check_share(field, known, connection)
        return
    table = query.get_meta().db_table
    if is_auto_random(connection, table):
        raise refusal
    warnings.warn(
        f"{field.model._meta.label}.{field.name} is an AUTO_RANDOM key, but that of "
        f"the table {table!r} in the database {connection.alias!r} is not yet: a "
        "migration is pending. Until it has run, the table takes any id.",
        RuntimeWarning,
        stacklevel=2,
    )


def _check_permission(
    field: BigAutoRandomField, value: Any, connection: BaseDatabaseWrapper
) -> NotSupportedError | None:
    """Return the error for the id `value` if the session does not allow it, or None."""
    permission: _Permission | None = getattr(connection, _PERMISSION, None)
    if permission is not None:
        permission.take()
        return None
    # The project may have set the variable without allow_explicit_ids().
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@SESSION.allow_auto_random_explicit_insert")
        if cursor.fetchone()[0]:
            return None
    return NotSupportedError(
        f"{field.model._meta.label}.{field.name} is an AUTO_RANDOM key, whose ids "
        f"TiDB draws; a row with the id {value!r} is refused. Leave the id out, or "
        "insert the row in a block of "
        f"django_tidb_autorandom.allow_explicit_ids(using={connection.alias!r}). "
        "Around code that is not yours, the block can stand in a middleware, or in a "
        "view that calls the other one. It allows ids only in its own thread, and "
        "asynchronous methods such as acreate() use another one: put the block and a "
        "synchronous method into a function, and call that with sync_to_async()."
    )


def _check_range(
    field: BigAutoRandomField, values: Iterable[Any], connection: BaseDatabaseWrapper
) -> DataError | None:
    """Return the error for the first value that is out of range, or None."""
    _, range_bits = field.bits(connection)
    largest = 2 ** (range_bits - 1) - 1
    for value in values:
        number = field.get_prep_value(value)
        if number == 0 or not -largest - 1 <= number <= largest:
            return DataError(
                f"{field.model._meta.label}.{field.name} cannot have the id "
                f"{value!r}: with a range of {range_bits} bits ids are from "
                f"{-largest - 1} to {largest}, without 0."
            )
    return None


def _check_share(
    field: BigAutoRandomField, values: Iterable[Any], connection: BaseDatabaseWrapper
) -> None:
    """Warn if an id uses up more than :data:`EXPLICIT_ID_SHARE` of the id space."""
    shard_bits, range_bits = field.bits(connection)
    counters = 2 ** (range_bits - 1 - shard_bits) - 1
    used, by = 0, None
    for value in values:
        number = field.get_prep_value(value)
        # The server draws ids above the largest positive explicit id; negative ids do
        # not matter.
        if number > 0 and number & counters > used:
            used, by = number & counters, number
    if used > counters * EXPLICIT_ID_SHARE:
        warnings.warn(
            f"The id {by} of {field.model._meta.label} uses up {used / counters:.1%} "
            "of the ids that TiDB can draw for the table: it goes on above the "
            "largest. When none is left, inserts fail with error 8059.",
            RuntimeWarning,
            stacklevel=3,
        )
