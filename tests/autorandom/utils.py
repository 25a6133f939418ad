from __future__ import annotations

from django.db import connections

connection = connections["default"]


def show_create_table(model):
    with connection.cursor() as cursor:
        cursor.execute(
            f"SHOW CREATE TABLE {connection.ops.quote_name(model._meta.db_table)}"
        )
        return cursor.fetchone()[1]
