"""SQL forms of Django's expressions that TiDB accepts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Func, OrderBy, Window, expressions
from django.db.models.expressions import CombinedExpression, DurationExpression
from django.db.models.fields.json import HasKeyLookup, KeyTransform
from django.db.models.functions import Cast, Chr, Greatest, Least, Round

from .compiler import subqueries
from .defaults import is_dropped

if TYPE_CHECKING:
    from django.db.models.sql.compiler import SQLCompiler

    from .base import DatabaseWrapper

# On TiDB, CHAR() takes the bytes of a character as one number. This expression computes
# the bytes in UTF-8. MySQL's form needs the character set utf16, which TiDB does not
# have:
# https://docs.pingcap.com/tidb/stable/character-set-and-collation
_UTF8 = (
    "CHAR(CASE"
    " WHEN {n} < 0x80 THEN {n}"
    " WHEN {n} < 0x800 THEN 0xC080 + ({n} DIV 64) * 256 + {n} MOD 64"
    " WHEN {n} < 0x10000 THEN 0xE08080 + ({n} DIV 4096) * 65536"
    " + ({n} DIV 64 MOD 64) * 256 + {n} MOD 64"
    " ELSE 0xF0808080 + ({n} DIV 262144) * 16777216"
    " + ({n} DIV 4096 MOD 64) * 65536 + ({n} DIV 64 MOD 64) * 256 + {n} MOD 64"
    " END USING utf8mb4)"
)


def chr_as_tidb(
    self: Chr, compiler: SQLCompiler, connection: DatabaseWrapper
) -> tuple[str, Any]:
    (expression,) = self.get_source_expressions()
    sql, params = compiler.compile(expression)
    return _UTF8.format(n=f"({sql})"), (*params,) * _UTF8.count("{n}")


def round_as_tidb(
    self: Round, compiler: SQLCompiler, connection: DatabaseWrapper
) -> tuple[str, Any]:
    # TiDB rounds an integer as a double: halves go to the even neighbour, unlike on
    # MySQL, and integers beyond 2**53 change.
    # https://docs.pingcap.com/tidb/stable/numeric-functions-and-operators
    if not isinstance(self.output_field, models.IntegerField):
        return self.as_sql(compiler, connection)
    number, precision = self.get_source_expressions()
    number_sql, number_params = compiler.compile(number)
    precision_sql, precision_params = compiler.compile(precision)
    unsigned = self.output_field.get_internal_type().startswith("Positive")
    return (
        f"CAST(ROUND(CAST({number_sql} AS DECIMAL(65, 0)), {precision_sql}) "
        f"AS {'UNSIGNED' if unsigned else 'SIGNED'})",
        (*number_params, *precision_params),
    )


# A backslash and the character that it escapes in the text of a JSON value.
_ESCAPE = re.compile(
    r"\\(?:u(?P<high>d[89ab][0-9a-f]{2})\\u(?P<low>d[c-f][0-9a-f]{2})|.)", re.DOTALL
)


def _path_for_tidb(path: str) -> str:
    """
    Return a JSON path in which characters beyond U+FFFF are not escaped. Django escapes
    them as surrogate pairs, to which TiDB answers with error 1105:
    https://github.com/pingcap/tidb/issues/61091
    """

    def character(match: re.Match[str]) -> str:
        if match["high"] is None:
            return match[0]
        pair = bytes.fromhex(match["high"] + match["low"])
        return pair.decode("utf-16-be")

    return _ESCAPE.sub(character, path)


def key_transform_as_tidb(
    self: KeyTransform, compiler: SQLCompiler, connection: DatabaseWrapper
) -> tuple[str, Any]:
    sql, params = self.as_mysql(compiler, connection)
    *others, path = params
    return sql, (*others, _path_for_tidb(path))


def has_key_as_tidb(
    self: HasKeyLookup, compiler: SQLCompiler, connection: DatabaseWrapper
) -> tuple[str, Any]:
    sql, params = self.as_mysql(compiler, connection)
    # The parameters of the left-hand side are repeated for each key, before its path.
    keys = self.rhs if isinstance(self.rhs, (list, tuple)) else [self.rhs]
    each = len(params) // len(keys) if keys else 1
    return sql, tuple(
        param if number % each else _path_for_tidb(param)
        for number, param in enumerate(params, 1)
    )


def duration_as_tidb(
    self: DurationExpression, compiler: SQLCompiler, connection: DatabaseWrapper
) -> tuple[str, Any]:
    # TiDB can add an INTERVAL, but cannot multiply it, so the duration is computed as a
    # number of microseconds.
    # https://docs.pingcap.com/tidb/stable/date-and-time-functions
    numbers = (
        models.DecimalField,
        models.DurationField,
        models.FloatField,
        models.IntegerField,
    )
    if self.connector not in (self.MUL, self.DIV) or not all(
        isinstance(side._output_field_or_none, numbers) for side in (self.lhs, self.rhs)
    ):
        return self.as_sql(compiler, connection)
    sql, params = CombinedExpression.as_sql(self, compiler, connection)
    return f"CAST({sql} AS SIGNED)", params


def extreme_as_tidb(
    self: Greatest | Least, compiler: SQLCompiler, connection: DatabaseWrapper
) -> tuple[str, Any]:
    # COALESCE() of a time and a parameter has a string type, and GREATEST() would then
    # compare strings.
    output = self.output_field
    if not isinstance(output, (models.DateField, models.TimeField)):
        return self.as_sql(compiler, connection)
    times = self.copy()
    times.set_source_expressions(
        [Cast(source, output) for source in self.get_source_expressions()]
    )
    sql, params = times.as_sql(compiler, connection)
    return f"CAST({sql} AS {output.cast_db_type(connection)})", params


def any_value_as_tidb(
    self: Any, compiler: SQLCompiler, connection: DatabaseWrapper
) -> tuple[str, Any]:
    # ANY_VALUE() inside a larger expression is refused with error 1055:
    # https://github.com/pingcap/tidb/issues/65334
    return self.as_sql(compiler, connection, function="MIN")


def database_default_as_tidb(
    self: Any, compiler: SQLCompiler, connection: DatabaseWrapper
) -> tuple[str, Any]:
    if is_dropped(self.output_field, connection):
        return compiler.compile(self.expression)
    return self.as_sql(compiler, connection)


def window_as_tidb(
    self: Window, compiler: SQLCompiler, connection: DatabaseWrapper
) -> tuple[str, Any]:
    # TiDB refuses a subquery that is the whole argument of a window function (error
    # 1105), but accepts it inside of another function. On TiDB 7.5 and older, the same
    # holds for PARTITION BY and ORDER BY, where the subquery can even stop the server.
    # https://github.com/pingcap/tidb/issues/56532
    compiler.has_windows = True
    if any(subqueries(self)):
        parts = [part and part.copy() for part in self.get_source_expressions()]
        for part in parts:
            # Change the function, PARTITION BY and ORDER BY, but not the frame.
            if isinstance(part, Func):
                part.source_expressions = [
                    _within_coalesce(source) for source in part.source_expressions
                ]
        self = self.copy()
        self.set_source_expressions(parts)
    return self.as_sql(compiler, connection)


def _within_coalesce(expression: Any) -> Any:
    if not any(subqueries(expression)):
        return expression
    if isinstance(expression, OrderBy):
        expression = expression.copy()
        expression.expression = _within_coalesce(expression.expression)
        return expression
    return Func(expression, function="COALESCE")


def register_functions() -> None:
    """Register the ``as_tidb`` methods, which only TiDB connections call."""
    Chr.as_tidb = chr_as_tidb
    DurationExpression.as_tidb = duration_as_tidb
    Greatest.as_tidb = extreme_as_tidb
    HasKeyLookup.as_tidb = has_key_as_tidb
    KeyTransform.as_tidb = key_transform_as_tidb
    Least.as_tidb = extreme_as_tidb
    Round.as_tidb = round_as_tidb
    Window.as_tidb = window_as_tidb
    # Django has this function from 5.0.
    if database_default := getattr(expressions, "DatabaseDefault", None):
        database_default.as_tidb = database_default_as_tidb
    # Django has this function from 6.0.
    if any_value := getattr(models, "AnyValue", None):
        any_value.as_tidb = any_value_as_tidb
