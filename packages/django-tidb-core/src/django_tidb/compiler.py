"""
SQL compilers that look for ``as_tidb`` before ``as_mysql``.

An expression has a method ``as_tidb(compiler, connection)`` if TiDB refuses its MySQL
form or returns another result for it. Connections to MySQL and MariaDB in the same
project never call this method.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import django
from django.core.exceptions import FieldError
from django.db import NotSupportedError
from django.db.backends.mysql import compiler as mysql
from django.db.models import Subquery, expressions
from django.db.models.expressions import RawSQL, Ref
from django.db.models.lookups import IsNull
from django.db.models.sql import AND, OR, Query
from django.db.models.sql.where import WhereNode

from .defaults import is_dropped
from .known_issues import KNOWN_ISSUES
from .model_fields import has_db_default
from .names import in_format
from .plugins import get_plugins, loading_fixtures

if TYPE_CHECKING:
    from django.db.models import Field, Model

    from .base import DatabaseWrapper

# Django has ColPairs from 5.2.
COL_PAIRS: Any = getattr(expressions, "ColPairs", ())


class AsTiDBMixin:
    connection: DatabaseWrapper
    #: The cache of quoted names, which Django fills.
    quote_cache: dict[str, str]
    #: Set when a window function is compiled.
    has_windows = False

    def compile(self, node: Any) -> tuple[str, Any]:
        # This replaces Django's method, which is called for every node of every query,
        # so it has to be fast.
        as_sql = (
            getattr(node, "as_tidb", None)
            or getattr(node, "as_mysql", None)
            or node.as_sql
        )
        sql, params = as_sql(self, self.connection)
        return sql, params

    # The SQL of a compiler is sent or formatted with parameters, so each percent
    # sign in a name is doubled. Names are quoted for every column of every query,
    # so the result is cached. Django 6.1 renamed the method.
    if django.VERSION >= (6, 1):

        def quote_name(self, name: str) -> str:
            if (quoted := self.quote_cache.get(name)) is None:
                quoted = in_format(super().quote_name(name))  # type: ignore[misc]
                self.quote_cache[name] = quoted
            return quoted

    else:

        def quote_name_unless_alias(self, name: str) -> str:
            if (quoted := self.quote_cache.get(name)) is None:
                quoted = in_format(super().quote_name_unless_alias(name))  # type: ignore[misc]
                self.quote_cache[name] = quoted
            return quoted


class SQLCompiler(AsTiDBMixin, mysql.SQLCompiler):
    """
    A compiler that lets TiDB find the outer columns that subqueries of a query refer
    to.

    TiDB looks for an outer column in FROM, except if the subquery stands in ORDER BY,
    in HAVING or in an expression with a window function. In these places, TiDB looks
    for the column among the names in the select list. It then finds no column (error
    1054), or two columns (error 1052), or it takes another column that is selected
    under that name. Therefore this compiler changes a query in three ways:

    - An expression of ORDER BY is added to the select list under a new name, and
      ORDER BY refers to this name.
    - In the other places, the outer column is also written outside of the subquery.
      TiDB then adds the column to the select list itself.
    - A selected column whose alias would hide the outer column is selected as an
      expression, which TiDB does not take for a column of the table.

    https://github.com/pingcap/tidb/issues/24324
    https://github.com/pingcap/tidb/issues/45181
    https://github.com/pingcap/tidb/issues/56532
    """

    query: Any
    having: Any
    select: list[Any]

    def as_sql(
        self, with_limits: bool = True, with_col_aliases: bool = False
    ) -> tuple[str, Any]:
        query = self.query
        if (
            query.select_for_update
            and query.select_for_update_skip_locked
            and not self.connection.features.has_select_for_update_skip_locked
        ):
            self._replace_skip_locked()
        sql, params = super().as_sql(with_limits, with_col_aliases)
        # Extra columns are selected only for ORDER BY. Django removes them from a
        # subquery, but not from the queries of a union.
        if with_col_aliases and self.has_extra_select and not self.query.subquery:
            names = (self.connection.ops.quote_name(name) for _, _, name in self.select)
            sql = f"SELECT {', '.join(names)} FROM ({sql}) subquery"
        return sql, params

    def _replace_skip_locked(self) -> None:
        """
        Remove SKIP LOCKED from the query if ``OPTIONS["skip_locked"]`` is "wait".
        Otherwise raise ``NotSupportedError``.
        """
        if self.connection.tidb_options.get("skip_locked") != "wait":
            issue = KNOWN_ISSUES["skip-locked"]
            # The message consists of Django's sentence and the option that Django does
            # not know.
            raise NotSupportedError(
                "SKIP LOCKED is not supported on this database backend. On TiDB "
                f"{issue.summary} {issue.link} With DATABASES"
                f"[{self.connection.alias!r}]['OPTIONS']['skip_locked'] = 'wait', "
                "select_for_update(skip_locked=True) waits for rows that others have "
                "locked, as select_for_update() does."
            )
        # The same query may also be compiled for another database, so change only a
        # copy.
        self.query = self.query.clone()
        self.query.select_for_update_skip_locked = False

    def pre_sql_setup(self, with_col_aliases: bool = False) -> tuple[Any, Any, Any]:
        extra_select, order_by, group_by = super().pre_sql_setup(
            with_col_aliases=with_col_aliases
        )
        # The expressions of ORDER BY get no names in three cases. A union can be
        # ordered only by selected columns. If a query filters on a window function,
        # Django puts the query into FROM and orders by the columns of that subquery.
        # With GROUP BY, Django ignores Meta.ordering.
        if not (
            self.query.combinator or self.qualify or (group_by and self._meta_ordering)
        ):
            extra_select, order_by = self._with_order_names(extra_select, order_by)
        outer: dict[Any, None] = {}
        if self.has_windows:
            self.select = self._with_outer_columns(self.select, outer)
            extra_select = self._with_outer_columns(extra_select, outer)
        if self.having is not None and (found := self._outer_columns(self.having)):
            always = (
                WhereNode([IsNull(column, True), IsNull(column, False)], OR)
                for column in found
            )
            self.having = WhereNode([self.having, *always], AND)
            outer |= found
        if outer:
            group_by = self._hide_aliases(outer, group_by)
        if self.has_extra_select:
            # A composite key is one expression with several columns. Django uses the
            # number of expressions to cut the additional columns off the rows.
            # https://docs.djangoproject.com/en/stable/topics/composite-primary-key/
            self.col_count = sum(
                len(expression) if isinstance(expression, COL_PAIRS) else 1
                for expression, _, _ in self.select
            )
            if with_col_aliases and not self.query.subquery:
                self.select = list(self._split_keys())
        return extra_select, order_by, group_by

    def _with_order_names(
        self, extra_select: list[Any], order_by: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        """
        Add expressions of ORDER BY to the select list under names, and order by the
        names.

        This concerns each expression with a subquery that refers to a column of the
        query. With DISTINCT, it concerns each expression with a subquery: TiDB does not
        recognise that the subquery is selected already, and answers with error 3065.

        Return the new `extra_select` and `order_by`.
        https://docs.pingcap.com/tidb/stable/sql-mode
        """
        named_orders = {}
        for index, (order, (sql, params, is_ref)) in enumerate(order_by):
            _, select, subquery_sql = sql.lower().partition("select")
            if (
                select
                and not isinstance(order.expression, Ref)
                and any(subqueries(order))
                and (self.query.distinct or self._refers_to_tables(subquery_sql))
            ):
                name = f"__order{index + 1}"
                named = order.copy()
                named.set_source_expressions([Ref(name, order.expression)])
                named_sql, named_params = self.compile(named)
                # Django can compile a subquery only once, so the SQL of the expression
                # is cut out of the SQL of the ORDER BY. If nulls_first or nulls_last
                # adds IS NULL to the ORDER BY, it contains the expression twice.
                before, *after = named_sql.split(self.connection.ops.quote_name(name))
                times = len(after)
                length = (len(sql) - len(before) - sum(map(len, after))) // times
                selected = sql[len(before) : len(before) + length]
                named_orders[id(order)] = (
                    order.expression,
                    (selected, params[: len(params) // times]),
                    name,
                )
                order_by[index] = (named, (named_sql, named_params, is_ref))
        if named_orders:
            extra_select = [e for e in extra_select if id(e[0]) not in named_orders]
            extra_select += named_orders.values()
            self.has_extra_select = True
            if self.query.subquery:
                self._name_columns()
        return extra_select, order_by

    def _refers_to_tables(self, sql: str) -> bool:
        # Raw SQL may contain names without backticks.
        sql = sql.replace("`", "")
        return any(
            f"{table}.".replace("`", "").lower() in sql
            for table in self.query.alias_map
        )

    def _name_columns(self) -> None:
        """
        Give each selected column a unique name. Django makes this query a subquery in
        FROM. The outer query selects the columns by these names, and leaves out the
        extra columns.
        """
        self.select = [
            # A composite key is one entry of the list, which cannot have an alias.
            (column, sql, name)
            if name or isinstance(column, COL_PAIRS)
            else (column, sql, f"__col{number}")
            for number, (column, sql, name) in enumerate(self.select, 1)
        ]

    def _split_keys(self) -> Iterator[Any]:
        """
        Yield the select list with each column of a composite key as a separate entry.
        Each entry has a unique name, by which the outer query selects it.
        """
        for expression, sql, name in self.select:
            if isinstance(expression, COL_PAIRS):
                for number, column in enumerate(expression, 1):
                    yield column, self.compile(column), f"{name}_{number}"
            else:
                yield expression, sql, name

    def _outer_columns(self, node: Any) -> dict[Any, None]:
        """Return the columns of this query to which subqueries in `node` refer."""
        return {
            column: None
            for column in outer_columns(node)
            if column.alias in self.query.alias_map
        }

    def _with_outer_columns(
        self, select: list[Any], outer: dict[Any, None]
    ) -> list[Any]:
        """
        Write outer columns of subqueries outside of the subqueries as well, for each
        expression in `select` that contains a window function.

        Such an expression becomes an argument of IF(). The condition of IF() mentions
        the columns and is never true, so the value of the expression stays the same.
        Return the new `select`, and add the columns to `outer`.
        """
        result = []
        for expression, (sql, params), name in select:
            if expression.contains_over_clause and (
                found := self._outer_columns(expression)
            ):
                never = " OR ".join(
                    f"{column} IS NULL AND {column} IS NOT NULL"
                    for column, _ in map(self.compile, found)
                )
                sql = f"IF({never}, NULL, {sql})"
                outer |= found
            result.append((expression, (sql, params), name))
        return result

    def _hide_aliases(self, outer: dict[Any, None], group_by: list[Any]) -> list[Any]:
        """
        Select a column as an expression if its alias would hide a column of `outer`.

        There are two such cases: a column of `outer` is selected under another name, or
        another column of the same table is selected under the name of a column of
        `outer`. Return `group_by` with the SQL of these selected columns in place of
        their positions.
        """
        positions = {}
        for column in outer:
            column_sql, _ = self.compile(column)
            column_name = column.target.column
            quoted = in_format(self.connection.ops.quote_name(column_name))
            table = column_sql.removesuffix(quoted)
            for index, (expression, (sql, params), alias) in enumerate(self.select):
                if (
                    alias
                    and sql.startswith(table)
                    and (sql == column_sql) != (alias.lower() == column_name.lower())
                ):
                    positions[str(index + 1)] = (sql, params)
                    sql = f"IF(TRUE, {sql}, NULL)"
                    self.select[index] = (expression, (sql, params), alias)
        return [positions.get(sql, (sql, params)) for sql, params in group_by]


def subqueries(node: Any) -> Iterator[Any]:
    """Yield the subqueries in an expression or condition."""
    if isinstance(node, (Query, Subquery)) or (
        isinstance(node, RawSQL) and "select" in node.sql.lower()
    ):
        yield node
        return
    # Not every condition has source expressions.
    for child in getattr(node, "get_source_expressions", list)():
        if child is not None:
            yield from subqueries(child)


def outer_columns(node: Any) -> Iterator[Any]:
    """Yield the columns to which subqueries in an expression or condition refer."""
    for subquery in subqueries(node):
        if not isinstance(subquery, RawSQL):
            query = getattr(subquery, "query", subquery)
            yield from query.get_external_cols()
            for combined in query.combined_queries:
                yield from outer_columns(combined)


class PluginWriteMixin:
    def as_sql(self) -> Any:
        for plugin in get_plugins():
            plugin.check_write(self.query, self.connection)  # type: ignore[attr-defined]
        return super().as_sql()  # type: ignore[misc]


def _as_signed(value: int, expression: Any, connection: DatabaseWrapper) -> int:
    return value - 2**64 if value >= 2**63 else value


class SQLInsertCompiler(PluginWriteMixin, AsTiDBMixin, mysql.SQLInsertCompiler):
    if django.VERSION < (6, 1):

        def as_sql(self) -> Any:
            statements = super().as_sql()
            # For these fields, Django calls quote_name() of the connection, not of the
            # compiler.
            fields = self.query.fields
            names = (self.query.get_meta().db_table, *(f.column for f in fields))
            if not any("%" in name for name in names):
                return statements
            return [(in_format(sql), params) for sql, params in statements]

    def execute_sql(self, returning_fields: Any = None) -> Any:
        if not self.query.raw:
            return super().execute_sql(returning_fields)
        # Like a fixture, the row is saved with the id and the values that were
        # deserialized.
        with loading_fixtures(self.connection):
            return super().execute_sql(returning_fields)

    def get_converters(self, expressions: Any) -> dict[int, tuple[list[Any], Any]]:
        """
        Return Django's converters for the only value that an INSERT returns, the last
        insert id. The protocol transmits this id as an unsigned number, even if the row
        was inserted with a negative id.

        https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_ok_packet.html
        """
        converters: dict[int, tuple[list[Any], Any]] = super().get_converters(
            expressions
        )
        if expressions and self._may_be_negative(expressions[0].target):
            found, _ = converters.get(0, ([], None))
            converters[0] = ([_as_signed, *found], expressions[0])
        return converters

    def _may_be_negative(self, field: Field) -> bool:
        """
        Return whether the row is inserted with a negative id. The type of the field
        does not tell: inspectdb writes an AutoField for a BIGINT UNSIGNED key.
        """
        if field not in self.query.fields:
            return False
        (obj,) = self.query.objs
        value = getattr(obj, field.attname)
        if hasattr(value, "resolve_expression"):
            # The server computes the id, so its sign follows from the column's type.
            return "unsigned" not in field.db_type(self.connection).lower()
        value = field.get_db_prep_save(value, self.connection)
        return isinstance(value, int) and value < 0

    def pre_save_val(self, field: Field, obj: Model) -> Any:
        value = super().pre_save_val(field, obj)
        # From Django 6.0 on, a column is left out if all rows have its default.
        if (
            has_db_default(field)
            and isinstance(value, expressions.DatabaseDefault)
            and is_dropped(field, self.connection)
        ):
            return value.expression
        return value


class SQLDeleteCompiler(AsTiDBMixin, mysql.SQLDeleteCompiler):
    pass


class SQLUpdateCompiler(PluginWriteMixin, AsTiDBMixin, mysql.SQLUpdateCompiler):
    def pre_sql_setup(self) -> None:
        super().pre_sql_setup()
        self._is_set_up = True

    def get_order_by(self) -> list[Any]:
        order_by = super().get_order_by()
        # An UPDATE with ORDER BY cannot use columns of other tables. If a column in
        # ORDER BY belongs to another table, Django's MySQL backend leaves ORDER BY out,
        # but it overlooks columns inside expressions and subqueries. If this method
        # raises FieldError for them, Django leaves ORDER BY out as well. Only the call
        # after the set-up of the query is for the ORDER BY of the UPDATE.
        if getattr(self, "_is_set_up", False):
            table = self.query.get_meta().db_table
            for order, _ in order_by:
                for column in self.query._gen_cols([order], include_external=True):
                    if column.alias != table:
                        raise FieldError(
                            f"UPDATE of {table!r} cannot be ordered by {column!r}."
                        )
        return order_by


class SQLAggregateCompiler(AsTiDBMixin, mysql.SQLAggregateCompiler):
    pass
