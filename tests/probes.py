"""Probes: statements that show whether a server has a known issue."""

from __future__ import annotations

from django.db.utils import DatabaseError


def accepts(*statements):
    """
    Return a probe, which executes the statements and returns whether the server accepts
    the last one. If another statement fails, the probe raises the error.
    """

    def probe(cursor):
        *setup, last = statements
        for statement in setup:
            cursor.execute(statement)
        try:
            cursor.execute(last)
        except DatabaseError:
            return False
        # This probe cannot tell whether the server executes the statement or ignores
        # it.
        return True

    return probe


def assert_agrees(cursor, issue, probe):
    """Assert that the server has the `issue` exactly if the table of issues says so."""
    connection = cursor.db
    affected = issue.affects(connection.tidb_version, connection.tidb_variables)
    assert probe(cursor) == (not affected)
