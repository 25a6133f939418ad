"""
Write docs/ref/django-suite.md from the lists in django-tidb-core.

Run it with ``hatch run docs:django-suite`` after a change of the lists. To add results
to the page, pass it the summaries of ``hatch run suite:run`` as arguments.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from django_tidb.django_suite import BY_DESIGN, REFUSED, UNDEFINED, Listed

PAGE = Path(__file__).parents[1] / "docs" / "ref" / "django-suite.md"

HEAD = """\
# Django's own test suite

```console
$ hatch run suite:run                                 # all of it, on Django 5.2
$ hatch run suite:run --django 6.1 --apps queries schema
$ hatch run suite:run --django 6.0 --mariadb          # the same, for comparison
$ hatch run suite:run --help
```

Each command starts its own server, runs the tests of Django's released sdist in a
separate environment, and writes a summary as JSON. The exit status is 0 if there
are no unexpected results. The test databases have the server's default collation
unless `--collation` is set.

The configuration of the server is unusual. `tidb_schema_cache_size` is 0, because
Django's tests have 1,700 tables and often query their names; see
[performance](../topics/performance.md). `tidb_enable_check_constraint` is ON, so
that CHECK constraints are tested, and `allow-expression-index` is true, so that
indexes may contain any expression. TiDB calls the latter experimental. Without it,
as in TiDB Cloud, an index may contain operators and the functions that TiDB lists,
such as `LOWER()` and `MD5()`; other functions make a migration fail with error
8200. See [known issues](known-issues.md). The settings have the options
`rebuild_tables` and `drop_unsupported_db_defaults`.

## Results

These are complete runs, with mysqlclient and one process. Unexpected results are
failures, errors, and successes of tests that are listed as failing. The last rows
are Django's mysql backend on MariaDB.

| Django | server | collation | run | passed | unexpected | expected failures | skipped | set-up, s | tests, s |
|---|---|---|---|---|---|---|---|---|---|
"""

LISTS = """
`serializers.test_deserialization.TestDeserializer.test_crafted_xml_performance`
compares the times that parsing takes, without any database: on a machine that is
busy with other things it fails now and then, and is the one unexpected failure
wherever the table has one.

TiDB 6.1.1 has neither savepoints nor foreign keys, and Django's tests lean on both:
a `TestCase` is not rolled back, but flushes its tables. With the tables of all tests
in one database that takes hours, so Django 4.2.30's 206 test folders were run a few
at a time (`--apps`). Of 15,804 tests 14,935 pass, 798 are skipped, 7 fail as listed,
and 64 fail otherwise:

- 51 count statements or look for one, and meet those of a new connection or a
  transaction too, BEGIN and COMMIT, which are outside of the test where a `TestCase`
  has a transaction: `delete` (18), `delete_regress` (5), `queries.test_bulk_update`
  (5), `bulk_create` and `update_only_fields` (4 each), and others.
- 4 go on after an error in an inner `atomic()`, which takes a savepoint:
  `get_or_create` (3), `basic…test_select_on_save_lying_update`.
- 2 find rows that a flush has deleted, or has left because a router keeps it from a
  table, where a rollback would not: `migration_test_data_persistence`,
  `multiple_database…AuthTestCase.test_dumpdata`.
- 4 look for foreign keys, and 1 for the error of one:
  `indexes…test_no_index_for_foreignkey`, `inspectdb…test_same_relations`,
  `schema…test_alter_field_fk_keeps_index`, `…_fk_to_o2o`, and
  `fixtures_regress…test_loaddata_raises_error_when_fixture_has_invalid_foreign_key`.
- `schema…test_remove_field` counts on the index to go with the column, which TiDB
  6.0 and 6.1 refuse: the backend drops it first.
- `expressions…test_delta_add` adds to an interval: `SELECT INTERVAL 1 DAY + NOW()` is
  a syntax error there. The other way round works.

With PyMySQL (`--driver pymysql`) one more fails, in two subtests:
`backends.mysql.test_schema.SchemaEditorTests.test_quote_value` compares with the
bytes that mysqlclient makes of values, and PyMySQL makes text.

## Tests that do not pass

