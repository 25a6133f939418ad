"""Tests that the server has the known issues that the plugin adds."""

from __future__ import annotations

import pytest

from django_tidb.known_issues import all_known_issues
from django_tidb_autorandom.known_issues import KNOWN_ISSUES
from tests.probes import accepts, assert_agrees

PROBES = {
    "auto-random-range": accepts(
        "CREATE TABLE t (id BIGINT PRIMARY KEY AUTO_RANDOM(5, 54))"
    ),
}


def test_every_issue_has_a_probe():
    assert PROBES.keys() == {issue.id for issue in KNOWN_ISSUES}


def test_they_are_in_the_table_of_the_backend():
    table = all_known_issues()
    assert all(table[issue.id] is issue for issue in KNOWN_ISSUES)


@pytest.mark.parametrize("issue", KNOWN_ISSUES, ids=lambda issue: issue.id)
def test_table_and_server_agree(cursor, issue):
    assert_agrees(cursor, issue, PROBES[issue.id])
