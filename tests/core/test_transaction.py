"""Test transactions that are repeated after the server has rolled them back."""

from __future__ import annotations

import logging
import math
import os
import socket
import subprocess
import sys
from contextlib import closing
from functools import partial

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import (
    IntegrityError,
    NotSupportedError,
    OperationalError,
    connection,
    transaction,
)
from django.test import TestCase

import django_tidb.transaction
from django_tidb.transaction import attempts, retry
from tests.faults import deadlock, through_proxy

from .models import Author, Shelf


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """Record the pauses between attempts instead of waiting."""
    made = []
    monkeypatch.setattr(django_tidb.transaction.time, "sleep", made.append)
    return made


# -- Arguments


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("times", 0, "an integer from 1, the largest number of attempts"),
        ("times", -1, "an integer from 1"),
        ("times", 2.0, "an integer from 1"),
        ("times", True, "an integer from 1"),
        ("times", None, "an integer from 1"),
        ("using", "", "the alias of a database, or None for the default one"),
        ("using", 1, "the alias of a database"),
        ("deadline", 0, "a number of seconds above 0, or None"),
        ("deadline", "1", "a number of seconds above 0"),
        ("deadline", math.nan, "a number of seconds above 0"),
        ("deadline", math.inf, "a number of seconds above 0"),
        ("backoff", -0.1, "a number of seconds from 0"),
        ("backoff", None, "a number of seconds from 0"),
        ("max_backoff", math.inf, "a number of seconds from 0"),
        ("max_backoff", True, "a number of seconds from 0"),
    ],
)
def test_arguments_that_are_not_valid(name, value, allowed):
    for function in (retry, attempts):
        with pytest.raises(ValueError, match=f"^The {name} of ") as caught:
            function(**{name: value})
        message = str(caught.value)
        assert f"The {name} of {function.__name__}() is {value!r}; " in message
        assert allowed in message


@pytest.mark.parametrize("value", [3, "other", None])
def test_a_positional_argument(value):
    if value is None:
        assert callable(retry(None))
        return
    with pytest.raises(TypeError, match=r"not a function\. Its arguments have names"):
        retry(value)


async def coroutine():
    pass


def generator():
    yield


async def async_generator():
    yield


class AsyncCallable:
    async def __call__(self):
        pass


@pytest.mark.parametrize(
    "function",
    [coroutine, generator, async_generator, partial(coroutine), AsyncCallable()],
    ids=["coroutine", "generator", "async generator", "partial", "async callable"],
)
def test_functions_that_cannot_be_repeated(function):
    message = "sync_to_async|that returns a list"
    with pytest.raises(TypeError, match=message):
        retry(function)
    with pytest.raises(TypeError, match=message):
        retry(times=2)(function)


def test_the_decorated_function_keeps_its_name():
    @retry
    def function():
        """A docstring."""

    assert function.__name__ == "function"
    assert function.__doc__ == "A docstring."


def test_attempts_in_a_generator():
    def numbers():
        for attempt in attempts():
            with attempt:
                yield 1

    with pytest.raises(RuntimeError, match=r"in numbers\(\): .* in a generator or an"):
        next(numbers())


def test_attempts_without_a_block_that_ends_the_loop():
    def followed():
        for attempt in attempts():
            with attempt:
                pass
            break

    with pytest.raises(RuntimeError, match=r"in followed\(\): the with statement must"):
        followed()
    with pytest.raises(RuntimeError, match="the with statement must be the last"):
        next(attempts())


def test_importing_the_backend_does_not_import_it(tidb_server):
    code = (
        "import sys, django_tidb.base, django_tidb.apps, django_tidb.checks\n"
        "print({'django_tidb.transaction', 'django_tidb.loops'} & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert output == "set()\n"


# -- Conflicts


@pytest.fixture
def shelf(transactional_db):
    return Shelf.objects.create(height=1)


@pytest.fixture
def reconnected(transactional_db, monkeypatch):
    """Return a function that reconnects with the given init_command."""

    def reconnect(init_command):
        options = connection.settings_dict["OPTIONS"]
        monkeypatch.setitem(options, "init_command", init_command)
        connection.close()

    yield reconnect
    connection.close()


@pytest.fixture
def optimistic(reconnected):
    """Use optimistic transactions, which meet conflicts only at COMMIT."""
    reconnected("SET tidb_txn_mode = 'optimistic'")


@pytest.fixture
def rival(transactional_db):
    """Return a cursor of another connection to the same database."""
    other = connection.copy()
    with closing(other), other.cursor() as cursor:
        yield cursor


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO, "django_tidb.transaction")
    return lambda: [record.getMessage() for record in caplog.records]


