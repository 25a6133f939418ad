"""Known issues of TiDB servers that concern AUTO_RANDOM keys."""

from __future__ import annotations

from django_tidb.known_issues import KnownIssue, fields_of_type

#: The entries that this plugin adds to django-tidb-core's table of known
#: issues.
KNOWN_ISSUES = (
    KnownIssue(
        "auto-random-range",
        "AUTO_RANDOM(shard bits, range) is a syntax error.",
        "https://docs.pingcap.com/tidb/stable/auto-random",
        "The range is left out.",
        fixed=(6, 3),
        concerns=fields_of_type("BigAutoRandomField"),
    ),
)
