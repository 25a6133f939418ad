"""Test select_for_update(skip_locked=True) with and without the option for it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import NotSupportedError, connection, transaction
from django.db.models import Subquery
from django.db.utils import OperationalError

from .models import Author, Book

DB = pytest.mark.django_db


def locked():
    return Author.objects.select_for_update(skip_locked=True)


@pytest.fixture
def waits(monkeypatch):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "skip_locked", "wait")


QUERIES = {
    "list": lambda: list(locked()),
    "first": lambda: locked().filter(name="a").order_by("name").first(),
    "values": lambda: list(locked().values_list("name", flat=True)),
    "iterator": lambda: list(locked().iterator()),
    "exists": lambda: locked().exists(),
    "in a subquery": lambda: list(
        Book.objects.filter(author__in=Subquery(locked().values("pk")))
    ),
    "of": lambda: list(
        Book.objects.select_related("author").select_for_update(
            skip_locked=True, of=["self"]
        )
    ),
}
queries = pytest.mark.parametrize(
    "query",
    [
        pytest.param(
            query, id=name, marks=[pytest.mark.works("lock-of")] if name == "of" else []
        )
        for name, query in QUERIES.items()
    ],
)


@DB
@queries
def test_error(query):
    with pytest.raises(NotSupportedError) as error, transaction.atomic():
        query()
    assert str(error.value) == (
        "SKIP LOCKED is not supported on this database backend. On TiDB FOR UPDATE "
        "SKIP LOCKED is accepted, but locks no row and skips none. "
        "https://github.com/pingcap/tidb/issues/69720 With DATABASES['default']"
        "['OPTIONS']['skip_locked'] = 'wait', select_for_update(skip_locked=True) "
        "waits for rows that others have locked, as select_for_update() does."
    )


@DB
@queries
def test_option(query, waits, django_assert_num_queries):
    Author.objects.create(name="a")
    with transaction.atomic(), django_assert_num_queries(1) as captured:
        query()
    (statement,) = captured.captured_queries
    assert "FOR UPDATE" in statement["sql"]
    assert "SKIP LOCKED" not in statement["sql"]


@DB
def test_what_stays(waits):
    assert not connection.features.has_select_for_update_skip_locked
    # The query does not belong to a database yet, so compiling must not change it.
    query = locked().filter(name="a").query
    with transaction.atomic():
        sql, _ = query.get_compiler(using="default").as_sql()
    assert sql.endswith(" FOR UPDATE")
    assert query.select_for_update_skip_locked


@pytest.mark.parametrize("value", ["skip", True, None, ["wait"]])
def test_other_values(monkeypatch, value):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "skip_locked", value)
    with pytest.raises(ImproperlyConfigured) as error:
        connection.get_connection_params()
    assert str(error.value) == (
        f"DATABASES['default']['OPTIONS']['skip_locked'] is {value!r}; it must be "
        "'wait' or left out."
    )


@pytest.fixture
def elsewhere():
    """
    Return a function that calls another function in a thread with its own connection.
    """

    def call(function, *args):
        try:
            return function(*args)
        finally:
            connection.close()

    with ThreadPoolExecutor() as threads:
        yield lambda *args: threads.submit(call, *args)


def take(isolation_level, holds=None, go_on=None):
    """Mark an author that no other transaction has locked, like a worker of a queue."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {isolation_level}")
    with transaction.atomic():
        free = locked().filter(bio="").order_by("name")
        author = free.first()
        if holds:
            holds.set()
            go_on.wait()
        author.bio = "taken"
        author.save()
    return author.name


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("isolation_level", ["READ COMMITTED", "REPEATABLE READ"])
def test_each_row_is_taken_once(waits, elsewhere, isolation_level):
    Author.objects.bulk_create(Author(name=name, bio="") for name in "abc")
    holds, go_on = threading.Event(), threading.Event()
    first = elsewhere(take, isolation_level, holds, go_on)
    holds.wait()
    others = [elsewhere(take, isolation_level) for _ in range(2)]
    # The other workers wait, because their filter finds the locked row.
    assert not any(other.done() for other in others)
    go_on.set()
    assert first.result() == "a"
    assert sorted(other.result() for other in others) == ["b", "c"]


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_the_wait_ends(waits, elsewhere):
    Author.objects.create(name="a", bio="")
    holds, go_on = threading.Event(), threading.Event()
    first = elsewhere(take, "READ COMMITTED", holds, go_on)
    holds.wait()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET innodb_lock_wait_timeout = 1")
        with pytest.raises(OperationalError) as error, transaction.atomic():
            locked().first()
        assert error.value.args[0] == 1205
    finally:
        go_on.set()
        # A new connection has the default lock wait timeout again.
        connection.close()
    assert first.result() == "a"
