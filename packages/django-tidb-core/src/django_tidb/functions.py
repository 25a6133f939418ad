"""Forms of Django's database functions that TiDB understands."""

from __future__ import annotations

from typing import Any

from django.db.models.functions import Chr


def chr_as_tidb(
    self: Chr, compiler: Any, connection: Any, **extra_context: Any
) -> tuple[str, Any]:
    # TiDB has no character set utf16, which MySQL's form uses:
    # https://docs.pingcap.com/tidb/stable/character-set-and-collation
    return self.as_sql(
        compiler,
        connection,
        function="CHAR",
        template="%(function)s(%(expressions)s USING utf8mb4)",
        **extra_context,
    )


def register_functions() -> None:
    Chr.as_tidb = chr_as_tidb
