"""
DEFAULT clauses: TiDB accepts literals and some functions.

https://docs.pingcap.com/tidb/stable/data-type-default-values
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.db import NotSupportedError
from django.db.models import NOT_PROVIDED, Field
from django.db.models.expressions import Value
from django.db.models.sql import Query

from .known_issues import KNOWN_ISSUES
from .plugins import get_plugins

if TYPE_CHECKING:
    from .base import DatabaseWrapper

__all__ = [
    "check_default",
    "compiled_default",
    "default_sql",
    "interpolated",
    "is_dropped",
]

# The functions that can be a DEFAULT. The server checks their arguments.
_FUNCTIONS = (
    *("CURRENT_TIMESTAMP", "CURRENT_DATE", "DATE_FORMAT", "JSON_ARRAY", "JSON_OBJECT"),
    *("JSON_QUOTE", "NEXTVAL", "NOW", "RAND", "STR_TO_DATE", "UUID", "UUID_TO_BIN"),
)


@functools.cache
def _allowed() -> re.Pattern[str]:
    """Return a pattern for the beginning of expressions that can be a DEFAULT."""
    added = (name for plugin in get_plugins() for name in plugin.default_functions)
    functions = "|".join(map(re.escape, (*_FUNCTIONS, *added)))
    return re.compile(
        rf"(?:{functions})\b|UPPER\(SUBSTRING_INDEX\("
        r"|REPLACE\((?:CONVERT\()?UPPER\(UUID\(",
        re.IGNORECASE,
    )


# An expression is constant unless it contains one of these, whose values vary.
_VARYING = re.compile(
    r"@|`|\b(?:CONNECTION_ID|CUR(?:DATE|RENT_|TIME)\w*|DATABASE|FOUND_ROWS|GET_LOCK"
    r"|IS_FREE_LOCK|IS_USED_LOCK|LAST_INSERT_ID|LASTVAL|LOCALTIME\w*|NEXTVAL|NOW"
    r"|RAND\w*|RELEASE_\w+|ROW_COUNT|SCHEMA|SELECT|SESSION_USER|SETVAL|SLEEP|SYSDATE"
    r"|SYSTEM_USER|TIDB_\w+|UNIX_TIMESTAMP|USER|UTC_\w+|UUID\w*|VERSION)\b",
    re.IGNORECASE,
)

_TEXTS = ("BinaryField", "TextField")

# A function that returns the value of an expression, which it gets as SQL, parameters,
# the internal type of the field, and the connection.
_Compute = Callable[[str, Any, str, "DatabaseWrapper"], Any]


def compiled_default(field: Field, connection: DatabaseWrapper) -> tuple[str, Any]:
    """Return the SQL of a ``db_default`` and its parameters, supported or not."""
    compiler = Query(model=field.model).get_compiler(connection=connection)
    return compiler.compile(field._db_default_expression)


def interpolated(sql: str, params: Any, quote: Callable[[Any], str]) -> str:
    """
    Return the SQL of an expression with its parameters written into it as
    literals, which `quote` returns. Two percent signs stand for one, as in every
    expression. If there are no parameters, a single percent sign also stands for
    itself, as in Django's MySQL backend in CREATE TABLE.
    """
    if params:
        return sql % tuple(map(quote, params))
    return sql.replace("%%", "%")


def default_sql(
    field: Field, connection: DatabaseWrapper, compute: _Compute | None = None
) -> tuple[str, list[Any]]:
    """
    Return the SQL that follows DEFAULT for the ``db_default`` of `field`, and its
    parameters. A constant expression that TiDB cannot compute in DEFAULT is computed
    now, by a query unless `compute` is given.

    Raises ``NotSupportedError`` if TiDB supports no such DEFAULT.
    """
    sql, params = compiled_default(field, connection)
    kind = field.get_internal_type()
    version = connection.features.presumed_version
    if isinstance(field._db_default_expression, Value) and not _allowed().match(sql):
        value = params[0] if params else None
        if not params:
            return sql, []
    elif _allowed().match(sql):
        old = KNOWN_ISSUES["default-uuid"].affects(version)
        if not old or re.match("CURRENT_TIMESTAMP|NOW", sql, re.IGNORECASE):
            return (sql if old else f"({sql})"), list(params)
        value = NOT_PROVIDED
    elif _VARYING.search(sql):
        value = NOT_PROVIDED
    else:
        value = (compute or _constant)(sql, params, kind, connection)
    if value is None:
        return "NULL", []
    if value is not NOT_PROVIDED:
        if kind == "JSONField":
            if not KNOWN_ISSUES["default-json-functions"].affects(version):
                made = _json_sql(json.loads(value))
                if made is not None:
                    return f"({made[0]})", made[1]
        elif kind not in _TEXTS:
            return "%s", [value]
    written = interpolated(sql, params, repr)
    raise NotSupportedError(
        f"The db_default of {field} is {written}, which TiDB {version} cannot have as "
        f"DEFAULT of a {kind}. It may be a constant (not for text and binary fields) "
        "or one of the functions that TiDB lists: "
        f"{KNOWN_ISSUES['default-functions'].link}. Use default= instead."
    )


def check_default(field: Field, connection: DatabaseWrapper) -> None:
    """
    Raise ``NotSupportedError`` if TiDB does not support the ``db_default`` of `field`.
    This function does not connect: if the server's version is unknown, it presumes the
    newest version.
    """
    # The value of a constant matters only for JSON, where it may be an object.
    default_sql(field, connection, lambda *args: "{}")


def is_dropped(field: Field, connection: DatabaseWrapper) -> bool:
    """
    Return whether the option ``drop_unsupported_db_defaults`` has dropped the
    ``db_default`` of `field`, so that its value has to be in the INSERT.
    """
    if not connection.tidb_options.get("drop_unsupported_db_defaults"):
        return False
    known = connection.tidb_dropped_defaults
    if field not in known:
        try:
            default_sql(field, connection)
        except NotSupportedError:
            known[field] = True
        else:
            known[field] = False
    return bool(known[field])


def _constant(sql: str, params: Any, kind: str, connection: DatabaseWrapper) -> Any:
    if kind == "FloatField":
        # Otherwise the server would round PI() to six decimals.
        sql = f"({sql}) + 0e0"
    with connection.cursor() as cursor:
        if params:
            cursor.execute(f"SELECT {sql}", params)
        else:
            cursor.execute(f"SELECT {interpolated(sql, (), repr)}")
        return cursor.fetchone()[0]


def _json_sql(value: Any) -> tuple[str, list[Any]] | None:
    """
    Return an expression for an object, an array or a string as a JSON value. The
    expression consists of functions that TiDB allows in DEFAULT.
    """
    if isinstance(value, str):
        return "JSON_QUOTE(%s)", [value]
    if isinstance(value, dict):
        name = "JSON_OBJECT"
        members = [member for pair in value.items() for member in pair]
    elif isinstance(value, list):
        name, members = "JSON_ARRAY", value
    else:
        return None
    parts: list[str] = []
    params: list[Any] = []
    for member in members:
        if isinstance(member, dict | list):
            sql, inner = _json_sql(member) or ("", [])
            parts.append(sql)
            params += inner
        elif isinstance(member, bool) or member is None:
            parts.append({True: "TRUE", False: "FALSE", None: "NULL"}[member])
        else:
            parts.append("%s")
            params.append(member)
    return f"{name}({', '.join(parts)})", params