def raise_by(cursor, shelf, amount):
    cursor.execute(
        "UPDATE core_shelf SET height = height + %s WHERE id = %s", [amount, shelf.pk]
    )


class Increment:
    """
    Read, change and save the height of a shelf. During each of the first `conflicts`
    calls, the rival changes the height in between.
    """

    def __init__(self, shelf, rival, conflicts=1):
        self.shelf = shelf
        self.rival = rival
        self.conflicts = conflicts
        self.calls = 0
        self.hooks = 0

    def __call__(self):
        self.calls += 1
        transaction.on_commit(self.hook)
        shelf = Shelf.objects.get(pk=self.shelf.pk)
        if self.calls <= self.conflicts:
            raise_by(self.rival, shelf, 10)
        shelf.height += 1
        shelf.save()
        return self.calls

    def hook(self):
        self.hooks += 1

    @property
    def height(self):
        return Shelf.objects.get(pk=self.shelf.pk).height


def notes(error):
    if sys.version_info >= (3, 11):
        return getattr(error, "__notes__", [])
    return [text for text in error.args[-1:] if "was tried" in str(text)]


def test_a_conflict_is_repeated(shelf, optimistic, rival, pauses, logged):
    increment = Increment(shelf, rival)
    assert retry(increment)() == 2
    assert increment.height == 12
    assert increment.hooks == 1
    (pause,) = pauses
    assert 0 <= pause <= 0.05
    (message,) = logged()
    assert message.startswith("Attempt 1 of 5 at retry() of ")
    assert "on the database 'default' is repeated in 0.0" in message
    assert "9007" in message


def test_a_block_is_repeated(shelf, optimistic, rival):
    increment, numbers = Increment(shelf, rival, conflicts=2), []
    for attempt in attempts():
        with attempt as entered:
            assert entered is attempt
            increment()
            numbers.append(attempt.number)
    assert numbers == [1, 2, 3]
    assert increment.height == 22
    assert increment.hooks == 1


def test_a_block_without_conflicts_runs_once(shelf, rival, pauses, logged):
    increment = Increment(shelf, rival, conflicts=0)
    for attempt in attempts():
        with attempt:
            increment()
    assert (increment.calls, increment.height, increment.hooks) == (1, 2, 1)
    assert (pauses, logged()) == ([], [])


def test_the_last_error_is_noted(shelf, optimistic, rival, pauses, logged):
    increment = Increment(shelf, rival, conflicts=3)
    with pytest.raises(OperationalError) as caught:
        retry(times=3, backoff=1, max_backoff=1.5)(increment)()
    error = caught.value
    assert error.args[0] == 9007
    assert len(error.args) == 2
    (note,) = notes(error)
    assert note.endswith(
        "was tried 3 times on the database 'default' and is not repeated: times is 3."
    )
    assert (increment.calls, increment.height, increment.hooks) == (3, 31, 0)
    assert len(pauses) == 2
    assert 0 <= pauses[0] <= 1
    assert 0 <= pauses[1] <= 1.5
    assert len(logged()) == 3


def test_the_last_error_of_a_block_is_noted(shelf, optimistic, rival):
    increment = Increment(shelf, rival, conflicts=2)
    with pytest.raises(OperationalError) as caught:
        for attempt in attempts(times=2):
            with attempt:
                increment()
    assert "tried 2 times" in notes(caught.value)[0]
    assert (increment.calls, increment.height, increment.hooks) == (2, 21, 0)


def test_backoff(monkeypatch, shelf, optimistic, rival, pauses):
    """
    The upper limit of a pause doubles up to a maximum; the pause is random below the
    limit.
    """
    asked = []

    def uniform(least, most):
        asked.append((least, most))
        return most

    monkeypatch.setattr(django_tidb.transaction.random, "uniform", uniform)
    increment = Increment(shelf, rival, conflicts=5)
    retry(times=6, backoff=0.5, max_backoff=3)(increment)()
    assert asked == [(0, 0.5), (0, 1), (0, 2), (0, 3), (0, 3)]
    assert pauses == [0.5, 1, 2, 3, 3]


