"""
The outcome of transactions: rolled back by the server, committed, or unknown.

Each error of the server and the driver passes through :class:`ErrorWrapper`, which
looks up its effect on the transaction in :data:`django_tidb.errors.ERRORS`. The object
``connection.tidb_session`` holds all state that a connection needs for this.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from types import TracebackType
from typing import Any
from weakref import WeakSet

from django.db import DatabaseError, Error, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property

from .error_numbers import ErrorNumber
from .errors import CommitOutcomeUnknown, Left, find_error, is_connection_lost
from .kinds import NOTHING, Effect

__all__ = ["ErrorWrapper", "OutcomeMixin", "Point", "Session", "Transaction"]

logger = logging.getLogger("django.db.backends")

# The effect of COMMIT, and of SET autocommit = 1 while a transaction is open.
_COMMIT = Effect(commits=True)


class Point(Enum):
    """The point that an outermost transaction has reached."""

    #: The server has not acknowledged the statement that begins the transaction.
    NOT_BEGUN = "not begun"
    #: The transaction has begun, and COMMIT has not been sent.
    BEGUN = "begun"
    #: COMMIT has been sent, and has not been acknowledged.
    COMMIT_SENT = "COMMIT sent"
    #: COMMIT has been acknowledged.
    COMMITTED = "committed"


class Transaction:
    """
    One outermost transaction of a connection, either the open one or the last one.
    """

    __slots__ = (
        "ended_by",
        "is_block",
        "is_rollback_wanted",
        "is_split",
        "outer",
        "point",
        "raised",
    )

    def __init__(self, point: Point = Point.NOT_BEGUN) -> None:
        self.point = point
        #: Whether an atomic() block began the transaction, so that it ends with the
        #: block.
        self.is_block = False
        #: The error with which the server has ended the transaction, or after which it
        #: is unknown whether COMMIT has ended it.
        self.ended_by: BaseException | None = None
        #: Whether a statement in the transaction, such as DDL, has committed the
        #: statements before it.
        self.is_split = False
        #: Whether set_rollback() was called for the outermost block.
        self.is_rollback_wanted = False
        #: The exception that was being handled when the transaction began.
        self.outer: BaseException | None = None
        #: The errors that the connection has raised since the transaction began, as
        #: weak references, so that their tracebacks can be freed.
        self.raised: WeakSet[BaseException] = WeakSet()

    @property
    def is_connection_lost(self) -> bool:
        """Whether the transaction has ended because the connection was lost."""
        return self.ended_by is not None and is_connection_lost(self.ended_by)

    @property
    def message(self) -> str:
        """A sentence without a full stop that says how the transaction has ended."""
        args = self.ended_by.args if self.ended_by else ()
        described = f"error {' '.join(map(str, args))}".rstrip(".")
        if isinstance(self.ended_by, CommitOutcomeUnknown):
            return f"The transaction has ended with an unknown outcome: {described}"
        if self.is_connection_lost:
            return (
                "The connection was lost, and with it the whole transaction, which the "
                f"server rolls back: {described}"
            )
        return f"The server has rolled back the whole transaction: {described}"


class Session:
    """The state of a connection that affects the outcome of its statements."""

    __slots__ = (
        "effect",
        "lost",
        "manual",
        "pending",
        "personal",
        "transaction",
        "unreported",
    )

    def __init__(self) -> None:
        #: The open outermost transaction, or the last one if none is open. A new object
        #: is assigned when another transaction begins.
        self.transaction = Transaction()
        #: The effect of the last statement that was sent.
        self.effect = NOTHING
        #: The effect of a string with several statements while the driver has not read
        #: all of the answers to them.
        self.pending = NOTHING
        #: Whether the application has set state of the session, such as variables or
        #: locks of GET_LOCK(), that a new connection would not have.
        self.personal = False
        #: The error with which a session with such state was lost, until the
        #: application has got this error.
        self.lost: BaseException | None = None
        #: Whether a connection that replaces a lost one has to switch autocommit off,
        #: because the application had switched it off.
        self.manual = False
        #: The transaction of the block that is being left, if the server has ended the
        #: transaction and the block has not raised an error because of that.
        self.unreported: Transaction | None = None

    @property
    def point(self) -> Point:
        """The point that the transaction has reached."""
        return self.transaction.point

    def has_raised(self, error: BaseException) -> bool:
        """
        Return whether this connection has raised `error`, an exception of Django's,
        since the outermost transaction began.
        """
        return error in self.transaction.raised


class ErrorWrapper(DatabaseErrorWrapper):
    """
    Converts errors of the driver to Django's errors, and notes their effect on the
    transaction.
    """

    wrapper: OutcomeMixin

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            return
        try:
            super().__exit__(exc_type, exc_value, traceback)
        except Error as error:
            if not self.wrapper._note(error):
                raise
            unknown = CommitOutcomeUnknown(*error.args)
            self.wrapper._note_unknown(unknown, error)
            raise unknown from error


class OutcomeMixin(BaseDatabaseWrapper):
    """
    The part of a connection that knows the outcome of transactions.

    - A transaction that the server has rolled back stays marked for rollback until
      the outermost block has ended: :attr:`needs_rollback`.
    - An error that answers a COMMIT, or a write that commits by itself, becomes a
      :exc:`~.errors.CommitOutcomeUnknown` unless it is certain that nothing was
      committed.
    - A connection that is lost after COMMIT was acknowledged is replaced.
    """

    #: The driver's connection, or None.
    connection: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.tidb_session = Session()
        self._is_connecting = False
        super().__init__(*args, **kwargs)

    @cached_property
    def wrap_database_errors(self) -> ErrorWrapper:
        return ErrorWrapper(self)

    # -- The effect of an error

    def _note(self, error: BaseException) -> bool:
        """
        Note an error that this connection raises. Return whether it is unknown
        whether the statement has committed.
        """
        session = self.tidb_session
        transaction = session.transaction
        transaction.raised.add(error)
        if self.connection is None or self._is_connecting:
            # The error happened while connecting, so no statement of the application
            # was sent.
            return False
        row = find_error(error)
        if session.effect is _COMMIT:
            transaction.ended_by = error
            return row is None or not row.definite
        effect = session.effect | session.pending
        if self.autocommit:
            commits = effect.writes or effect.commits
        else:
            commits = effect.commits
            if row is not None and row.left is not Left.ALIVE:
                # The first error is the cause of the later ones.
                transaction.ended_by = transaction.ended_by or error
        return commits and row is not None and not row.definite

    def _note_unknown(self, unknown: CommitOutcomeUnknown, cause: Error) -> None:
        transaction = self.tidb_session.transaction
        transaction.raised.add(unknown)
        if transaction.ended_by is cause or not self.autocommit:
            transaction.ended_by = unknown

    @property
    def needs_rollback(self) -> bool:
        """
        Whether the transaction can only be rolled back. It cannot be set to False
        if the server has already rolled back the whole transaction.
        """
        return (
            self._needs_rollback or self.tidb_session.transaction.ended_by is not None
        )

    @needs_rollback.setter
    def needs_rollback(self, value: bool) -> None:
        self._needs_rollback = value

    @contextmanager
    def ignoring_ended_transaction(self) -> Iterator[None]:
        """
        Allow statements in this block although the server has rolled back the
        transaction. The statements must not depend on the transaction.
        """
        transaction = self.tidb_session.transaction
        ended_by, transaction.ended_by = transaction.ended_by, None
        try:
            yield
        finally:
            transaction.ended_by = transaction.ended_by or ended_by

    def set_rollback(self, rollback: bool) -> None:
        super().set_rollback(rollback)
        # In a nested block, set_rollback() concerns only the savepoint of the block.
        if not any(self.savepoint_ids):
            self.tidb_session.transaction.is_rollback_wanted = rollback

    def validate_no_broken_transaction(self) -> None:
        if not self.needs_rollback:
            return
        self._refuse_ended_transaction()
        super().validate_no_broken_transaction()

    def _refuse_ended_transaction(self) -> None:
        """
        Raise ``TransactionManagementError`` if the server has ended the transaction.
        """
        transaction = self.tidb_session.transaction
        if (error := transaction.ended_by) is None:
            return
        if any(getattr(b, "_from_testcase", False) for b in self.atomic_blocks):
            rest = (
                "This includes the data of setUpTestData(), so no test of this "
                "TestCase can go on. Use a TransactionTestCase for tests that meet "
                "such errors"
            )
        elif transaction.is_block or self.in_atomic_block:
            rest = "Nothing can be executed before the outermost atomic() has ended"
        else:
            rest = "Nothing can be executed before rollback()"
        raise TransactionManagementError(f"{transaction.message}. {rest}.") from error

    # -- The life of a connection

    def connect(self) -> None:
        session = self.tidb_session
        if (lost := session.lost) is not None:
            session.lost = None
            raise self._loss_of_state(lost) from lost
        self._begin()
        self._is_connecting = True
        try:
            super().connect()
        except BaseException:
            # A connection that was not set up completely must not be used.
            self._discard()
            raise
        finally:
            self._is_connecting = False
        # The backend and the receivers of connection_created set session state for
        # each new connection, so this state is not the application's own.
        session.personal = False
        session.pending = NOTHING
        if session.manual and self.autocommit:
            self.set_autocommit(False)
        session.manual = False

    def close(self) -> None:
        session = self.tidb_session
        session.lost = None
        session.manual = False
        super().close()

    def _loss_of_state(self, error: BaseException) -> OperationalError:
        """Return the error that reports the loss of the session because of `error`."""
        return OperationalError(
            error.args[0] or ErrorNumber.SERVER_LOST.value,
            f"The database connection {self.alias!r} was lost outside of a "
            "transaction, and with it what the application had set in the session, "
            "such as variables, temporary tables or locks of GET_LOCK(). The next "
            "statement uses a new connection.",
        )

    def _close(self) -> None:
        # If the connection is already closed, the drivers raise an error, which would
        # hide the error with which the connection was lost.
        if self.connection is not None:
            with suppress(self.Database.Error):
                self.connection.close()

    def _discard(self) -> None:
        """Close the connection, because its state is unknown."""
        self._close()
        self.connection = None
        if self.tidb_session.point is not Point.COMMITTED:
            self.run_on_commit: list[Any] = []

    # -- The life of a transaction

    @property
    def _is_manual(self) -> bool:
        """Whether the application has switched autocommit off."""
        return not self.autocommit and not self.tidb_session.transaction.is_block

    def _begin(self, point: Point = Point.NOT_BEGUN) -> None:
        self.tidb_session.transaction = Transaction(point)

    def set_autocommit(
        self,
        autocommit: bool,
        force_begin_transaction_with_broken_autocommit: bool = False,
    ) -> None:
        session = self.tidb_session
        # Only atomic() passes this argument.
        is_block = force_begin_transaction_with_broken_autocommit
        if not autocommit:
            self.validate_no_atomic_block()
            # An on_commit() hook that raised an error has left this attribute set.
            self.run_commit_hooks_on_set_autocommit_on = False
            self._begin()
            super().set_autocommit(False, is_block)
            # Read the attribute only now: if a connection had to be made, this is a new
            # object.
            transaction = session.transaction
            transaction.is_block = is_block
            transaction.outer = sys.exc_info()[1]
            transaction.point = Point.BEGUN
            return
        if not session.transaction.is_block:
            self._refuse_ended_transaction()
        if self.connection is None and self.settings_dict["AUTOCOMMIT"]:
            # A new connection begins with autocommit, so none is made now. An error
            # while connecting would hide the error that lost the last connection.
            self.validate_no_atomic_block()
            self.autocommit = True
            session.manual = False
            if self.run_commit_hooks_on_set_autocommit_on:
                self.run_and_clear_commit_hooks()
                self.run_commit_hooks_on_set_autocommit_on = False
        else:
            super().set_autocommit(True, is_block)
        ended, session.unreported = session.unreported, None
        if ended is not None and sys.exc_info()[1] is ended.outer:
            raise TransactionManagementError(
                f"{ended.message}. The atomic() block has caught that error and was "
                "left as if it had succeeded, but nothing of it is committed."
            ) from ended.ended_by

    def _set_autocommit(self, autocommit: bool) -> None:
        session = self.tidb_session
        transaction = session.transaction
        # SET autocommit = 1 commits the transaction that is open.
        commits = autocommit and transaction.point is Point.BEGUN
        if commits:
            transaction.point = Point.COMMIT_SENT
        session.effect = _COMMIT if commits else NOTHING
        is_manual = self._is_manual
        try:
            super()._set_autocommit(autocommit)
        except BaseException as error:
            if commits and isinstance(error, DatabaseError):
                # The application has to call rollback().
                raise
            # It is unknown whether autocommit is on in the session.
            self._discard()
            session.manual = commits and is_manual
            if commits or not autocommit or self._is_connecting:
                raise
            if not is_connection_lost(error):
                raise
            # The transaction has already ended, so the loss of the connection undoes
            # nothing.
            logger.warning(
                "The database connection %r was lost after the end of a transaction, "
                "and is replaced: %s",
                self.alias,
                error,
            )
            if session.personal:
                session.lost = error
        else:
            if commits:
                transaction.point = Point.COMMITTED

    def commit(self) -> None:
        self._refuse_ended_transaction()
        super().commit()
        if self._is_manual:
            self._begin(Point.BEGUN)

    def _commit(self) -> None:
        if self.connection is None:
            return
        session = self.tidb_session
        transaction = session.transaction
        session.effect = _COMMIT
        transaction.point = Point.COMMIT_SENT
        try:
            super()._commit()
        except DatabaseError:
            # atomic() or the application calls rollback().
            raise
        except BaseException:
            # The call was interrupted, so any further statement could commit the
            # transaction.
            session.manual = self._is_manual
            self._discard()
            raise
        transaction.point = Point.COMMITTED

    def rollback(self) -> None:
        session = self.tidb_session
        transaction = session.transaction
        if (
            transaction.is_block
            and transaction.ended_by is not None
            and not transaction.is_rollback_wanted
        ):
            session.unreported = transaction
        is_manual = self._is_manual
        try:
            super().rollback()
        finally:
            if self.connection is None:
                session.manual = is_manual
        self._begin(Point.BEGUN if is_manual else Point.NOT_BEGUN)

    def _rollback(self) -> None:
        session = self.tidb_session
        session.effect = NOTHING
        if session.transaction.is_connection_lost:
            # The server rolls the transaction back when the connection is closed.
            self._discard()
            return
        try:
            super()._rollback()
        except BaseException:
            # The transaction may still be open, and SET autocommit = 1 would commit it.
            self._discard()
            self._begin()
            raise
