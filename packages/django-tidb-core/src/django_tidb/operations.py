from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.backends.mysql.operations import (
    DatabaseOperations as MySQLDatabaseOperations,
)
from django.db.models.constants import OnConflict

from .functions import register_functions
from .known_issues import KNOWN_ISSUES
from .migrating import without_tag

register_functions()

# Deleting this many rows takes as long as a TRUNCATE of a table of any size:
# 12 ms, measured on one node.
_FEW_ROWS = 1000
# The number of tables in one query. The optimizer's time grows faster than this number.
_TABLES_AT_ONCE = 100


class EmptyTable(str):
    """A statement of ``sql_flush()`` with the name of its table."""

    table: str
    #: True if the table's AUTO_INCREMENT has to start from 1 again.
    reset: bool

    def __new__(cls, sql: str, table: str, reset: bool) -> EmptyTable:
        self = super().__new__(cls, sql)
        self.table = table
        self.reset = reset
        return self


def _batches(values: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(values)
    while batch := list(islice(iterator, _TABLES_AT_ONCE)):
        yield batch


class DatabaseOperations(MySQLDatabaseOperations):
    compiler_module = "django_tidb.compiler"

    def explain_query_prefix(self, format: str | None = None, **options: Any) -> str:
        """
        Return the prefix EXPLAIN or EXPLAIN ANALYZE with one of TiDB's formats: row
        (the default, also called text or traditional), brief, verbose, dot and, from
        TiDB 7.0, tidb_json.
        """
        # Django calls every backend's plain format TEXT. TRADITIONAL is MySQL's name
        # for ROW.
        if format and format.upper() == "TEXT":
            format = "TRADITIONAL"
        format = format or "ROW"
        analyze = options.pop("analyze", False)
        # MySQL's method would choose one of MySQL's formats.
        prefix = super(MySQLDatabaseOperations, self).explain_query_prefix(
            format, **options
        )
        format = format.upper()
        if not KNOWN_ISSUES["explain-analyze-format"].affects(
            self.connection.tidb_version
        ):
            return f"{prefix}{' ANALYZE' if analyze else ''} FORMAT={format}"
        # The parser of older servers accepts TiDB's own formats only in quotes.
        if format == "TRADITIONAL":
            format = "ROW"
        if not analyze:
            return f"{prefix} FORMAT = '{format.lower()}'"
        if format != "ROW":
            version = self.connection.tidb_version
            raise ValueError(
                f"TiDB {version} has EXPLAIN ANALYZE in the format ROW only, not "
                f"{format}."
            )
        return f"{prefix} ANALYZE"

    def lookup_cast(self, lookup_type: str, internal_type: str | None = None) -> str:
        cast = super().lookup_cast(lookup_type, internal_type)
        # The comment on DatabaseWrapper.operators explains this conversion.
        if lookup_type in ("iexact", "icontains", "istartswith", "iendswith"):
            return f"LOWER({cast})"
        return cast

    def on_conflict_suffix_sql(
        self, fields: Any, on_conflict: Any, update_fields: Any, unique_fields: Any
    ) -> str:
        # MySQL's form of the statement has an alias for the new row, which TiDB refuses
        # with a syntax error: https://docs.pingcap.com/tidb/stable/sql-statement-insert
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
        # (?i) is a flag of RE2, the regular expressions of TiDB:
        # https://github.com/google/re2/wiki/Syntax
        return "%s REGEXP CONCAT('(?i)', %s)"

    def last_executed_query(self, cursor: Any, sql: str, params: Any) -> str:
        # Tests compare connection.queries with statements that have no tag.
        return without_tag(super().last_executed_query(cursor, sql, params))

    # -- Emptying tables

    def sql_flush(
        self,
        style: Any,
        tables: Sequence[str],
        *,
        reset_sequences: bool = False,
        allow_cascade: bool = False,
    ) -> list[str]:
        """
        Return the statements with which Django's MySQL backend empties tables: a DELETE
        for each table, or a TRUNCATE if sequences are to be reset, between two
        statements that switch foreign key checks. ``execute_sql_flush()`` does not send
        the statements that would change nothing.
        """
        statements: list[str] = super().sql_flush(
            style,
            tables,
            reset_sequences=reset_sequences,
            allow_cascade=allow_cascade,
        )
        statements[1:-1] = [
            EmptyTable(sql, table, reset_sequences)
            for sql, table in zip(statements[1:-1], tables, strict=True)
        ]
        return statements

    def execute_sql_flush(self, sql_list: Sequence[str]) -> None:
        """
        Empty the tables of ``sql_flush()``.

        Only tables that have rows are emptied, and, if sequences are to be
        reset, tables whose AUTO_INCREMENT is greater than 1. Tables with few
        rows are emptied by DELETE in one transaction. Other tables are
        truncated, which commits and waits for open transactions that have used
        the table. Inside ``atomic()`` tables are truncated only to reset
        AUTO_INCREMENT. AUTO_RANDOM is never reset, because its ids are random
        anyway. https://docs.pingcap.com/tidb/stable/sql-statement-truncate
        """
        tables = {
            sql.table: sql.reset for sql in sql_list if isinstance(sql, EmptyTable)
        }
        if len(sql_list) != len(tables) + 2:
            # The list does not come from sql_flush(), or was changed afterwards.
            super().execute_sql_flush(sql_list)
            return
        connection = self.connection
        in_atomic_block = connection.in_atomic_block
        with connection.cursor() as cursor:
            truncate = self._tables_to_reset(
                cursor, [table for table, reset in tables.items() if reset]
            )
            others = [table for table in tables if table not in truncate]
            # A query in an open transaction reads the transaction's snapshot, and may
            # miss rows that DELETE finds. So DELETE is sent for every table then.
            delete = others if in_atomic_block else self.not_empty(cursor, others)
            if not (truncate or delete):
                return
            with connection.session_variables(foreign_key_checks=0):
                if delete:
                    with transaction.atomic(connection.alias, savepoint=False):
                        truncate += self._delete_rows(cursor, delete, in_atomic_block)
                for table in truncate:
                    cursor.execute(f"TRUNCATE TABLE {self.quote_name(table)}")

    def _delete_rows(self, cursor: Any, tables: list[str], all_rows: bool) -> list[str]:
        """Delete rows; return the tables that may still have some."""
        limit = "" if all_rows else f" LIMIT {_FEW_ROWS}"
        large = []
        for table in tables:
            cursor.execute(f"DELETE FROM {self.quote_name(table)}{limit}")
            if not all_rows and cursor.rowcount >= _FEW_ROWS:
                large.append(table)
        return large

    def not_empty(self, cursor: Any, tables: Iterable[str]) -> list[str]:
        """Return the tables that have rows. A name can be `database`.`table`."""
        found = []
        for batch in _batches(tables):
            cursor.execute(
                " UNION ALL ".join(
                    f"(SELECT {number} FROM {self.quote_name(table)} LIMIT 1)"
                    for number, table in enumerate(batch)
                )
            )
            found += [batch[number] for number in sorted(n for (n,) in cursor)]
        return found

    def _tables_to_reset(self, cursor: Any, tables: Iterable[str]) -> list[str]:
        """Return the tables whose AUTO_INCREMENT is greater than 1."""
        found = []
        for batch in _batches(tables):
            # The value is NULL for tables without AUTO_INCREMENT. It is 0 or 1 until
            # the server has used a table, even if the cluster has given out ids before.
            # https://docs.pingcap.com/tidb/stable/information-schema-tables
            cursor.execute(
                "SELECT LOWER(table_name) FROM information_schema.tables "
                "WHERE table_schema = DATABASE() AND "
                f"{self.connection.introspection.sql_table_name} IN %s "
                "AND auto_increment IS NOT NULL",
                [[table.lower() for table in batch]],
            )
            existing = {name for (name,) in cursor.fetchall()}
            found += [
                table
                for table in batch
                if table.lower() in existing and self._has_moved(cursor, table)
            ]
        return found

    def _has_moved(self, cursor: Any, table: str) -> bool:
        """
        Return whether the table's counter is greater than 1 on any server of
        the cluster. TiDB reports the largest next id of all servers.
        https://docs.pingcap.com/tidb/stable/sql-statement-show-table-next-rowid
        """
        cursor.execute(f"SHOW TABLE {self.quote_name(table)} NEXT_ROW_ID")
        return any(next_id > 1 for _, _, _, next_id, *_ in cursor.fetchall())

    def sequence_reset_by_name_sql(
        self, style: Any, sequences: Iterable[dict[str, Any]]
    ) -> list[str]:
        """
        Return a statement for each AUTO_INCREMENT counter that is greater than 1.
        After it, the counter continues from the greatest value in the table.

        TiDB allocates the given number even if a row has it. Lowering a counter
        needs FORCE, which TiDB supports from 6.1; on older servers only empty
        tables are reset, by TRUNCATE.
        https://docs.pingcap.com/tidb/stable/auto-increment
        """
        can_force = not KNOWN_ISSUES["force-auto-increment"].affects(
            self.connection.tidb_version
        )
        statements = []
        with self.connection.cursor() as cursor:
            for sequence in sequences:
                table, column = sequence["table"], sequence["column"]
                # A table without AUTO_INCREMENT has no column in this result.
                if not (column and self._has_moved(cursor, table)):
                    continue
                last = self._last_id(cursor, table, column)
                table = self.quote_name(table)
                if can_force:
                    statements.append(
                        f"{style.SQL_KEYWORD('ALTER TABLE')} "
                        f"{style.SQL_FIELD(table)} "
                        f"{style.SQL_KEYWORD('FORCE AUTO_INCREMENT')} = "
                        f"{(last or 0) + 1};"
                    )
                elif last is None:
                    statements.append(
                        f"{style.SQL_KEYWORD('TRUNCATE')} {style.SQL_FIELD(table)};"
                    )
        return statements

    def _last_id(self, cursor: Any, table: str, column: str) -> int | None:
        """Return the greatest number in a column, or None if the table is empty."""
        cursor.execute(
            "SELECT tidb_pk_type FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND LOWER(table_name) = LOWER(%s)",
            [table],
        )
        columns = [self.quote_name(column)]
        # The hidden row ids of the table share the counter:
        # https://docs.pingcap.com/tidb/stable/clustered-indexes
        if cursor.fetchone() == ("NONCLUSTERED",):
            columns.append("_tidb_rowid")
        numbers = ", ".join(f"MAX({column})" for column in columns)
        cursor.execute(f"SELECT GREATEST(0, {numbers}) FROM {self.quote_name(table)}")
        (last,) = cursor.fetchone()
        return None if last is None else int(last)
