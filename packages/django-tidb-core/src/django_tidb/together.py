"""
Creation of a test database's tables on several connections at once.

TiDB 8.5 creates tables in one step if their statements arrive at the same time:
https://docs.pingcap.com/tidb/stable/accelerated-table-creation
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from django.db import OperationalError

from .pending import Creation

if TYPE_CHECKING:
    from .base import DatabaseWrapper

__all__ = ["create_together"]

# More connections gain little, because the server creates all requested tables in
# one step.
_CONNECTIONS = 32
# Session variables whose values depend on the last statement or on the time. They
# differ between connections even if the application has set no variable.
_OF_THE_LAST_STATEMENT = (
    *("error_count", "identity", "last_insert_id", "rand_seed1", "rand_seed2"),
    *("tidb_current_ts", "timestamp", "warning_count"),
)

logger = logging.getLogger("django.db.backends.schema")


def create_together(
    connection: DatabaseWrapper, creations: Sequence[Creation]
) -> list[Creation]:
    """
    Send CREATE TABLE statements at the same time on several connections like
    `connection`, if that is faster. Return the statements that were not sent, in their
    order.

    Raises the first error that the server answers; other tables may exist then.
    """
    # If a comment of the table contains these words, the statement is sent later, which
    # has no other effect.
    left = [creation for creation in creations if "FOREIGN KEY" in creation.sql]
    together = [creation for creation in creations if creation not in left]
    if (
        len(together) < 2
        or not connection.features.creates_tables_together
        # An open transaction does not see the tables that other connections create.
        or not connection.get_autocommit()
        or not _is_like_others(connection)
    ):
        return list(creations)
    queue: SimpleQueue[Creation] = SimpleQueue()
    for creation in together:
        queue.put(creation)

    def work(connection: DatabaseWrapper) -> None:
        with connection.cursor() as cursor, suppress(Empty):
            while True:
                creation = queue.get_nowait()
                with creation.named_in_errors():
                    cursor.execute(creation.sql)

    def help_() -> None:
        with closing(connection.copy()) as other:
            if _connects(other):
                work(other)

    count = min(_CONNECTIONS, len(together)) - 1
    with ThreadPoolExecutor(count) as threads:
        helpers = [threads.submit(help_) for _ in range(count)]
        # If none of the helpers can connect, this connection creates all tables.
        work(connection)
    for helper in helpers:
        helper.result()
    for creation in together:
        logger.debug("%s; (params %r)", creation.sql, None)
    return left


def _connects(connection: DatabaseWrapper) -> bool:
    """Connect, and return whether the server accepts one more connection."""
    try:
        connection.ensure_connection()
    except OperationalError as error:
        logger.info("Tables are created by fewer connections: %s", error)
        return False
    return True


def _is_like_others(connection: DatabaseWrapper) -> bool:
    """
    Return whether a new connection has the same session variables as `connection`.
    """

    def variables(connection: DatabaseWrapper) -> set[tuple[str, str]]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT variable_name, variable_value "
                "FROM information_schema.session_variables "
                "WHERE variable_name NOT IN %s "
                "AND variable_name NOT LIKE 'tidb_last_%%'",
                [_OF_THE_LAST_STATEMENT],
            )
            return set(cursor.fetchall())

    with closing(connection.copy()) as other:
        return _connects(other) and variables(other) == variables(connection)
