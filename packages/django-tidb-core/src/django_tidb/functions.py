"""Forms of Django's database functions that TiDB understands."""

from __future__ import annotations

from typing import Any

from django.db.models.functions import Chr

# CHAR() takes the bytes of a character as one number. MySQL's form counts on
# the character set utf16, which TiDB does not have, so this is UTF-8:
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


def chr_as_tidb(self: Chr, compiler: Any, connection: Any) -> tuple[str, Any]:
    (expression,) = self.get_source_expressions()
    sql, params = compiler.compile(expression)
    return _UTF8.format(n=f"({sql})"), (*params,) * _UTF8.count("{n}")


def register_functions() -> None:
    """Give the functions their ``as_tidb``, which only TiDB connections use."""
    Chr.as_tidb = chr_as_tidb
