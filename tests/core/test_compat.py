"""Test the functions of Django that the backend replaces."""

from __future__ import annotations

from unittest import mock

import pytest
from django.core.management.commands.migrate import Command
from django.db import connections, migrations
from django.db.migrations import operations
from django.db.migrations.state import ProjectState

from django_tidb import compat

# When Django adds another operation, decide whether its statements may be gathered.
KNOWN = {
    *("AddConstraint", "AddField", "AddIndex", "AlterConstraint", "AlterField"),
    *("AlterIndexTogether", "AlterModelManagers", "AlterModelOptions"),
    *("AlterModelTable", "AlterModelTableComment", "AlterOrderWithRespectTo"),
    *("AlterUniqueTogether", "CreateModel", "DeleteModel", "RemoveConstraint"),
    *("RemoveField", "RemoveIndex", "RenameField", "RenameIndex", "RenameModel"),
}


def test_operations_that_gather():
    found = {operation.__name__ for operation in compat.GATHERING_OPERATIONS}
    assert found <= KNOWN
    assert KNOWN - found <= {"AlterConstraint"}
    assert operations.RunPython not in compat.GATHERING_OPERATIONS


def test_functions_are_replaced_once():
    compat._replace_sync_apps()
    before = migrations.Migration.apply, Command.sync_apps
    assert {function.__module__ for function in before} == {compat.__name__}
    compat.install()
    compat._replace_sync_apps()
    assert (migrations.Migration.apply, Command.sync_apps) == before


def test_mocks_are_not_replaced():
    with mock.patch.object(Command, "sync_apps") as mocked:
        compat._replace_sync_apps()
        assert Command.sync_apps is mocked


@pytest.mark.django_db(transaction=True, databases=["default", "sqlite"])
def test_migrations_of_other_databases_are_applied_as_they_are():
    class Noted(migrations.RunSQL):
        def database_forwards(self, *args):
            self.applied = args

    class Migration(migrations.Migration):
        operations = [Noted("")]

    migration = Migration("0001_initial", "core")
    state = ProjectState()
    before = list(connections["sqlite"].execute_wrappers)
    with connections["sqlite"].schema_editor(collect_sql=True) as editor:
        assert migration.apply(state, editor, collect_sql=True) is state
    (operation,) = migration.operations
    assert operation.applied[1] is editor
    assert connections["sqlite"].execute_wrappers == before


@pytest.mark.django_db(transaction=True, databases=["default", "sqlite"])
def test_tables_of_other_databases_are_synchronized_as_they_are(monkeypatch):
    seen = []
    monkeypatch.setattr(
        compat, "_GatheringConnection", lambda connection: seen.append(connection)
    )
    command = Command()
    command.verbosity = 0
    monkeypatch.setattr(
        connections["sqlite"].introspection, "table_names", lambda cursor: []
    )
    command.sync_apps(connections["sqlite"], set())
    assert seen == []
