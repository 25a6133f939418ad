"""
The decision when a schema editor sends its statements: at once, or gathered.

When create_model(), add_index() and the other methods return, the table or index
exists, as with Django's own backends. Their callers may catch an error, or read the
table with another cursor, connection or thread. However, makemigrations writes the
indexes and constraints of a new table as separate operations, and a separate statement
for each of them takes TiDB several times as long as one statement for all.

A schema editor does not know its caller. Therefore, a caller that does nothing else
between its calls enters :meth:`Gathering.block`, in which statements are gathered.
There are two such callers, both in compat.py: Migration.apply for Django's own
operations, and ``migrate --run-syncdb``. Test databases are created by both of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .pending import Addition, Creation, Pending

if TYPE_CHECKING:
    from .base import DatabaseWrapper

__all__ = ["Gathering"]


class Gathering:
    """The statements that one schema editor has gathered and not sent yet."""

    def __init__(
        self,
        connection: DatabaseWrapper,
        send: Callable[[list[Creation | Addition]], None],
    ) -> None:
        self._connection = connection
        self._send = send
        self._pending = Pending()
        #: The operation whose statements may be gathered, as errors name it.
        self.origin: str | None = None
        # The error of a gathered statement, until the caller of the block has got this
        # error.
        self._failure: Exception | None = None
        self._keeps = False

    @contextmanager
    def block(self, origin: str | None = None) -> Iterator[None]:
        """
        Let statements be gathered in this block, and send the rest at its end.
        After an error the rest is dropped.
        """
        outer = self.origin
        try:
            with self.sent_first():
                self.begin_operation(origin)
                yield
                self.send()
        finally:
            # Statements remain here only after an error; they are dropped.
            self._pending.take()
            self.origin = outer

    def begin_operation(self, origin: str | None) -> None:
        """
        Set the operation to which the next statements of a block belong. None
        means that they must not be gathered.
        """
        if origin is None or self._failure:
            self.send()
        self.origin = origin

    def get(self, table: str) -> Creation | Addition | None:
        """Return the gathered statement about the table of this name in quotes."""
        return self._pending.get(table)

    def add(self, statement: Creation | Addition) -> None:
        if not self._pending.accepts(statement):
            self.send()
        self._pending.add(statement)

    def send(self) -> None:
        """
        Send the gathered statements. If the caller has suppressed their error, raise it
        now.
        """
        if self._failure:
            error, self._failure = self._failure, None
            raise error
        self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._send(self._pending.take())

    def send_addition(self) -> None:
        """
        Send the pending ALTER TABLE, which adds indexes and constraints to one table.
        """
        if self._pending.is_addition or self._failure:
            self.send()

    def drop_addition(self) -> None:
        if self._pending.is_addition:
            self._pending.take()

    @contextmanager
    def sent_first(self) -> Iterator[None]:
        """
        Send the gathered statements before any other statement of the connection, from
        whichever cursor: the fields of an operation may query the gathered tables.
        """

        def wrapper(execute: Callable[..., Any], *args: Any) -> Any:
            if not self._keeps:
                try:
                    self._flush()
                except Exception as error:
                    # The caller may suppress errors of its own statement. This error
                    # belongs to a gathered statement, so it is raised again later.
                    self._failure = error
                    raise
            return execute(*args)

        try:
            with self._connection.execute_wrapper(wrapper):
                yield
        except Exception as error:
            failure, self._failure = self._failure, None
            if failure is not None and failure is not error:
                raise failure from error
            raise

    @contextmanager
    def kept(self) -> Iterator[None]:
        """
        Keep the gathered statements during the queries of this block, which read no
        table.
        """
        outer, self._keeps = self._keeps, True
        try:
            yield
        finally:
            self._keeps = outer
