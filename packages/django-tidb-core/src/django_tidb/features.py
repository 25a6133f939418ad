"""
What TiDB can do, as far as it differs from Django's MySQL backend.

Every flag has its reason and a link. A flag that depends on the server's
version returns the comparison; one that depends on a server variable is a
plain property, because variables change.
"""

from __future__ import annotations

from django.db.backends.mysql.features import (
    DatabaseFeatures as MySQLDatabaseFeatures,
)
from django.utils.functional import cached_property


class DatabaseFeatures(MySQLDatabaseFeatures):
    # The oldest server that is tested; 5.0 has clustered primary keys.
    # https://docs.pingcap.com/tidb/stable/clustered-indexes
    minimum_database_version = (5, 0)

    # -- Transactions and locks

    @cached_property
    def uses_savepoints(self) -> bool:
        # https://docs.pingcap.com/tidb/stable/sql-statement-savepoint
        return self.connection.tidb_version >= (6, 2)

    @cached_property
    def can_release_savepoints(self) -> bool:
        return self.uses_savepoints

    @cached_property
    def supports_transactions(self) -> bool:
        # Django reads this flag for one purpose: whether a TestCase may wrap
        # its tests in nested transactions, which takes savepoints.
        # https://code.djangoproject.com/ticket/28263
        return self.uses_savepoints

    # Parsed, but no row is locked or left out:
    # https://github.com/pingcap/tidb/issues/69720
    has_select_for_update_skip_locked = False

    @cached_property
    def has_select_for_update_of(self) -> bool:
        # https://docs.pingcap.com/tidb/stable/sql-statement-select
        return self.connection.tidb_version >= (6, 0)

    # There are no stored procedures:
    # https://docs.pingcap.com/tidb/stable/mysql-compatibility#unsupported-features
    create_test_procedure_with_int_param_sql = None
    create_test_procedure_without_params_sql = None

    # -- Schema

    # Cloning needs mysqldump and a mysql client, whose INSERTs TiDB refuses
    # for AUTO_RANDOM keys:
    # https://docs.pingcap.com/tidb/stable/auto-random#restrictions
    can_clone_databases = False

    # A column cannot be added together with its foreign key:
    # https://github.com/pingcap/tidb/issues/45474
    can_create_inline_fk = False

    @cached_property
    def supports_foreign_keys(self) -> bool:
        # Accepted and ignored by older servers; experimental before 8.5.
        # https://docs.pingcap.com/tidb/stable/foreign-key
        return self.connection.tidb_version >= (6, 6)

    @cached_property
    def can_introspect_foreign_keys(self) -> bool:
        return self.supports_foreign_keys

    @cached_property
    def indexes_foreign_keys(self) -> bool:
        return self.supports_foreign_keys

    @property
    def supports_column_check_constraints(self) -> bool:
        # Ignored with a warning unless the server variable
        # tidb_enable_check_constraint is ON, which is not its default:
        # https://docs.pingcap.com/tidb/stable/constraints#check
        return self.connection.mysql_server_data["enforces_check_constraints"]

    @property
    def supports_table_check_constraints(self) -> bool:
        return self.supports_column_check_constraints

    # TiDB's own table is needed, for information_schema.check_constraints
    # does not tell the table:
    # https://docs.pingcap.com/tidb/stable/information-schema-tidb-check-constraints
    can_introspect_check_constraints = False

    @cached_property
    def supports_expression_defaults(self) -> bool:
        # A short list of functions only:
        # https://docs.pingcap.com/tidb/stable/data-type-default-values
        return self.connection.tidb_version >= (6, 1)

    # Only functions of a fixed list, unless the server is configured to allow
    # any expression:
    # https://docs.pingcap.com/tidb/stable/sql-statement-create-index#expression-index
    @cached_property
    def supports_expression_indexes(self) -> bool:
        return self.connection.tidb_version >= (5, 2)

    # DESC is parsed and ignored:
    # https://docs.pingcap.com/tidb/stable/sql-statement-create-index#mysql-compatibility
    supports_index_column_ordering = False

    # -- Rows

    # There is no RETURNING:
    # https://github.com/pingcap/tidb/issues/22260
    can_return_columns_from_insert = False
    can_return_rows_from_bulk_insert = False

    # A statement may read the table that it updates, as the tests show.
    update_can_self_select = True

    # -- Types and collations

    # There is no UUID type:
    # https://docs.pingcap.com/tidb/stable/data-type-overview
    has_native_uuid_field = False

    @cached_property
    def supports_json_field(self) -> bool:
        # https://docs.pingcap.com/tidb/stable/data-type-json
        return self.connection.tidb_version >= (6, 3)

    @cached_property
    def can_introspect_json_field(self) -> bool:
        return self.supports_json_field

    # Swedish and Esperanto collations do not exist:
    # https://docs.pingcap.com/tidb/stable/character-set-and-collation
    test_collations = {
        "ci": "utf8mb4_general_ci",
        "non_default": "utf8mb4_bin",
        "virtual": "utf8mb4_general_ci",
    }

    # -- EXPLAIN

    # JSON and TREE are MySQL's:
    # https://docs.pingcap.com/tidb/stable/sql-statement-explain
    @cached_property
    def supported_explain_formats(self) -> set[str]:
        formats = {"BRIEF", "DOT", "ROW", "TEXT", "TRADITIONAL", "VERBOSE"}
        if self.connection.tidb_version >= (7, 0):
            formats.add("TIDB_JSON")
        return formats
