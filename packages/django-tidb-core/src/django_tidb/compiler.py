"""
SQL compilers that look for ``as_tidb`` before ``as_mysql``.

An expression whose MySQL form TiDB refuses, or answers differently, has a
method ``as_tidb(compiler, connection)``. Connections to MySQL and MariaDB in
the same project never look at it.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.mysql import compiler as mysql

from .plugins import get_plugins


class SQLCompiler(mysql.SQLCompiler):
    def compile(self, node: Any) -> tuple[str, Any]:
        as_tidb = getattr(node, "as_tidb", None)
        if as_tidb is None:
            return super().compile(node)
        return as_tidb(self, self.connection)


class SQLInsertCompiler(SQLCompiler, mysql.SQLInsertCompiler):
    def as_sql(self) -> Any:
        for plugin in get_plugins():
            plugin.write(self.query, self.connection)
        return super().as_sql()


class SQLDeleteCompiler(SQLCompiler, mysql.SQLDeleteCompiler):
    pass


class SQLUpdateCompiler(SQLCompiler, mysql.SQLUpdateCompiler):
    def as_sql(self) -> Any:
        for plugin in get_plugins():
            plugin.write(self.query, self.connection)
        return super().as_sql()


class SQLAggregateCompiler(SQLCompiler, mysql.SQLAggregateCompiler):
    pass