At most 15 in each Django. Those that TiDB refuses are expected failures: the
suite says so when one passes.

| test | Django | why |
|---|---|---|
"""

DESIGN = """
Not run, because they assert what is MySQL's own:

| test | Django | what |
|---|---|---|
"""

FLAGS = """
## Flags that differ from Django's mysql backend on MariaDB

Django skips tests by feature flags. These differ on TiDB 8.5.6, Django 6.0 and
MariaDB 10.11:

| flag | TiDB | MariaDB | why |
|---|---|---|---|
| `allow_sliced_subqueries_with_in` | on | off | A subquery of IN may have a LIMIT. |
| `can_create_inline_fk` | off | on | [A column and its foreign key take two statements.](known-issues.md) |
| `can_release_savepoints` | on | off | RELEASE SAVEPOINT works. |
| `can_return_columns_from_insert`, `can_return_rows_from_bulk_insert` | off | on | [There is no RETURNING.](known-issues.md) |
| `create_test_procedure_with_int_param_sql`, `create_test_procedure_without_params_sql` | off | on | [There are no stored procedures.](known-issues.md) |
| `delete_can_self_reference_subquery` | on | off | DELETE may read the table that it changes. |
| `has_native_uuid_field` | off | on | [There is no UUID type.](known-issues.md) |
| `has_select_for_update_of` | on | off | FOR UPDATE OF works. |
| `has_select_for_update_skip_locked` | off | on | [SKIP LOCKED takes no lock.](known-issues.md) |
| `has_zoneinfo_database` | on | off | TiDB comes with its time zones; MariaDB's have to be loaded. |
| `ignores_table_name_case` | on | off | `lower_case_table_names` is 2. |
| `supports_any_value` | on | off | ANY_VALUE() exists. |
| `supports_default_in_lead_lag` | on | off | LEAD() and LAG() take a default. |
| `supports_expression_indexes` | on | off | Indexes may be on expressions. |
| `supports_index_column_ordering` | off | on | [DESC in an index is ignored.](known-issues.md) |
"""


def row(summary: dict[str, Any]) -> str:
    """Return the row for a summary in the table of results."""
    cells = (
        summary["django"],
        summary["server"].removeprefix("8.0.11-"),
        summary["collation"],
        summary["run"],
        summary["passed"],
        len(summary["unexpected"]),
        summary["expected_failures"],
        summary["skipped"],
        round(summary["seconds_of_setup"]),
        round(summary["seconds_of_tests"]),
    )
    return f"| {' | '.join(map(str, cells))} |\n"


def page(results: list[str]) -> str:
    """Return the text of the page with these rows in the table of results."""
    return (
        HEAD
        + "".join(results)
        + LISTS
        + "".join(map(_lines, (*REFUSED, *UNDEFINED)))
        + DESIGN
        + "".join(map(_lines, BY_DESIGN))
        + FLAGS
    )


def _lines(listed: Listed) -> str:
    since, until = listed.since, listed.until
    versions = f"before {until[0]}.{until[1]}" if until else "all"
    if since > (4, 2):
        versions = f"from {since[0]}.{since[1]}"
    reason, _, link = listed.reason.partition(" https://")
    if link:
        reason = f"[{reason}](https://{link})"
    return "".join(f"| `{test}` | {versions} | {reason} |\n" for test in listed.tests)


def results(text: str) -> list[str]:
    """Return the rows of the table of results in the text of the page."""
    return re.findall(r"^\| \d.*\n", text, re.MULTILINE)


def _subject(line: str) -> list[str]:
    # A row is identified by Django's version, the server and the collation.
    return line.split("|")[1:4]


def _order(line: str) -> tuple[Any, ...]:
    django, server, collation = _subject(line)
    return "TiDB" not in server, [int(n) for n in django.split(".")], server, collation


def main() -> None:
    lines = results(PAGE.read_text()) if PAGE.exists() else []
    for name in sys.argv[1:]:
        new = row(json.loads(Path(name).read_text()))
        lines = [line for line in lines if _subject(line) != _subject(new)] + [new]
    PAGE.write_text(page(sorted(lines, key=_order)))


if __name__ == "__main__":
    main()
