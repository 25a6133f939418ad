"""Known issues of TiDB servers that concern vectors."""

from __future__ import annotations

from django_tidb.known_issues import KnownIssue, fields_of_type

#: The entries that this plugin adds to django-tidb-core's table of known
#: issues.
KNOWN_ISSUES = (
    KnownIssue(
        "vector",
        "There is no VECTOR type.",
        "https://docs.pingcap.com/tidb/stable/vector-search-overview",
        "The server's error ends the migration.",
        fixed=(8, 4),
        concerns=fields_of_type("VectorField"),
    ),
)
