"""Probes: statements that show whether a server has a known issue."""

from __future__ import annotations

from django.db.utils import DatabaseError


def accepts(*statements):
    """
    Return a probe: whether the server accepts the last statement. Errors of the others
    are raised.
    """

    def probe(cursor):
        *setup, last = statements
        for statement in setup:
            cursor.execute(statement)
        try:
            cursor.execute(last)
        except DatabaseError:
            return False
        # The server may also accept the statement and ignore it, which this cannot
        # tell.
        return True

    return probe


def assert_agrees(cursor, issue, probe):
    """Assert that the server has the `issue` exactly if the table of issues says so."""
    connection = cursor.db
    affected = issue.affects(connection.tidb_version, connection.tidb_variables)
    assert probe(cursor) == (not affected)
