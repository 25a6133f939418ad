"""Probes: statements that show whether a server has a known issue."""

from __future__ import annotations

from django.db.utils import DatabaseError


def accepts(*statements):
    """Return whether the server accepts the last; the others it must."""

    def probe(cursor):
        *setup, last = statements
        for statement in setup:
            cursor.execute(statement)
        try:
            cursor.execute(last)
        except DatabaseError:
            return False
        # A statement may be accepted and ignored, with a warning or without.
        return True

    return probe


def assert_agrees(cursor, issue, probe):
    """Assert that the server has the `issue` exactly if its entry says so."""
    connection = cursor.db
    affected = issue.affects(connection.tidb_version, connection.tidb_variables)
    assert probe(cursor) == (not affected)
