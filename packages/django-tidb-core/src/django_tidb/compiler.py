"""
SQL compilers that look for ``as_tidb`` before ``as_mysql``.

An expression whose MySQL form TiDB refuses, or answers differently, has a
method ``as_tidb(compiler, connection)``. Connections to MySQL and MariaDB in
the same project never look at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import FieldError
from django.db.backends.mysql import compiler as mysql
from django.db.models import Subquery, expressions
from django.db.models.expressions import Ref
from django.db.models.lookups import IsNull
from django.db.models.sql import AND, OR, Query
from django.db.models.sql.where import WhereNode

from .defaults import has_default, is_left_out
from .plugins import get_plugins, loading


class AsTiDBMixin:
    connection: Any

    def compile(self, node: Any) -> tuple[str, Any]:
        # In place of Django's, which is called for every node of every query.
        as_sql = (
            getattr(node, "as_tidb", None)
            or getattr(node, "as_mysql", None)
            or node.as_sql
        )
        sql, params = as_sql(self, self.connection)
        return sql, params


class SQLCompiler(AsTiDBMixin, mysql.SQLCompiler):
    having: Any

    def pre_sql_setup(self, with_col_aliases: bool = False) -> tuple[Any, Any, Any]:
        extra_select, order_by, group_by = super().pre_sql_setup(
            with_col_aliases=with_col_aliases
        )
        if self.having is not None:
            self.having = self._with_outer_columns(self.having)
        if self.query.distinct and not self.query.combinator:
            extra_select, order_by = self._with_order_aliases(extra_select, order_by)
            self.has_extra_select = bool(extra_select)
        return extra_select, order_by, group_by

    def _with_outer_columns(self, having: Any) -> Any:
        """
        Return `having` with a condition that is always true added for each
        column to which a subquery in it refers: TiDB finds such a column only
        if it stands outside of the subquery as well (error 1054).

        https://github.com/pingcap/tidb/issues/45181
        """
        columns = {
            column: None
            for column in _outer_columns(having)
            if column.alias in self.query.alias_map
        }
        always = [
            WhereNode([IsNull(column, True), IsNull(column, False)], OR)
            for column in columns
        ]
        return WhereNode([having, *always], AND) if always else having

    def _with_order_aliases(
        self, extra_select: list[Any], order_by: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        """
        Return what a SELECT DISTINCT selects in addition and is ordered by,
        with names for the subqueries in it: TiDB does not see that they are
        among what is selected (error 3065).

        https://docs.pingcap.com/tidb/stable/sql-mode
        """
        named_order = []
        for number, (order, (sql, params, is_ref)) in enumerate(order_by, 1):
            if not isinstance(order.expression, Ref) and any(_subqueries(order)):
                name = f"__order{number}"
                extra_select = [e for e in extra_select if e[0] is not order]
                extra_select.append(
                    (order.expression, self.compile(order.expression), name)
                )
                order = order.copy()
                order.set_source_expressions([Ref(name, order.expression)])
                sql, params = self.compile(order)
            named_order.append((order, (sql, params, is_ref)))
        return extra_select, named_order


def _subqueries(node: Any) -> Iterator[Any]:
    if isinstance(node, (Query, Subquery)):
        yield node
        return
    for child in node.get_source_expressions():
        if child is not None:
            yield from _subqueries(child)


def _outer_columns(node: Any) -> Iterator[Any]:
    for subquery in _subqueries(node):
        yield from subquery.get_external_cols()


class PluginWriteMixin:
    def as_sql(self) -> Any:
        for plugin in get_plugins():
            plugin.write(self.query, self.connection)  # type: ignore[attr-defined]
        return super().as_sql()  # type: ignore[misc]


def _as_signed(value: int, expression: Any, connection: Any) -> int:
    return value - 2**64 if value >= 2**63 else value


class SQLInsertCompiler(PluginWriteMixin, AsTiDBMixin, mysql.SQLInsertCompiler):
    def execute_sql(self, returning_fields: Any = None) -> Any:
        if not self.query.raw:
            return super().execute_sql(returning_fields)
        # The row is saved as a serializer has read it, its id included.
        with loading(self.connection):
            return super().execute_sql(returning_fields)

    def get_converters(self, expressions: Any) -> dict[int, tuple[list[Any], Any]]:
        """
        Return Django's converters of the one value that an INSERT returns, the
        last insert id. The protocol has that as an unsigned number, also where
        a row has brought a negative id.

        https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_ok_packet.html
        """
        converters: dict[int, tuple[list[Any], Any]] = super().get_converters(
            expressions
        )
        if expressions and self._may_be_negative(expressions[0].target):
            found, _ = converters.get(0, ([], None))
            converters[0] = ([_as_signed, *found], expressions[0])
        return converters

    def _may_be_negative(self, field: Any) -> bool:
        """
        Return whether the row brings a negative id. The type of the field does
        not tell: a key that is BIGINT UNSIGNED can have a plain AutoField, as
        inspectdb writes it.
        """
        if field not in self.query.fields:
            return False
        (obj,) = self.query.objs
        value = getattr(obj, field.attname)
        if hasattr(value, "resolve_expression"):
            # The server computes it, so the type has to tell.
            return "unsigned" not in field.db_type(self.connection).lower()
        value = field.get_db_prep_save(value, self.connection)
        return isinstance(value, int) and value < 0

    def pre_save_val(self, field: Any, obj: Any) -> Any:
        value = super().pre_save_val(field, obj)
        # From Django 6.0 on, a column is left out if all rows have its default.
        if (
            has_default(field)
            and isinstance(value, expressions.DatabaseDefault)
            and is_left_out(field, self.connection)
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
        # Later it is the order of the UPDATE. Django's MySQL backend leaves
        # that out on this error, but overlooks columns of other tables within
        # expressions.
        if getattr(self, "_is_set_up", False):
            table = self.query.get_meta().db_table
            for order, _ in order_by:
                for column in self.query._gen_cols([order]):
                    if column.alias != table:
                        raise FieldError(
                            f"UPDATE of {table!r} cannot be ordered by {column!r}."
                        )
        return order_by


class SQLAggregateCompiler(AsTiDBMixin, mysql.SQLAggregateCompiler):
    pass
