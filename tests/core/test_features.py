"""The lists of Django's tests that do not pass."""

from __future__ import annotations

import re

import django
import pytest
from django.db import connection

from django_tidb import features

LISTS = {
    name: getattr(features, name) for name in ("REFUSED", "UNDEFINED", "BY_DESIGN")
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


@pytest.mark.django_db
@pytest.mark.parametrize("entry", features.UNDEFINED, ids=lambda entry: entry.tests[0])
def test_what_is_undefined_is_not_ordered(entry):
    query = "SELECT pages FROM core_book WHERE pages IN (SELECT id FROM core_author)"
    if "GROUP BY" in entry.reason:
        query = "SELECT MAX(pages) FROM core_book GROUP BY title"
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {query} LIMIT 1")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert not re.search("Sort|TopN", plan), plan
