"""
Write docs/ref/known-issues.md from the table in django-tidb-core.

Run it with ``hatch run docs:known-issues`` after a change of the table.
"""

from __future__ import annotations

from pathlib import Path

from django_tidb.known_issues import all_known_issues

PAGE = Path(__file__).parents[1] / "docs" / "ref" / "known-issues.md"

HEAD = """\
# Known issues

What TiDB lacks or does differently from MySQL, and what the backend does about
it. The feature flags come from the same table; `python manage.py tidb` shows
the part of it that concerns your server and your models. For every entry a test
runs the statement on TiDB 8.5.6, 7.5.0, 6.1.1 and 5.1.

| id | what the server does | TiDB | what the backend does |
|---|---|---|---|
"""


def page() -> str:
    """Return the text of the page."""
    rows = (
        f"| [{issue.id}]({issue.link}) | {issue.summary} | {issue.versions} "
        f"| {issue.effect} |\n"
        for issue in all_known_issues().values()
    )
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
