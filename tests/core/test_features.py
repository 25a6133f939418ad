"""Test the lists of Django's tests that do not pass."""

from __future__ import annotations

import inspect
import itertools
import os
import re
import runpy
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import django
import pytest
from django.db import connection
from django.db.backends.mysql.features import DatabaseFeatures as MySQLDatabaseFeatures
from django.db.utils import OperationalError

from django_tidb import django_suite
from django_tidb.base import DatabaseWrapper

from .models import Author, Book

ROOT = Path(__file__).parents[2]
LISTS = {
    name: getattr(django_suite, name) for name in ("REFUSED", "UNDEFINED", "BY_DESIGN")
}
DJANGOS = [(4, 2), (5, 0), (5, 1), (5, 2), (6, 0), (6, 1)]


def listed(name, version):
    return [
        listed
        for listed in LISTS[name]
        if listed.since <= version and not (listed.until and version >= listed.until)
    ]


@pytest.mark.parametrize("name", LISTS)
def test_every_reason_has_a_link_or_is_by_design(name):
    ending = {"BY_DESIGN": r"by design\.$"}.get(name, r" https://[^ ]+$")
    for entry in LISTS[name]:
        assert re.search(ending, entry.reason), entry.reason


@pytest.mark.parametrize("version", DJANGOS)
def test_names_and_reasons_are_listed_once(version):
    entries = [entry for name in LISTS for entry in listed(name, version)]
    tests = [test for entry in entries for test in entry.tests]
    assert len(set(tests)) == len(tests)
    assert len({entry.reason for entry in entries}) == len(entries)


@pytest.mark.parametrize("version", DJANGOS)
def test_fifteen_at_most_are_not_by_design(version):
    entries = [*listed("REFUSED", version), *listed("UNDEFINED", version)]
    assert sum(len(entry.tests) for entry in entries) <= 15


def test_django_reads_the_lists():
    version = django.VERSION[:2]
    expected = {t for entry in listed("REFUSED", version) for t in entry.tests}
    assert connection.features.django_test_expected_failures == expected
    skipped = [*listed("UNDEFINED", version), *listed("BY_DESIGN", version)]
    assert connection.features.django_test_skips == {
        entry.reason: set(entry.tests) for entry in skipped
    }


def test_page_is_up_to_date():
    page = ROOT / "docs" / "ref" / "django-suite.md"
    script = runpy.run_path(str(ROOT / "scripts" / "django_suite.py"))
    text = page.read_text()
    assert text == script["page"](script["results"](text))


UNORDERED = [entry for entry in django_suite.UNDEFINED if "ORDER BY" in entry.reason]


@pytest.mark.django_db
@pytest.mark.parametrize("entry", UNORDERED, ids=lambda entry: entry.tests[0])
def test_what_is_undefined_is_not_ordered(entry):
    query = "SELECT pages FROM core_book WHERE pages IN (SELECT id FROM core_author)"
    if "GROUP BY" in entry.reason:
        query = "SELECT MAX(pages) FROM core_book GROUP BY title"
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {query} LIMIT 1")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert not re.search("Sort|TopN", plan), plan


def told_of_the_deadlock(pair):
    """
    Let two transactions lock one row each and then update the row that the other
    transaction has locked. The second transaction does so a second after the first.
    Return which transaction got the deadlock error, "first" or "second".
    """
    errors = []

    def ask(name, cursor, key):
        try:
            cursor.execute(
                "UPDATE core_author SET bio = 'x' WHERE id > %s AND id < %s",
                [key - 1, key + 1],
            )
        except OperationalError as error:
            errors.append((name, error.args[0]))
        cursor.execute("ROLLBACK")

    # Start the pairs at different times, so that their statements do not all arrive at
    # the server at the same time.
    time.sleep(pair / 50)
    keys = 2 * pair + 1, 2 * pair + 2
    with ExitStack() as stack:
        cursors = []
        for key in keys:
            cursor = stack.enter_context(closing(connection.copy())).cursor()
            cursor.execute("BEGIN PESSIMISTIC")
            cursor.execute("SELECT id FROM core_author WHERE id = %s FOR UPDATE", [key])
            cursors.append(cursor)
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(ask, "first", cursors[0], keys[1])
            # After one second, the first transaction stops waiting and asks again (see
            # django_suite.UNDEFINED). The second transaction asks at about this time,
            # and in each pair a little later than in the previous pair.
            time.sleep(1 + pair / 20_000)
            ask("second", cursors[1], keys[0])
            waiting.result()
    ((name, code),) = errors
    assert code == 1213
    return name


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_either_of_two_is_told_of_a_deadlock():
    pairs = range(40)
    Author.objects.bulk_create(Author(id=id, name=id) for id in range(1, 81))
    told = set()
    with ThreadPoolExecutor(len(pairs)) as threads:
        for _ in range(20):
            told |= set(threads.map(told_of_the_deadlock, pairs))
            if told == {"first", "second"}:
                return
    pytest.fail(f"Always the {told} of 800 times.")


