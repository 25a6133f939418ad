from __future__ import annotations

from django.db.backends.mysql.introspection import (
    DatabaseIntrospection as MySQLDatabaseIntrospection,
)


class DatabaseIntrospection(MySQLDatabaseIntrospection):
    pass
