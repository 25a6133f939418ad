"""The server variables that the backend reads."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import DatabaseWrapper

__all__ = ["ServerVariables"]

# Older servers lack some of these variables.
_NAMES = (
    "allow_auto_random_explicit_insert",
    "collation_database",
    "default_storage_engine",
    "foreign_key_checks",
    "lower_case_table_names",
    "sql_auto_is_null",
    "sql_mode",
    "tidb_allow_remove_auto_inc",
    "tidb_enable_check_constraint",
    "tidb_enable_clustered_index",
    "tidb_enable_fast_create_table",
    "tidb_enable_noop_functions",
    "tidb_txn_mode",
    "time_zone",
    "transaction_isolation",
)


class ServerVariables(Mapping[str, str]):
    """
    The values of server variables in the session of one connection, as strings.

    The first access reads all of them in one statement, and the values are kept
    until :meth:`refresh` is called. A variable that the server does not have is
    missing. The name ``has_zoneinfo_database``, which is no variable, stands for
    "1" if the server has time zone tables, and otherwise for "0".
    """

    def __init__(self, connection: DatabaseWrapper) -> None:
        # The connection refers to this object, so a weak reference avoids a cycle.
        # Without a cycle, Python frees both as soon as the connection is no longer
        # used.
        self._connection: Any = weakref.proxy(connection)
        self._values: dict[str, str] = {}
        self._is_stale = True

    def refresh(self) -> None:
        """Read the variables again on the next access."""
        self._is_stale = True

    def cancel_refresh(self) -> None:
        """
        Keep the values that were read before :meth:`refresh` was called, if
        there has been no access since.
        """
        self._is_stale = not self._values

    @contextmanager
    def without_refresh(self) -> Iterator[None]:
        """
        During this block, use the values that were read last, even if
        :meth:`refresh` has been called since. If no values have been read yet, an
        access reads them.
        """
        was_stale = self._is_stale
        self.cancel_refresh()
        reads = self._is_stale
        try:
            yield
        finally:
            if not reads:
                self._is_stale = was_stale

    def __getitem__(self, name: str) -> str:
        return self._current()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    def _current(self) -> dict[str, str]:
        if self._is_stale:
            self._values = self._read()
            self._is_stale = False
        return self._values

    def _read(self) -> dict[str, str]:
        with self._connection.temporary_connection() as cursor:
            # CONVERT_TZ returns NULL if the server's time zone tables are empty.
            cursor.execute(
                "SELECT variable_name, variable_value "
                "FROM information_schema.session_variables "
                "WHERE variable_name IN %s "
                "UNION ALL SELECT 'has_zoneinfo_database', "
                "CONVERT_TZ('2001-01-01 01:00:00', 'UTC', 'UTC') IS NOT NULL",
                [_NAMES],
            )
            return dict(sorted(cursor.fetchall()))
