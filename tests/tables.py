"""
Models that are in no app's registry, and their tables.

The fixtures of conftest.py call these functions, and most tests use the fixtures.
"""

from __future__ import annotations

from contextlib import contextmanager

from django.db import connections, models
from django.test.utils import isolate_apps

APPS = ("tests.autorandom", "tests.core", "tests.vector")


def isolated_models():
    """Keep the models that the block defines out of the project's app registry."""
    return isolate_apps(*APPS)


def model_class(name, /, *bases, module, meta=None, **contents):
    """
    Return a new model with the fields `contents` and the Meta options `meta`.

    The model belongs to the app that contains the module `module` of the test.
    """
    contents["__module__"] = module
    if meta is not None:
        contents["Meta"] = type("Meta", (), meta)
    return type(name, bases or (models.Model,), contents)


@contextmanager
def tables_of_models():
    """
    Return a function that creates tables, which are dropped at the end of the block.

    A model has to come after the models that its foreign keys refer to. The tables are
    dropped in the opposite order.
    """
    connection = connections["default"]
    created = []

    def create(*classes):
        for model in classes:
            # The model is added first, because the statement can fail after it has
            # created the table.
            created.append(model)
            with connection.schema_editor() as editor:
                editor.create_model(model)

    try:
        yield create
    finally:
        tables = {table.lower() for table in connection.introspection.table_names()}
        for model in reversed(created):
            if model._meta.db_table.lower() in tables:
                with connection.schema_editor() as editor:
                    editor.delete_model(model)
