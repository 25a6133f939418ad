from __future__ import annotations

from contextlib import contextmanager

from django.db import connections

connection = connections["default"]


def show_create_table(model):
    with connection.cursor() as cursor:
        cursor.execute(
            f"SHOW CREATE TABLE {connection.ops.quote_name(model._meta.db_table)}"
        )
        return cursor.fetchone()[1]


@contextmanager
def table(*models):
    """The tables of models that are in no app's registry."""
    for model in models:
        with connection.schema_editor() as editor:
            editor.create_model(model)
    try:
        yield
    finally:
        for model in reversed(models):
            with connection.cursor() as cursor:
                cursor.execute(
                    "DROP TABLE IF EXISTS "
                    + connection.ops.quote_name(model._meta.db_table)
                )
