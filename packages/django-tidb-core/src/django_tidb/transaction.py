"""
Transactions that are repeated after the server has rolled them back.

:func:`retry` repeats a function and :func:`attempts` a block.
docs/topics/transactions.md describes both, and the lost update, which neither of them
prevents.

A transaction is repeated depending on the point that it has reached, which
``connection.tidb_session`` knows, and on the table in ``errors.py``. The exception
alone is not enough: a deadlock in a hook of ``on_commit()`` has the same error number,
1213, but is raised after the COMMIT.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connections, transaction

from . import is_tidb
from .errors import CommitOutcomeUnknown, Repeat, find_error
from .loops import Loop
from .outcome import Point

__all__ = ["Attempt", "attempts", "retry"]

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

_TIMES = 5
_BACKOFF = 0.05
_MAX_BACKOFF = 2.0

_GENERATORS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


@dataclass(frozen=True)
class _Policy:
    """How often and how fast a transaction is repeated."""

    times: int
    using: str
    deadline: float | None
    backoff: float
    max_backoff: float

    @classmethod
    def of(
        cls,
        function: str,
        times: int,
        using: str | None,
        deadline: float | None,
        backoff: float,
        max_backoff: float,
    ) -> _Policy:
        """Return the policy for the arguments of `function`, after checking them."""

        def check(name: str, value: Any, valid: bool, allowed: str) -> None:
            if not valid:
                raise ValueError(
                    f"The {name} of {function}() is {value!r}; it must be {allowed}."
                )

        def is_number(value: Any) -> bool:
            return (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and math.isfinite(value)
            )

        check(
            "times",
            times,
            isinstance(times, int) and not isinstance(times, bool) and times > 0,
            "an integer from 1, the largest number of attempts",
        )
        check(
            "using",
            using,
            using is None or (isinstance(using, str) and using != ""),
            "the alias of a database, or None for the default one",
        )
        check(
            "deadline",
            deadline,
            deadline is None or (is_number(deadline) and deadline > 0),
            "a number of seconds above 0, or None",
        )
        for name, value in {"backoff": backoff, "max_backoff": max_backoff}.items():
            check(
                name,
                value,
                is_number(value) and value >= 0,
                "a number of seconds from 0",
            )
        return cls(times, using or DEFAULT_DB_ALIAS, deadline, backoff, max_backoff)

    def pause(self, number: int) -> float:
        """Return the seconds to wait after the attempt with this `number`, from 1."""
        # The exponent is limited, because a float cannot hold all powers.
        longest = min(self.max_backoff, self.backoff * 2.0 ** min(number - 1, 1000))
        # The whole pause is random ("full jitter"), so that transactions which have met
        # in a conflict do not meet again:
        # https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        return random.uniform(0, longest)  # noqa: S311


class _Work:
    """A function or block that is executed in a transaction, and its attempts."""

    def __init__(self, policy: _Policy, name: str) -> None:
        self.policy = policy
        self.name = name
        self.number = 0
        self.connection = connections[policy.using]
        if not is_tidb(self.connection):
            raise NotSupportedError(
                f"{name} cannot use the database {policy.using!r}: its ENGINE is "
                f"{self.connection.settings_dict['ENGINE']!r}, and must be "
                "'django_tidb'."
            )
        self.session = self.connection.tidb_session
        self.ends_at = (
            math.inf if policy.deadline is None else time.monotonic() + policy.deadline
        )
        self.in_test_case = self._is_in_test_case()

    def _is_in_test_case(self) -> bool:
        """
        Return whether the transaction is nested in the transaction of a TestCase.
        Raises ``RuntimeError`` if it is nested in any other transaction.
        """
        blocks = self.connection.atomic_blocks
        if blocks and blocks[-1]._from_testcase:
            return True
        where = f"the database {self.policy.using!r}"
        if self.connection.in_atomic_block:
            raise RuntimeError(
                f"{self.name} runs inside an atomic() block of {where}. The server "
                "rolls back whole transactions, so only the outermost block can be "
                "repeated. Use retry() or attempts() in place of the outermost "
                "atomic(). A view with ATOMIC_REQUESTS also needs "
                "transaction.non_atomic_requests()."
            )
        if not (
            self.connection.settings_dict["AUTOCOMMIT"]
            if self.connection.connection is None
            else self.connection.autocommit
        ):
            raise RuntimeError(
                f"{self.name} runs while autocommit is off for {where}, so the end of "
                "the block would not commit the transaction. Switch autocommit on."
            )
        return False

    def begin(self) -> None:
        """
        Begin the transaction of the next attempt. If the transaction cannot be begun,
        this counts as an attempt.
        """
        while True:
            self.number += 1
            self.driver_connection = self.connection.connection
            self.is_personal = (
                self.driver_connection is not None and self.session.personal
            )
            self.atomic = transaction.atomic(self.policy.using, durable=True)
            try:
                self.atomic.__enter__()
            except Exception as error:
                self.transaction = self.session.transaction
                if not self._is_repeated(error):
                    raise
                self._pause(error)
            else:
                self.transaction = self.session.transaction
                self.driver_connection = self.connection.connection
                return

    def end(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        goes_on: bool = True,
    ) -> bool:
        """
        End the transaction of the attempt, with the exception of the block. Return True
        after a pause if the transaction has to be repeated, or False if the exception
        is final.

        `goes_on` is False if no other attempt can follow. Raises the error of ending
        the transaction if that error is final.
        """
        try:
            self.atomic.__exit__(exc_type, exc_value, traceback)
        except Exception as error:
            if not self._is_repeated(error, goes_on):
                raise
            self._pause(error)
            return True
        if not isinstance(exc_value, Exception) or not self._is_repeated(
            exc_value, goes_on
        ):
            return False
        self._pause(exc_value)
        return True

    def _may_be_repeated(self, error: Exception) -> bool:
        """Return whether it is safe to repeat the transaction after `error`."""
        transaction = self.transaction
        if transaction.point is Point.COMMITTED:
            return False
        raised = [e for e in _chain(error) if e in transaction.raised]
        if not raised or any(isinstance(e, CommitOutcomeUnknown) for e in raised):
            return False
        # Look at the newest error, and at the error with which the transaction has
        # ended.
        for cause in (raised[0], transaction.ended_by):
            if cause is None:
                continue
            row = find_error(cause)
            if row is None or row.repeat is not Repeat.TRANSACTION:
                return False
            if transaction.point is Point.COMMIT_SENT and not row.definite:
                return False
        return True

    def _is_repeated(self, error: Exception, goes_on: bool = True) -> bool:
        """
        Return whether the attempt, which has ended with `error`, is repeated. If the
        error allows a repetition and something else prevents it, a note on the error
        says so.
        """
        if not self._may_be_repeated(error):
            return False
        policy = self.policy
        is_lost = self.connection.connection is not self.driver_connection
        if self.in_test_case:
            reason = (
                "it has run in the transaction of a TestCase, which cannot be begun "
                "again; test repetitions in a TransactionTestCase"
            )
        elif self.transaction.is_split:
            reason = (
                "a statement in it, such as DDL, has committed what preceded that "
                "statement"
            )
        elif self.is_personal and is_lost:
            reason = (
                "the connection is lost, and with it what the application had set in "
                "the session, such as variables, temporary tables or locks of "
                "GET_LOCK()"
            )
        elif not goes_on:
            reason = (
                "the block has left the loop of attempts(), for example with return "
                "or break, so that no other attempt can follow; use retry() for a "
                "function that returns a value"
            )
        elif self.number >= policy.times:
            reason = f"times is {policy.times}"
        else:
            self.pause = policy.pause(self.number)
            if time.monotonic() + self.pause < self.ends_at:
                return True
            reason = f"the deadline is {policy.deadline} seconds"
        text = (
            f"{self.name} was tried {self.number} "
            f"{'time' if self.number == 1 else 'times'} on the database "
            f"{policy.using!r} and is not repeated: {reason}."
        )
        logger.info(text)
        _add_note(error, text)
        return False

    def _pause(self, error: Exception) -> None:
        logger.info(
            "Attempt %d of %d at %s on the database %r is repeated in %.3f seconds: %s",
            self.number,
            self.policy.times,
            self.name,
            self.policy.using,
            self.pause,
            error,
        )
        time.sleep(self.pause)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that led to it, in the order of a traceback."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        yield current
        seen.add(id(current))
        if current.__cause__ is not None or current.__suppress_context__:
            current = current.__cause__
        else:
            current = current.__context__


def _add_note(error: BaseException, text: str) -> None:
    if sys.version_info >= (3, 11):
        error.add_note(text)
    elif error.args and isinstance(error.args[-1], str):
        # Programs read the number of the error, which is the first argument.
        error.args = (*error.args[:-1], f"{error.args[-1]} {text}")


class Attempt:
    """
    One attempt at a block, as a context manager: an outermost, durable
    ``atomic()``. :func:`attempts` makes it.
    """

    def __init__(self, work: _Work, loop: Loop) -> None:
        self._work = work
        self._loop = loop
        self._entered = False
        self._repeated = False

    @property
    def number(self) -> int:
        """The number of the attempt, from 1."""
        return self._work.number

    def __enter__(self) -> Attempt:
        if self._entered:
            raise RuntimeError(
                f"{self._work.name}: attempt {self.number} has ended. Each item of the "
                "loop can be used in one with statement."
            )
        self._entered = True
        self._work.begin()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        goes_on = self._loop.goes_on(sys._getframe(1))
        self._repeated = self._work.end(exc_type, exc_value, traceback, goes_on)
        return self._repeated


class _Attempts:
    """The iterator that :func:`attempts` returns."""

    def __init__(self, policy: _Policy) -> None:
        self._policy = policy
        self._attempt: Attempt | None = None

    def __iter__(self) -> Iterator[Attempt]:
        return self

    def __next__(self) -> Attempt:
        last = self._attempt
        if last is None:
            loop = _loop_of(sys._getframe(1))
            work = _Work(self._policy, f"attempts() in {loop.code.co_name}()")
            self._attempt = Attempt(work, loop)
        elif not last._entered:
            raise RuntimeError(
                f"{last._work.name}: an attempt was not used in a with statement."
            )
        elif last._repeated:
            self._attempt = Attempt(last._work, last._loop)
        else:
            raise StopIteration
        return self._attempt


def _loop_of(frame: FrameType) -> Loop:
    """
    Return the loop that `frame` is executing. Raises ``RuntimeError`` if the loop would
    not continue with another attempt.
    """
    where = f"attempts() in {frame.f_code.co_name}()"
    if frame.f_code.co_flags & _GENERATORS:
        raise RuntimeError(
            f"{where}: a transaction cannot be repeated in a generator or an async "
            "function, because what it has yielded or awaited is not undone. Call a "
            "function that is decorated with retry(), in an async function with "
            "sync_to_async()."
        )
    loop = Loop.of(frame)
    if loop is None or not loop.has_block():
        raise RuntimeError(
            f"{where}: the with statement must be the last one in a for loop, as in "
            "'for attempt in attempts(): with attempt: ...', because everything that "
            "follows it in the loop would also run after an attempt that has failed."
        )
    return loop


def attempts(
    *,
    times: int = _TIMES,
    using: str | None = None,
    deadline: float | None = None,
    backoff: float = _BACKOFF,
    max_backoff: float = _MAX_BACKOFF,
) -> Iterator[Attempt]:
    """
    Return the attempts at a block, which runs in its own transaction, and runs again
    if the server has rolled back the transaction::

        for attempt in attempts(times=3):
            with attempt:
                ...

    The arguments, and the errors after which the block is repeated, are those of
    :func:`retry`. The ``with`` statement must be the last statement in the loop. If
    the block ends with ``return`` or ``break``, an error of its COMMIT is raised,
    because no other attempt can follow.

    Raises ``ValueError`` for arguments that are not valid. The loop raises
    ``RuntimeError`` in places in which a block cannot be repeated: inside an
    ``atomic()`` of the same database, in a generator and in an async function.
    """
    return _Attempts(
        _Policy.of("attempts", times, using, deadline, backoff, max_backoff)
    )


@overload
def retry(function: Callable[_P, _T], /) -> Callable[_P, _T]: ...


@overload
def retry(
    *,
    times: int = ...,
    using: str | None = ...,
    deadline: float | None = ...,
    backoff: float = ...,
    max_backoff: float = ...,
) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]: ...


def retry(
    function: Callable[..., Any] | None = None,
    /,
    *,
    times: int = _TIMES,
    using: str | None = None,
    deadline: float | None = None,
    backoff: float = _BACKOFF,
    max_backoff: float = _MAX_BACKOFF,
) -> Any:
    """
    Decorate a function so that it runs in its own transaction, and runs again if the
    server has rolled back the transaction and the transaction may be repeated.

    Each attempt is an outermost, durable ``atomic()``. After an error, the function is
    repeated if the connection of this database raised the error, and the table in
    ``errors.py`` allows a repetition. The function may also raise another error because
    of the connection's error. After COMMIT was sent, the function is repeated only if
    the error shows for certain that the server has rolled back. After the server has
    acknowledged COMMIT, the function is not repeated.

    :param times: the largest number of attempts.
    :param using: the alias of the database.
    :param deadline: no attempt begins later than this number of seconds after the
        call.
    :param backoff: the longest pause after the first attempt in seconds. It doubles
        with each further attempt. The length of a pause is random.
    :param max_backoff: the longest pause after any attempt in seconds.

    The last error is raised with a note that says how often the function was
    tried. Within a TestCase, the function runs once. Each repetition is logged by
    the logger ``django_tidb.transaction``.

    Raises ``ValueError`` for arguments that are not valid, and ``TypeError`` for
    generators and async functions. The decorated function raises ``RuntimeError``
    inside an ``atomic()`` of the same database.
    """
    policy = _Policy.of("retry", times, using, deadline, backoff, max_backoff)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        name = _check_function(function)

        @functools.wraps(function)
        def repeated(*args: Any, **kwargs: Any) -> Any:
            work = _Work(policy, name)
            while True:
                work.begin()
                try:
                    result = function(*args, **kwargs)
                except BaseException as error:
                    if not work.end(type(error), error, error.__traceback__):
                        raise
                else:
                    if not work.end(None, None, None):
                        return result

        return repeated

    return decorate if function is None else decorate(function)


def _check_function(function: Any) -> str:
    """
    Return the name of `function` for messages. Raises ``TypeError`` if it cannot
    be repeated.
    """
    if not callable(function):
        raise TypeError(
            f"retry() cannot decorate {function!r}, which is not a function. Its "
            "arguments have names, as in retry(times=3)."
        )
    name = getattr(function, "__qualname__", repr(function))
    for called in (function, function.__call__):
        if inspect.iscoroutinefunction(called):
            raise TypeError(
                f"retry() cannot decorate the async function {name}, because Django's "
                "transactions are synchronous. Decorate a synchronous function, and "
                "call it with asgiref.sync.sync_to_async()."
            )
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise TypeError(
                f"retry() cannot decorate the generator {name}, which runs only after "
                "the call has returned. Decorate a function that returns a list."
            )
    return f"retry() of {name}()"