def test_no_attempt_begins_after_the_deadline(monkeypatch, shelf, optimistic, rival):
    monkeypatch.setattr(
        django_tidb.transaction.random, "uniform", lambda least, most: most
    )
    increment = Increment(shelf, rival, conflicts=9)
    with pytest.raises(OperationalError) as caught:
        # A shorter first pause could end before the deadline on a slow machine.
        retry(times=9, deadline=10_000, backoff=10_001, max_backoff=20_000)(increment)()
    assert increment.calls == 1
    assert "tried 1 time on" in notes(caught.value)[0]
    assert notes(caught.value)[0].endswith("the deadline is 10000 seconds.")


@pytest.mark.parametrize("way", ["return", "break"])
def test_a_block_that_leaves_the_loop(shelf, optimistic, rival, way):
    """The COMMIT after the block fails, but Python does not go back into the loop."""
    increment = Increment(shelf, rival)

    def returns():
        for attempt in attempts():
            with attempt:
                return increment()
        return None

    def breaks():
        for attempt in attempts():
            with attempt:
                increment()
                break

    with pytest.raises(OperationalError) as caught:
        {"return": returns, "break": breaks}[way]()
    assert caught.value.args[0] == 9007
    assert "has left the loop of attempts()" in notes(caught.value)[0]
    assert (increment.calls, increment.height, increment.hooks) == (1, 11, 0)
    # Leaving the loop does no harm as long as COMMIT succeeds.
    {"return": returns, "break": breaks}[way]()
    assert (increment.calls, increment.height, increment.hooks) == (2, 12, 1)


def test_a_block_that_continues(shelf, optimistic, rival):
    increment = Increment(shelf, rival)
    for attempt in attempts():
        with attempt:
            increment()
            if increment.calls:
                continue
            raise AssertionError
    assert (increment.calls, increment.height, increment.hooks) == (2, 12, 1)


def test_an_attempt_is_used_once(shelf):
    for attempt in attempts():
        with attempt:
            pass
    with pytest.raises(RuntimeError, match=r"attempt 1 has ended"), attempt:
        pass


def test_an_attempt_that_is_not_used(shelf):
    with pytest.raises(RuntimeError, match="was not used in a with statement"):
        for attempt in attempts():
            if shelf.pk is None:
                with attempt:
                    pass


# -- Errors that are not repeated


def test_an_error_of_the_program(shelf):
    calls = []

    @retry
    def function():
        calls.append(1)
        Shelf.objects.create(height=5)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        function()
    assert calls == [1]
    assert notes(caught.value) == []
    assert not Shelf.objects.filter(height=5).exists()


def test_an_error_that_would_come_again(shelf):
    Author.objects.create(name="a")
    calls = []

    @retry
    def function():
        calls.append(1)
        Author.objects.create(name="a")

    with pytest.raises(IntegrityError) as caught:
        function()
    assert calls == [1]
    assert notes(caught.value) == []


def test_a_duplicate_at_commit(optimistic, shelf):
    Author.objects.create(name="a")
    calls = []

    @retry
    def function():
        Author.objects.create(name="a")
        calls.append("created")

    with pytest.raises(IntegrityError):
        function()
    assert calls == ["created"]


def test_an_error_that_no_connection_has_raised(shelf):
    calls = []

    @retry
    def function():
        calls.append(1)
        raise OperationalError(1213, "Deadlock found")

    with pytest.raises(OperationalError):
        function()
    assert calls == [1]


def test_interrupts_are_not_repeated(shelf, optimistic, rival):
    increment = Increment(shelf, rival)

    @retry
    def function():
        increment()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        function()
    assert (increment.calls, increment.height, increment.hooks) == (1, 11, 0)


def test_set_rollback_is_no_error(shelf):
    calls = []

    @retry
    def function():
        calls.append(1)
        Shelf.objects.create(height=5)
        transaction.set_rollback(True)

    function()
    assert calls == [1]
    assert not Shelf.objects.filter(height=5).exists()


# -- Hooks


def test_an_error_of_a_hook_goes_out_as_it_is(shelf, optimistic, rival):
    """If the function were repeated after its COMMIT, it would add 1 twice."""
    increment = Increment(shelf, rival, conflicts=0)
    inner = Increment(Shelf.objects.create(height=1), rival, conflicts=99)

    @retry
    def function():
        increment()
        transaction.on_commit(transaction.atomic(inner))

    with pytest.raises(OperationalError) as caught:
        function()
    assert caught.value.args[0] == 9007
    assert notes(caught.value) == []
    assert (increment.calls, increment.height, increment.hooks) == (1, 2, 1)
    assert inner.calls == 1