# -- Flags and the connections that they need


@pytest.fixture
def unknown_server():
    """Return a function that makes a connection to a server of unknown version."""
    aliases = (f"unknown {number}" for number in itertools.count())
    known = dict(DatabaseWrapper._versions)
    wrappers = []

    def unknown_server(**settings):
        settings = {**connection.settings_dict, "TIME_ZONE": None, **settings}
        wrappers.append(DatabaseWrapper(settings, next(aliases)))
        return wrappers[-1]

    yield unknown_server
    for wrapper in wrappers:
        wrapper.close()
    DatabaseWrapper._versions.clear()
    DatabaseWrapper._versions.update(known)


def constants_of_djangos_backend():
    return {
        name
        for name in dir(MySQLDatabaseFeatures)
        if not name.startswith("_")
        and isinstance(
            inspect.getattr_static(MySQLDatabaseFeatures, name),
            (bool, int, str, tuple, type(None)),
        )
    }


def test_what_djangos_backend_says_without_a_connection_we_say(unknown_server):
    # Libraries have been seen to read these six flags.
    names = {"uses_savepoints", "can_release_savepoints", "supports_foreign_keys"}
    names |= {"indexes_foreign_keys", "can_create_inline_fk"}
    names |= {"has_select_for_update_skip_locked"}
    wrapper = unknown_server(HOST="127.0.0.1", PORT="1", NAME="nowhere")
    for name in constants_of_djangos_backend() | names:
        getattr(wrapper.features, name)
    assert wrapper.connection is None
    assert not set(FLAGS) & wrapper.features.__dict__.keys()


#: Flags that need no connection, with the TiDB release that they begin with.
FLAGS = {
    "uses_savepoints": (6, 2),
    "can_release_savepoints": (6, 2),
    "supports_foreign_keys": (6, 6),
    "indexes_foreign_keys": (6, 6),
    "can_introspect_check_constraints": (7, 2),
    "can_create_inline_fk": None,
    "has_select_for_update_skip_locked": None,
    "supports_table_check_constraints": None,
    "supports_column_check_constraints": None,
}


def flags(wrapper):
    return {name: getattr(wrapper.features, name) for name in FLAGS}


def flags_of(version):
    return {name: bool(since) and version >= since for name, since in FLAGS.items()}


@pytest.mark.django_db
@pytest.mark.parametrize("read_before", [True, False])
@pytest.mark.parametrize("database_exists", [True, False])
def test_flags_follow_the_server(unknown_server, tidb, read_before, database_exists):
    name = f"flags_{os.getpid()}"
    tidb.execute(f"DROP DATABASE IF EXISTS {name}")
    if database_exists:
        tidb.execute(f"CREATE DATABASE {name}")
    wrapper = unknown_server(NAME=name)
    if read_before:
        assert flags(wrapper) == flags_of((8, 5))
        assert wrapper.connection is None
    if not database_exists:
        with pytest.raises(OperationalError, match="1049"):
            wrapper.ensure_connection()
        assert flags(wrapper) == flags_of((8, 5))
        tidb.execute(f"CREATE DATABASE {name}")
    wrapper.ensure_connection()
    assert flags(wrapper) == flags_of(wrapper.tidb_version)
    # The flags are kept after the first connection; other connections know them at
    # once.
    wrapper.close()
    assert flags(wrapper) == flags_of(wrapper.tidb_version)
    assert set(FLAGS) - wrapper.features.__dict__.keys() == {
        "supports_table_check_constraints",
        "supports_column_check_constraints",
        "can_introspect_check_constraints",
    }
    another = DatabaseWrapper(wrapper.settings_dict, wrapper.alias)
    assert flags(another) == flags_of(wrapper.tidb_version)
    assert another.connection is None
    tidb.execute(f"DROP DATABASE {name}")


@pytest.mark.django_db
def test_a_schema_editor_presumes_nothing(unknown_server):
    wrapper = unknown_server()
    with wrapper.schema_editor(collect_sql=True) as editor:
        assert flags(wrapper) == flags_of(wrapper.tidb_version)
        editor.create_model(Book)
    (create, *_) = editor.collected_sql
    assert ("FOREIGN KEY" in create) == (wrapper.tidb_version >= (6, 6))
