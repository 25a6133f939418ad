"""
The features of TiDB that differ from those in Django's MySQL backend.

The reason and the link of a flag are in the entry of known_issues.py from which
it is derived, or in a comment.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.mysql.features import (
    DatabaseFeatures as MySQLDatabaseFeatures,
)
from django.utils.functional import cached_property

from .known_issues import KNOWN_ISSUES
from .version import TiDBVersion

#: The version that a server is presumed to have before the first connection.
PRESUMED_VERSION = TiDBVersion((8, 5, 0))


class needs_no_connection(cached_property):
    """
    A flag that can be read before there is a connection. The flag then describes
    ``PRESUMED_VERSION``, and is cached only when the server's version is known.

    All flags that are constants of Django's MySQL backend need no connection, because
    libraries read them on import, when the database may not exist yet.
    """

    def __get__(self, features: Any, cls: Any = None) -> Any:
        if features is None or features.connection.known_tidb_version:
            return super().__get__(features, cls)
        return self.func(features)


def works(issue_id: str) -> cached_property:
    """Return a flag that is on unless the server has a known issue."""
    issue = KNOWN_ISSUES[issue_id]
    return cached_property(
        lambda features: not issue.affects(features.connection.tidb_version)
    )


def presumed_to_work(issue_id: str) -> needs_no_connection:
    """Return a flag like that of ``works()`` that needs no connection."""
    issue = KNOWN_ISSUES[issue_id]
    return needs_no_connection(
        lambda features: not issue.affects(features.presumed_version)
    )


class DatabaseFeatures(MySQLDatabaseFeatures):
    # The oldest release that is tested; 5.0 brought clustered primary keys.
    # https://docs.pingcap.com/tidb/stable/clustered-indexes
    minimum_database_version = (5, 0)

    @property
    def presumed_version(self) -> TiDBVersion:
        """The server's version, or ``PRESUMED_VERSION`` until it is known."""
        return self.connection.known_tidb_version or PRESUMED_VERSION

    # -- Transactions and locks

    uses_savepoints = presumed_to_work("savepoint")
    can_release_savepoints = presumed_to_work("savepoint")
    # Django reads this flag for one purpose: whether a TestCase may wrap its
    # tests in nested transactions, which takes savepoints.
    # https://code.djangoproject.com/ticket/28263
    supports_transactions = works("savepoint")
    has_select_for_update_of = works("lock-of")
    has_select_for_update_skip_locked = presumed_to_work("skip-locked")

    # -- Connections

    # The server variable sql_auto_is_null has no effect on TiDB, so it is not read:
    # https://docs.pingcap.com/tidb/stable/system-variables
    is_sql_auto_is_null_enabled = False

    # -- Schema

    # TiDB creates tables without foreign keys in one step if their statements arrive at
    # the same time and the variable tidb_enable_fast_create_table is on, which is the
    # default since 8.5.
    # https://docs.pingcap.com/tidb/stable/accelerated-table-creation
    @property
    def creates_tables_together(self) -> bool:
        variables = self.connection.tidb_variables
        return variables.get("tidb_enable_fast_create_table") == "ON"

    can_create_inline_fk = presumed_to_work("add-column-foreign-key")
    supports_foreign_keys = presumed_to_work("foreign-key")
    can_introspect_foreign_keys = works("foreign-key")
    indexes_foreign_keys = presumed_to_work("foreign-key")

    # These flags are not cached, because the variable that enables CHECK constraints
    # can change: each schema editor reads it again.
    @property
    def supports_table_check_constraints(self) -> bool:
        connection = self.connection
        # Until the version is known, the variable that enables CHECK constraints is
        # presumed to have its default, OFF.
        variables = connection.known_tidb_version and connection.tidb_variables
        return not KNOWN_ISSUES["check-constraint"].affects(
            self.presumed_version, variables
        )

    @property
    def supports_column_check_constraints(self) -> bool:
        return self.supports_table_check_constraints

    @property
    def can_introspect_check_constraints(self) -> bool:
        # Older servers have no CHECK constraints.
        # https://docs.pingcap.com/tidb/stable/constraints#check
        return self.presumed_version >= (7, 2)

    # Without this flag, Django does not even allow Now() as a db_default. defaults.py
    # checks which expressions TiDB accepts.
    # https://docs.pingcap.com/tidb/stable/data-type-default-values
    supports_expression_defaults = True

    # DDL is sent with literals and without parameters, because a format string with
    # parameters cannot have percent signs in names and comments.
    # https://docs.djangoproject.com/en/stable/ref/schema-editor/#execute
    requires_literal_defaults = True

    supports_expression_indexes = presumed_to_work("expression-index")
    supports_index_column_ordering = works("descending-index")

    # -- Rows

    can_return_columns_from_insert = works("returning")
    can_return_rows_from_bulk_insert = works("returning")

    # A statement may read the table that it changes, and a subquery of IN may
    # have a LIMIT; the tests show both.
    # https://docs.pingcap.com/tidb/stable/subquery-optimization
    allow_sliced_subqueries_with_in = True
    delete_can_self_reference_subquery = True
    update_can_self_select = True

    # With ONLY_FULL_GROUP_BY, TiDB recognises columns that depend on a selected primary
    # key. TiDB also has the function ANY_VALUE():
    # https://docs.pingcap.com/tidb/stable/group-by-modifier
    allows_group_by_selected_pks = True
    supports_any_value = True

    # This is a constant, because Django's MySQL backend compares the version with
    # MySQL's 8.0.31: https://docs.pingcap.com/tidb/stable/set-operators
    supports_select_difference = True
    supports_select_intersection = True

    # -- Functions, types and collations

    create_test_procedure_with_int_param_sql = None
    create_test_procedure_without_params_sql = None
    has_native_uuid_field = presumed_to_work("uuid-type")

    # utf8mb4_esperanto_ci and utf8mb4_swedish_ci, which Django's tests use,
    # do not exist:
    # https://docs.pingcap.com/tidb/stable/character-set-and-collation
    test_collations = {
        "ci": "utf8mb4_general_ci",
        "cs": "utf8mb4_bin",
        "non_default": "utf8mb4_unicode_ci",
        "virtual": "utf8mb4_unicode_ci",
    }

    # -- EXPLAIN

    # This is a constant, because Django's MySQL backend compares the version with
    # MySQL's 8.0.18: https://docs.pingcap.com/tidb/stable/sql-statement-explain-analyze
    supports_explain_analyze = True

    @cached_property
    def supported_explain_formats(self) -> set[str]:
        # https://docs.pingcap.com/tidb/stable/sql-statement-explain
        formats = {"BRIEF", "DOT", "ROW", "TEXT", "TRADITIONAL", "VERBOSE"}
        if not KNOWN_ISSUES["explain-tidb-json"].affects(self.connection.tidb_version):
            formats.add("TIDB_JSON")
        return formats

    # -- Django's own test suite, which reads these two attributes

    @cached_property
    def django_test_skips(self) -> dict[str, set[str]]:
        from .django_suite import BY_DESIGN, UNDEFINED, in_this_django

        return in_this_django(BY_DESIGN, UNDEFINED)

    @cached_property
    def django_test_expected_failures(self) -> set[str]:
        from .django_suite import REFUSED, in_this_django

        return set().union(*in_this_django(REFUSED).values())