def test_a_hook_can_retry(shelf, optimistic, rival):
    increment = Increment(shelf, rival, conflicts=0)
    inner = Increment(Shelf.objects.create(height=1), rival, conflicts=2)

    @retry
    def function():
        increment()
        transaction.on_commit(retry(inner))

    function()
    assert (increment.calls, increment.height, increment.hooks) == (1, 2, 1)
    assert (inner.calls, inner.height, inner.hooks) == (3, 22, 1)


# -- Places in which nothing can be repeated


def test_nested_in_atomic(shelf):
    calls = []
    with transaction.atomic():
        with pytest.raises(RuntimeError, match=r"inside an atomic\(\) block") as caught:
            retry(calls.append)(1)
        assert "the database 'default'" in str(caught.value)
        with pytest.raises(RuntimeError, match="only the outermost block can be"):
            for attempt in attempts():
                with attempt:
                    pass
    assert calls == []


def test_nested_in_retry(shelf):
    @retry
    def function():
        retry(list)()

    with pytest.raises(RuntimeError, match=r"inside an atomic\(\) block"):
        function()


def test_autocommit_is_off(shelf):
    transaction.set_autocommit(False)
    try:
        with pytest.raises(RuntimeError, match="while autocommit is off"):
            retry(list)()
    finally:
        transaction.set_autocommit(True)


def test_another_database():
    with pytest.raises(NotSupportedError, match="must be 'django_tidb'"):
        retry(using="sqlite")(list)()


# Django's TestCase uses no transaction on servers without savepoints.
in_test_case = pytest.mark.works("savepoint")


@in_test_case
class InTestCase(TestCase):
    """
    The transaction of a TestCase cannot be repeated, so no function inside it is
    repeated.
    """

    def test_runs_once(self):
        calls = []

        @retry
        def function():
            calls.append(1)
            Shelf.objects.create(height=5)
            transaction.on_commit(lambda: calls.append("hook"))
            return "done"

        with self.captureOnCommitCallbacks(execute=True) as hooks:
            self.assertEqual(function(), "done")
        self.assertEqual(len(hooks), 1)
        self.assertEqual(calls, [1, "hook"])
        self.assertTrue(Shelf.objects.filter(height=5).exists())


@pytest.fixture
def locked_shelf(db, django_db_blocker):
    """
    Lock a shelf on another connection, and begin a TestCase on Django's connection.
    """
    connection.cursor().execute("SET innodb_lock_wait_timeout = 1")
    other = connection.copy()
    with closing(other), other.cursor() as cursor:
        cursor.execute("INSERT INTO core_shelf (height) VALUES (1)")
        pk = cursor.lastrowid
        cursor.execute("BEGIN")
        cursor.execute("UPDATE core_shelf SET height = 3 WHERE id = %s", [pk])
        yield pk
        cursor.execute("ROLLBACK")
        cursor.execute("DELETE FROM core_shelf WHERE id = %s", [pk])
    connection.close()


@in_test_case
def test_an_error_in_a_test_case(locked_shelf):
    """
    This error is not repeated inside a TestCase, and a note of the error says why.
    """
    calls = []

    @retry
    def function():
        calls.append(1)
        Shelf.objects.create(height=5)
        Shelf.objects.filter(pk=locked_shelf).update(height=2)

    with pytest.raises(OperationalError) as caught:
        function()
    assert caught.value.args[0] == 1205
    assert "tried 1 time on" in notes(caught.value)[0]
    assert "in the transaction of a TestCase" in notes(caught.value)[0]
    assert calls == [1]
    assert not Shelf.objects.filter(height=5).exists()


# -- Locks


class MyError(Exception):
    pass


def raised(error):
    raise error


def raised_from(error):
    raise MyError from error


def raised_while_handling(error):
    raise MyError


def raised_in_its_place(error):
    raise MyError from None


def swallowed(error):
    pass


def name(function):
    return function.__name__


def test_a_lock_wait_timeout_is_repeated(shelf, reconnected, rival):
    """
    The server has kept the transaction, so it is rolled back before the next attempt.
    """
    reconnected("SET innodb_lock_wait_timeout = 1")
    rival.execute("BEGIN")
    raise_by(rival, shelf, 10)
    calls = []

    @retry
    def function():
        calls.append(1)
        Shelf.objects.create(height=5)
        if len(calls) == 2:
            rival.execute("COMMIT")
        raise_by(connection.cursor(), shelf, 1)

    function()
    assert calls == [1, 1]
    assert Shelf.objects.get(pk=shelf.pk).height == 12
    assert Shelf.objects.filter(height=5).count() == 1


