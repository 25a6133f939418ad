"""
Replacements of internals of Django, each with the ticket that would make it
unnecessary. For connections of other backends they call the original.

The ``apps.py`` of core imports this module, so it must not import the driver.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from django.db.migrations import Migration, operations, state
from django.db.migrations.executor import MigrationExecutor
from django.db.models import options
from django.db.models.signals import pre_migrate

from . import migrating

if TYPE_CHECKING:
    from django.core.management.base import BaseCommand
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.migrations.state import ProjectState

    from .base import DatabaseWrapper
    from .gathering import Gathering

__all__ = ["add_meta_options", "has_tidb", "install"]


def has_tidb(connection: BaseDatabaseWrapper) -> bool:
    """Return whether `connection` is a connection of this backend."""
    # This repeats django_tidb.is_tidb(): an installed django-tidb may have replaced the
    # module of that function, which the check tidb.W001 reports.
    return getattr(connection, "tidb", False)


# -- Options of class Meta that plugins define
# -- https://code.djangoproject.com/ticket/5793


def add_meta_options(names: Iterable[str]) -> None:
    """
    Make ``class Meta`` accept `names`, in models and in the model states of
    migrations.

    Django reads the options of a model when it creates the class. The engine
    loads the plugins for the first connection, which may be later. Therefore
    the ``apps.py`` of core and of each plugin with such options also calls
    ``get_plugins()``: Django imports every ``apps.py`` before the first model,
    whatever the order of INSTALLED_APPS.
    """
    known = dict.fromkeys((*options.DEFAULT_NAMES, *names))
    options.DEFAULT_NAMES = state.DEFAULT_NAMES = tuple(known)


# -- Functions that are replaced when the engine is imported

#: The operations whose statements may be gathered: all operations of Django
#: except those that execute code or SQL of the project. Subclasses are
#: excluded.
GATHERING_OPERATIONS = frozenset(
    getattr(operations, name) for name in operations.__all__
) - {operations.RunPython, operations.RunSQL, operations.SeparateDatabaseAndState}


def install() -> None:
    """Replace the functions. Further calls in the same process have no effect."""
    _replace(Migration, "apply", _applying)
    _replace(MigrationExecutor, "migrate", _migrating)
    _replace(MigrationExecutor, "apply_migration", partial(_in_migration, False))
    _replace(MigrationExecutor, "unapply_migration", partial(_in_migration, True))
    # sync_apps() of the migrate command is replaced when the command sends its first
    # signal, because importing the command now would take 50 ms in every process.
    pre_migrate.connect(_replace_sync_apps, dispatch_uid=f"{__name__}.sync_apps")


def _replace_sync_apps(**kwargs: Any) -> None:
    from django.core.management.commands.migrate import Command

    _replace(Command, "sync_apps", _syncing)


def _replace(
    owner: type, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    original = getattr(owner, name)
    # A test may have replaced the function by a mock, which is left in place.
    if inspect.isfunction(original) and original.__module__ != __name__:
        wrapper = wraps(original)(wrap(original))
        wrapper.__module__ = __name__
        setattr(owner, name, wrapper)


# -- Migration.apply: its operations may gather statements
# -- https://code.djangoproject.com/ticket/24203


def _applying(apply: Callable[..., Any]) -> Callable[..., Any]:
    def apply_gathering(
        migration: Migration,
        project_state: ProjectState,
        schema_editor: BaseDatabaseSchemaEditor,
        collect_sql: bool = False,
    ) -> Any:
        if has_tidb(schema_editor.connection):
            with schema_editor.gathering() as gathering:
                announced = copy.copy(migration)
                announced.operations = _announced(migration, gathering)
                return apply(announced, project_state, schema_editor, collect_sql)
        return apply(migration, project_state, schema_editor, collect_sql)

    return apply_gathering


def _announced(migration: Migration, gathering: Gathering) -> Iterator[Any]:
    """Yield each operation after the gathering has been told that it begins."""
    for operation in migration.operations:
        may_gather = type(operation) in GATHERING_OPERATIONS
        gathering.begin_operation(
            f"{operation.describe()} ({migration})" if may_gather else None
        )
        yield operation


# -- migrate: its DDL statements get a tag, a counter and notes
# -- No ticket is known. An executor of one's own, which would make this unnecessary, is
# -- proposed in https://github.com/django/new-features/issues/164


def _run(
    connection: DatabaseWrapper, command: BaseCommand
) -> AbstractContextManager[migrating.MigrateRun | None]:
    # While a test database is being created, no other client uses it, and the test
    # runner prints its own output.
    if connection.creation.creating:
        return nullcontext()
    return migrating.running(connection, command)


def _migrating(migrate: Callable[..., Any]) -> Callable[..., Any]:
    def migrate_watched(
        executor: MigrationExecutor, targets: Any, plan: Any = None, **kwargs: Any
    ) -> Any:
        from django.core.management.base import BaseCommand

        # The migrate command passes one of its methods as the callback of the executor.
        # Other callers pass no callback.
        command = getattr(executor.progress_callback, "__self__", None)
        if not (has_tidb(executor.connection) and isinstance(command, BaseCommand)):
            return migrate(executor, targets, plan, **kwargs)
        with _run(executor.connection, command) as run:
            if run and plan and not kwargs.get("fake"):
                run.find_earlier()
            return migrate(executor, targets, plan, **kwargs)

    return migrate_watched


def _in_migration(backwards: bool, apply: Callable[..., Any]) -> Callable[..., Any]:
    def apply_in_run(
        executor: MigrationExecutor,
        state: Any,
        migration: Migration,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        run = migrating.current(executor.connection)
        if run is None:
            return apply(executor, state, migration, *args, **kwargs)
        # Code and SQL of the project must not be executed a second time.
        noted = {*map(type, migration.operations)} <= GATHERING_OPERATIONS
        with run.applying(migration, backwards=backwards, noted=noted):
            return apply(executor, state, migration, *args, **kwargs)

    return apply_in_run


# -- migrate --run-syncdb: its tables may be gathered
# -- https://code.djangoproject.com/ticket/24203


def _syncing(sync_apps: Callable[..., Any]) -> Callable[..., Any]:
    def sync_apps_gathering(
        command: Any, connection: DatabaseWrapper, app_labels: Iterable[str]
    ) -> Any:
        if not has_tidb(connection):
            return sync_apps(command, connection, app_labels)
        with _run(connection, command):
            return sync_apps(command, _GatheringConnection(connection), app_labels)

    return sync_apps_gathering


class _GatheringConnection:
    """A wrapper of a connection, whose schema editors gather statements."""

    def __init__(self, connection: DatabaseWrapper) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @contextmanager
    def schema_editor(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with (
            self._connection.schema_editor(*args, **kwargs) as editor,
            editor.gathering("migrate --run-syncdb"),
        ):
            yield editor
