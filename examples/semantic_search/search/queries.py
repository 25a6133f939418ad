"""The SQL of queries, formatted for people to read."""

from __future__ import annotations

import re

import sqlparse
from django.db import connection
from django.test.utils import CaptureQueriesContext

from search.models import DocumentQuerySet


def sql_of(hits: DocumentQuerySet) -> str:
    """Run the query of `hits`, and return the SQL that was sent."""
    with CaptureQueriesContext(connection) as queries:
        list(hits.all())
    return sqlparse.format(shorten_vectors(queries[0]["sql"]), reindent=True)


def shorten_vectors(sql: str) -> str:
    return re.sub(
        r"\[([^],]+),([^],]+),([^]]*)\]",
        lambda match: f"[{match[1]}, {match[2]}, ... {match[3].count(',') + 1} more]",
        sql,
    )