def test_nowait_is_not_repeated(shelf, rival):
    rival.execute("BEGIN")
    raise_by(rival, shelf, 10)
    calls = []

    @retry
    def function():
        calls.append(1)
        Shelf.objects.select_for_update(nowait=True).get(pk=shelf.pk)

    with pytest.raises(OperationalError) as caught:
        function()
    rival.execute("ROLLBACK")
    assert caught.value.args[0] == 3572
    assert calls == [1]


@pytest.mark.parametrize("handle", [raised, raised_from, swallowed], ids=name)
def test_a_deadlock_is_repeated(shelf, handle):
    rows = [Shelf.objects.create(height=1).pk for _ in range(20)]
    calls, hooks = [], []

    @retry
    def function():
        calls.append(1)
        transaction.on_commit(lambda: hooks.append(1))
        raise_by(connection.cursor(), shelf, 1)
        if len(calls) == 1:
            try:
                deadlock(connection, "core_shelf", rows)
            except OperationalError as error:
                assert error.args[0] == 1213
                handle(error)
        Shelf.objects.create(height=5)

    function()
    assert calls == [1, 1]
    assert hooks == [1]
    assert Shelf.objects.get(pk=shelf.pk).height == 2
    assert Shelf.objects.filter(height=5).count() == 1


# -- The error in a chain of exceptions


@pytest.mark.parametrize(
    ("handle", "repeated"),
    [
        (raised, True),
        (raised_from, True),
        (raised_while_handling, True),
        (raised_in_its_place, False),
        (swallowed, True),
    ],
)
def test_an_error_that_the_function_handles(shelf, killed, handle, repeated):
    calls = []

    @retry
    def function():
        calls.append(1)
        try:
            if len(calls) == 1:
                killed()
            raise_by(connection.cursor(), shelf, 1)
        except OperationalError as error:
            handle(error)

    if repeated:
        function()
    else:
        with pytest.raises(MyError):
            function()
    assert len(calls) == 1 + repeated
    assert Shelf.objects.get(pk=shelf.pk).height == 1 + repeated


def test_an_error_of_another_connection(shelf, rival, optimistic):
    """
    The conflict belongs to the rival's transaction, so the attempt is not repeated.
    """
    calls = []

    @retry
    def function():
        calls.append(1)
        Shelf.objects.create(height=5)
        rival.execute("BEGIN OPTIMISTIC")
        raise_by(rival, shelf, 10)
        third = connection.copy()
        with closing(third), third.cursor() as cursor:
            raise_by(cursor, shelf, 100)
        try:
            rival.execute("COMMIT")
        except OperationalError as error:
            raise MyError from error

    with pytest.raises(MyError) as caught:
        function()
    assert caught.value.__cause__.args[0] == 9007
    assert notes(caught.value) == []
    assert calls == [1]
    assert not Shelf.objects.filter(height=5).exists()


def test_an_error_from_before_the_call(shelf, killed):
    """
    An earlier error is only the context of the function's error, so nothing is
    repeated.
    """
    calls = []

    @retry
    def function():
        calls.append(1)
        raise ValueError

    killed()
    with pytest.raises(ValueError):
        try:
            Shelf.objects.get(pk=shelf.pk)
        except OperationalError:
            function()
        else:
            raise AssertionError
    assert calls == [1]


# -- Lost connections


@pytest.fixture
def killed(transactional_db):
    """Return a function that closes Django's connection without telling Django."""
    with through_proxy(connection) as proxy:
        connection.ensure_connection()
        yield proxy.cut_all


def test_a_connection_that_is_lost_before_the_transaction(shelf, killed, logged):
    calls = []

    @retry
    def function():
        calls.append(1)
        raise_by(connection.cursor(), shelf, 1)

    killed()
    function()
    assert calls == [1]
    assert Shelf.objects.get(pk=shelf.pk).height == 2
    assert "Attempt 1 of 5 at retry()" in logged()[0]


def test_a_connection_that_is_lost_in_the_transaction(shelf, killed):
    calls = []

    @retry
    def function():
        calls.append(1)
        Shelf.objects.create(height=5)
        if len(calls) == 1:
            killed()
        raise_by(connection.cursor(), shelf, 10)

    function()
    assert calls == [1, 1]
    assert Shelf.objects.filter(height=5).count() == 1
    assert Shelf.objects.get(pk=shelf.pk).height == 11


