"""
The tests of Django's own test suite that do not pass on TiDB, with the reasons.

``docs/ref/django-suite.md`` has the results of the whole suite.
"""

from __future__ import annotations

from typing import NamedTuple

import django

from .known_issues import KNOWN_ISSUES

__all__ = ["BY_DESIGN", "REFUSED", "UNDEFINED", "Listed", "in_this_django"]


class Listed(NamedTuple):
    """A group of tests of Django's suite that do not pass for one reason."""

    #: A sentence with the statement, the server's answer and a link, or a sentence with
    #: the words "by design".
    reason: str
    #: The dotted names of the tests.
    tests: tuple[str, ...]
    #: The first Django release line that contains these tests.
    since: tuple[int, int] = (4, 2)
    #: The first Django release line in which the reason no longer applies.
    until: tuple[int, int] | None = None


def in_this_django(*lists: tuple[Listed, ...]) -> dict[str, set[str]]:
    """Return the listed tests that the installed version of Django has, by reason."""
    return {
        listed.reason: set(listed.tests)
        for list_ in lists
        for listed in list_
        if listed.since <= django.VERSION
        and (listed.until is None or listed.until > django.VERSION)
    }


def _because(issue_id: str) -> str:
    issue = KNOWN_ISSUES[issue_id]
    return f"{issue.summary} {issue.link}"


#: These tests fail because the server refuses a statement or answers
#: differently. Each reason is a known issue, which has a test that runs the
#: statement.
REFUSED = (
    Listed(
        _because("autocommit-nowait"),
        ("select_for_update.tests.SelectForUpdateTests.test_raw_lock_not_available",),
    ),
    Listed(
        _because("mysql-collations"),
        ("schema.tests.SchemaTests.test_ci_cs_db_collation",),
    ),
    Listed(
        _because("group-by-part"),
        (
            "aggregation.tests.AggregateTestCase"
            ".test_group_by_nested_expression_with_params",
        ),
        until=(6, 0),
    ),
    Listed(
        _because("json-index"),
        ("schema.tests.SchemaTests.test_func_index_json_key_transform",),
    ),
    Listed(
        _because("rename-generated-source"),
        (
            "migrations.test_operations.OperationTests"
            ".test_invalid_generated_field_changes_on_rename_stored",
            "migrations.test_operations.OperationTests"
            ".test_invalid_generated_field_changes_on_rename_virtual",
        ),
        since=(5, 0),
    ),
    Listed(
        _because("default-text"),
        ("schema.tests.SchemaTests.test_add_text_field_with_db_default",),
        since=(5, 0),
    ),
)

#: These tests pass or fail at random, because their result is undefined in SQL
#: or on TiDB.
UNDEFINED = (
    Listed(
        "An UPDATE that waits for a row gives up after a second and asks again. If "
        "another closes a circle of waits in between, the first is told of the "
        "deadlock (error 1213); the test closes it after a second. "
        "https://docs.pingcap.com/tidb/stable/tikv-configuration-file#wait-for-lock-timeout",
        ("transactions.tests.AtomicMySQLTests.test_implicit_savepoint_rollback",),
    ),
    Listed(
        "SELECT ... GROUP BY ... LIMIT 1 without ORDER BY returns any of the groups. "
        "https://docs.pingcap.com/tidb/stable/dev-guide-unstable-result-set",
        ("aggregation.tests.AggregateTestCase.test_string_agg_filter_outerref",),
        since=(6, 0),
    ),
    Listed(
        "SELECT ... LIMIT 2 OFFSET 1 without ORDER BY returns any of the rows. "
        "https://docs.pingcap.com/tidb/stable/dev-guide-unstable-result-set",
        ("queries.tests.SubqueryTests.test_slice_subquery_and_query",),
        until=(5, 0),
    ),
    Listed(
        "SELECT ... JOIN ... LIMIT 1 without ORDER BY returns any of the rows. "
        "https://docs.pingcap.com/tidb/stable/dev-guide-unstable-result-set",
        ("defer.tests.DeferTests.test_only_with_select_related",),
    ),
    Listed(
        "SELECT ... UNION SELECT ... without ORDER BY returns the rows in any order. "
        "https://docs.pingcap.com/tidb/stable/dev-guide-unstable-result-set",
        ("filtered_relation.tests.FilteredRelationTests.test_union",),
    ),
)

#: These tests assert behaviour that is specific to MySQL.
BY_DESIGN = (
    Listed(
        "Asserts what MySQL's storage engine MyISAM does, and TiDB has none to "
        "choose from: by design.",
        (
            "backends.mysql.test_features.TestFeatures.test_supports_transactions",
            "backends.mysql.test_introspection.StorageEngineTests"
            ".test_get_storage_engine",
        ),
    ),
    Listed(
        "Asserts that MySQL's versions before 8 are refused: by design.",
        ("backends.mysql.tests.Tests.test_check_database_version_supported",),
    ),
    Listed(
        "Asserts that MySQL's four isolation levels are named; TiDB has two of "
        "them: by design.",
        ("backends.mysql.tests.IsolationLevelTests.test_isolation_level_validation",),
    ),
    Listed(
        "Asserts MySQL's EXPLAIN formats JSON and TREE; TiDB has its own: by design.",
        ("queries.test_explain.ExplainTests.test_mysql_analyze",),
    ),
    Listed(
        "Asserts that MySQL's strict mode is all that there is to check; there are "
        "checks of TiDB's own: by design.",
        ("check_framework.test_database.DatabaseCheckTests.test_mysql_strict_mode",),
    ),
    Listed(
        "Asserts that SQL is deferred to the end of a migration, where it is sent "
        "with CREATE TABLE: by design.",
        (
            "schema.tests.SchemaTests.test_rename_column_renames_deferred_sql_references",
            "schema.tests.SchemaTests.test_rename_table_renames_deferred_sql_references",
            "migrations.test_commands.MigrateTests.test_migrate_syncdb_app_label",
            "migrations.test_commands.MigrateTests"
            ".test_migrate_syncdb_deferred_sql_executed_with_schemaeditor",
        ),
    ),
    Listed(
        "Asserts that a migration has a statement after CREATE TABLE, which includes "
        "the indexes here: by design.",
        (
            "migrations.test_commands.MigrateTests"
            ".test_migrate_syncdb_installed_truncated_db_model",
        ),
        since=(6, 1),
    ),
)
