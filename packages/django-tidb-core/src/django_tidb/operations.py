from __future__ import annotations

from typing import Any

from django.db.backends.mysql.operations import (
    DatabaseOperations as MySQLDatabaseOperations,
)
from django.db.models.constants import OnConflict

from .functions import register_functions
from .known_issues import KNOWN_ISSUES

register_functions()


class DatabaseOperations(MySQLDatabaseOperations):
    compiler_module = "django_tidb.compiler"

    def explain_query_prefix(self, format: str | None = None, **options: Any) -> str:
        """
        Return EXPLAIN, or EXPLAIN ANALYZE, in one of TiDB's formats: row (the
        default, also called text or traditional), brief, verbose, dot and,
        from TiDB 7.0, tidb_json.
        """
        # TEXT is the name that Django has for every backend's plain format, and
        # TRADITIONAL, another name for ROW, is MySQL's.
        if format and format.upper() == "TEXT":
            format = "TRADITIONAL"
        format = format or "ROW"
        analyze = options.pop("analyze", False)
        # MySQL's method would choose a format of MySQL's.
        prefix = super(MySQLDatabaseOperations, self).explain_query_prefix(
            format, **options
        )
        if analyze:
            prefix += " ANALYZE"
            if KNOWN_ISSUES["explain-analyze-format"].affects(
                self.connection.tidb_version
            ):
                if format.upper() != "ROW":
                    raise ValueError(
                        f"TiDB {self.connection.tidb_version} has EXPLAIN ANALYZE in "
                        f"the format ROW only, not {format.upper()}."
                    )
                return prefix
        return f"{prefix} FORMAT={format.upper()}"

    def lookup_cast(self, lookup_type: str, internal_type: str | None = None) -> str:
        cast = super().lookup_cast(lookup_type, internal_type)
        # See DatabaseWrapper.operators.
        if lookup_type in ("iexact", "icontains", "istartswith", "iendswith"):
            return f"LOWER({cast})"
        return cast

    def on_conflict_suffix_sql(
        self, fields: Any, on_conflict: Any, update_fields: Any, unique_fields: Any
    ) -> str:
        # The alias for the new row, which MySQL wants, is a syntax error:
        # https://docs.pingcap.com/tidb/stable/sql-statement-insert
        if on_conflict == OnConflict.UPDATE:
            assignments = ", ".join(
                f"{name} = VALUES({name})"
                for name in map(self.quote_name, update_fields)
            )
            return f"ON DUPLICATE KEY UPDATE {assignments}"
        return super().on_conflict_suffix_sql(
            fields, on_conflict, update_fields, unique_fields
        )

    def regex_lookup(self, lookup_type: str) -> str:
        if not KNOWN_ISSUES["regexp-like"].affects(self.connection.tidb_version):
            return super().regex_lookup(lookup_type)
        if lookup_type == "regex":
            return "%s REGEXP BINARY %s"
        # A flag of the syntax that TiDB's regular expressions have:
        # https://github.com/google/re2/wiki/Syntax
        return "%s REGEXP CONCAT('(?i)', %s)"