@pytest.mark.works("get-lock")
def test_a_personal_connection_that_is_lost_before(shelf, killed):
    """The lock of the lost session is gone, so the program gets the error."""
    calls = []
    with connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK('mine', 1)")
        assert cursor.fetchone() == (1,)
    killed()
    with pytest.raises(OperationalError) as caught:
        retry(lambda: calls.append(1))()
    assert caught.value.args[0] in (2006, 2013)
    assert "tried 1 time on" in notes(caught.value)[0]
    assert "locks of GET_LOCK()" in notes(caught.value)[0]
    # The error has been raised once, so the next call takes a new connection.
    retry(lambda: calls.append(2))()
    assert calls == [2]


def test_a_personal_connection_that_is_lost_in_the_transaction(shelf, killed):
    calls = []

    @retry
    def function():
        calls.append(1)
        killed()
        Shelf.objects.get(pk=shelf.pk)

    with connection.cursor() as cursor:
        cursor.execute("SET @mine = 1")
    with pytest.raises(OperationalError) as caught:
        function()
    assert calls == [1]
    assert "is lost, and with it what the application had set" in notes(caught.value)[0]


def test_what_the_function_sets_itself_is_set_again(shelf, killed):
    calls = []

    @retry
    def function():
        calls.append(1)
        with connection.cursor() as cursor:
            cursor.execute("SET @mine = 1")
            if len(calls) == 1:
                killed()
            cursor.execute("SELECT @mine")
            assert cursor.fetchone() == (1,)

    function()
    assert calls == [1, 1]


def test_a_personal_connection_that_is_not_lost(shelf, optimistic, rival):
    increment = Increment(shelf, rival)
    with connection.cursor() as cursor:
        cursor.execute("SET @mine = 1")
    assert retry(increment)() == 2
    with connection.cursor() as cursor:
        cursor.execute("SELECT @mine")
        assert cursor.fetchone() == (1,)


@pytest.fixture
def unused_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        # Nothing listens on this port, and no other process can bind it.
        yield bound.getsockname()[1]


def test_a_server_that_is_away(shelf, unused_port, monkeypatch):
    settings, port = connection.settings_dict, connection.settings_dict["PORT"]
    monkeypatch.setitem(settings, "PORT", unused_port)
    connection.close()
    pauses, calls = [], []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            settings["PORT"] = port

    monkeypatch.setattr(django_tidb.transaction.time, "sleep", sleep)
    for attempt in attempts():
        with attempt:
            calls.append(attempt.number)
            raise_by(connection.cursor(), shelf, 1)
    assert calls == [4]
    assert Shelf.objects.get(pk=shelf.pk).height == 2


def test_a_server_that_stays_away(shelf, unused_port, monkeypatch, pauses):
    calls = []
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "PORT", unused_port)
        connection.close()
        with pytest.raises(OperationalError) as caught:
            retry(times=3)(lambda: calls.append(1))()
    assert caught.value.args[0] in (2002, 2003)
    assert "tried 3 times" in notes(caught.value)[0]
    assert len(pauses) == 2
    assert calls == []


def test_a_server_that_refuses_the_user(shelf, monkeypatch, pauses):
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "USER", "nobody_of_this_name")
        connection.close()
        with pytest.raises(OperationalError) as caught:
            retry(list)()
    assert caught.value.args[0] == 1045
    assert (notes(caught.value), pauses) == ([], [])


# -- Statements that commit


def test_ddl_is_not_repeated(shelf, killed):
    """
    DDL has committed the first half of the function, so a repetition would do it twice.
    """
    calls = []

    @retry
    def function():
        calls.append(1)
        with connection.cursor() as cursor:
            raise_by(cursor, shelf, 1)
            cursor.execute("ALTER TABLE core_shelf COMMENT = 'mine'")
            killed()
            raise_by(cursor, shelf, 1)

    with pytest.raises(OperationalError) as caught:
        function()
    assert calls == [1]
    assert "such as DDL, has committed what preceded" in notes(caught.value)[0]
    assert Shelf.objects.get(pk=shelf.pk).height == 2


# -- Async


def test_sync_to_async(shelf):
    @retry
    def function():
        raise_by(connection.cursor(), shelf, 1)
        return "done"

    async def main():
        return await sync_to_async(function)()

    assert async_to_sync(main)() == "done"
    assert Shelf.objects.get(pk=shelf.pk).height == 2


def test_attempts_in_an_async_function(shelf):
    async def main():
        for attempt in attempts():
            with attempt:
                pass

    with pytest.raises(RuntimeError, match="in a generator or an async function"):
        async_to_sync(main)()
