"""
The registry of plugins, which are other distributions that extend this backend.

A distribution registers its plugin, an instance of a subclass of
:class:`Plugin`, in the entry-point group ``django_tidb.plugins``::

    [project.entry-points."django_tidb.plugins"]
    example = "django_tidb_example.plugin:plugin"

The module of the plugin is imported together with the engine, before the apps
are loaded. It must not import models, and should not import other modules that
take long. Its methods import such modules when they are called.

The contract is described, hook by hook, in ``docs/ref/plugins.md``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .compat import add_meta_options

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from importlib.metadata import EntryPoint

    from django.core.checks import CheckMessage
    from django.core.management.base import CommandParser
    from django.db.migrations.state import ModelState
    from django.db.models import Field, ForeignKey, Model
    from django.db.models.sql import InsertQuery, UpdateQuery

    from .base import DatabaseWrapper
    from .introspection import FieldInfo
    from .known_issues import KnownIssue
    from .schema import DatabaseSchemaEditor

__all__ = ["API_VERSION", "GROUP", "Plugin", "get_plugins"]

#: The version of the contract between core and its plugins.
API_VERSION = 2
#: The entry-point group in which plugins are registered.
GROUP = "django_tidb.plugins"


class Plugin:
    """
    The base class of plugins: each plugin is an instance of a subclass.

    A subclass sets :attr:`name` and :attr:`api_version` and overrides the hooks
    that it needs. The default of every hook adds nothing, so core has no
    special case for a project without plugins. Core calls each hook from one
    place only, in the order of the plugins' names, and only for connections to
    TiDB.
    """

    #: The name of the plugin, which must equal the name of its entry point.
    name: str
    #: The :data:`API_VERSION` for which the plugin was written.
    api_version: int
    #: The names of options that the plugin adds to ``class Meta`` of models. Core
    #: registers them when it loads the plugin.
    meta_options: tuple[str, ...] = ()
    #: The names of options that the plugin adds to DATABASES[...]["OPTIONS"]. Their
    #: values are in ``connection.tidb_options`` and are not passed to the driver.
    database_options: tuple[str, ...] = ()
    #: The names of SQL functions that TiDB accepts in the DEFAULT of a column.
    default_functions: tuple[str, ...] = ()
    #: A mapping of import paths of django-tidb, which are in the migrations of
    #: projects, to the current import paths.
    legacy_imports: Mapping[str, str] = {}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"The plugin {self.name!r} is shared by all threads; its {name!r} cannot "
            "be set."
        )

    # -- Tables

    def table_options(
        self, model: type[Model], connection: DatabaseWrapper
    ) -> Iterable[str]:
        """
        Return table options for CREATE TABLE of `model`, as SQL. Raise
        ValueError for an option with a value that is not allowed.
        """
        return ()

    def partitioning(self, model: type[Model], connection: DatabaseWrapper) -> str:
        """
        Return the PARTITION BY clause for CREATE TABLE of `model`, as SQL, or
        "". Core places it after the table options of all plugins, as TiDB's
        grammar requires.
        """
        return ""

    def clustering(self, model: type[Model], connection: DatabaseWrapper) -> str:
        """
        Return the storage keyword of the primary key in CREATE TABLE of
        `model`: CLUSTERED, NONCLUSTERED, NONCLUSTERED GLOBAL, or "" for the
        server's default. The first plugin that returns a keyword decides.
        """
        return ""

    def unique_suffix(self, model: type[Model], connection: DatabaseWrapper) -> str:
        """
        Return the option that is appended to unique indexes of `model`, such as
        GLOBAL, or "". The first plugin that returns an option decides.
        """
        return ""

    def alter_table_options(
        self,
        schema_editor: DatabaseSchemaEditor,
        old_model: type[Model],
        new_model: type[Model],
    ) -> None:
        """
        Alter the table of `new_model` from the plugin's Meta options of
        `old_model` to those of `new_model`.
        :class:`django_tidb.table_options.AlterTableOptions` calls this hook.
        Raise an error for an impossible change before any SQL is sent.
        """

    def check_altered_options(
        self, old_state: ModelState, new_state: ModelState
    ) -> None:
        """
        Warn of a change of the plugin's Meta options that ``makemigrations``
        has detected, or raise an error if its migration would fail.
        """

    def check_foreign_key(
        self, field: ForeignKey, schema_editor: DatabaseSchemaEditor
    ) -> None:
        """
        Raise ``NotSupportedError`` if TiDB would refuse the constraint of the
        foreign key `field`. Core calls this hook before the statement that adds
        the constraint.
        """

    def rebuilding(
        self, schema_editor: DatabaseSchemaEditor, table: str
    ) -> AbstractContextManager[object]:
        """
        Return a context manager that is active while the rows of `table` are
        copied to a new table that replaces it. If an error occurs, the old
        table is still in place when the context manager exits.
        """
        return nullcontext()

    # -- Columns

    def takes_default(self, field: Field, connection: DatabaseWrapper) -> bool:
        """
        Return whether ADD COLUMN and ALTER TABLE accept a DEFAULT for the
        column of `field`. If so, existing rows get their first value from it.
        """
        return True

    def add_field(
        self, schema_editor: DatabaseSchemaEditor, model: type[Model], field: Field
    ) -> bool:
        """
        Add a column in the plugin's own way and return True, or return False to
        leave the change to core. Raise an error for an impossible change before
        any SQL is sent.
        """
        return False

    def alter_field(
        self,
        schema_editor: DatabaseSchemaEditor,
        model: type[Model],
        old_field: Field,
        new_field: Field,
    ) -> bool:
        """
        Alter a column in the plugin's own way and return True, or return False
        to leave the change to core. Raise an error for an impossible change
        before any SQL is sent.
        """
        return False

    def introspect_column(
        self, column: FieldInfo, connection: DatabaseWrapper
    ) -> tuple[str, dict[str, Any]] | None:
        """
        Return the import path of the field for a column of a table, and the
        field's arguments, as inspectdb writes them. Return None if the plugin
        does not know the column. The first plugin that returns a field decides.
        """
        return None

    # -- Rows

    def check_write(
        self, query: InsertQuery | UpdateQuery, connection: DatabaseWrapper
    ) -> None:
        """
        Raise an error if TiDB would refuse the rows of an INSERT or UPDATE
        query. Core calls this hook before the query is compiled.
        """

    def loading_fixtures(
        self, connection: DatabaseWrapper
    ) -> AbstractContextManager[object]:
        """
        Return a context manager that is active while deserialized rows are
        written: fixtures, the rows of a serialized test database, and each
        object that is saved with ``raw=True``.
        """
        return nullcontext()

    # -- Projects

    def set_up_test_database(self, connection: DatabaseWrapper) -> None:
        """
        Prepare a test database that has no tables yet, or a connection to one
        of its clones.
        """

    def known_issues(self) -> Iterable[KnownIssue]:
        """
        Return entries for the table of known issues. Each should have a test
        that runs the statement on a server.
        """
        return ()

    def check_database(self, connection: DatabaseWrapper) -> Iterable[CheckMessage]:
        """
        Return the messages of the plugin's system checks that query the server.
        They run with ``check --database`` and ``migrate``.
        """
        return ()

    def report(self, connection: DatabaseWrapper) -> Mapping[str, list[dict[str, Any]]]:
        """
        Return the plugin's part of the report of ``manage.py tidb`` on a
        database: a mapping of headings to rows, with values that JSON can
        represent.
        """
        return {}

    def add_subcommands(self, subparsers: _SubParsersAction[CommandParser]) -> None:
        """
        Add sub-commands to ``manage.py tidb``: call
        ``subparsers.add_parser(...)``, and
        ``set_defaults(subcommand=function)`` on its result. The function is
        called with the command and its options.
        """


def _load(entry_point: EntryPoint) -> Plugin:
    try:
        plugin = entry_point.load()
    except Exception as error:
        raise ImproperlyConfigured(
            f"{_describe(entry_point)} cannot be loaded: {error!r}. Repair or "
            "uninstall that distribution."
        ) from error
    if not isinstance(plugin, Plugin):
        raise ImproperlyConfigured(
            f"{_describe(entry_point)} is {plugin!r}, not an instance of "
            f"{Plugin.__module__}.{Plugin.__qualname__}."
        )
    api_version = getattr(plugin, "api_version", None)
    if api_version != API_VERSION:
        raise ImproperlyConfigured(
            f"{_describe(entry_point)} was written for plugin API {api_version!r}; "
            f"this django-tidb-core has {API_VERSION}. Install versions of the two "
            "that fit together."
        )
    name = getattr(plugin, "name", None)
    if name != entry_point.name:
        raise ImproperlyConfigured(
            f"{_describe(entry_point)} calls itself {name!r}; the two names must be "
            "the same."
        )
    return plugin


def _origin(entry_point: EntryPoint) -> str:
    dist = entry_point.dist
    return f"{dist.name} {dist.version}" if dist else "an unknown distribution"


def _describe(entry_point: EntryPoint) -> str:
    return (
        f"The plugin {entry_point.name!r} ({entry_point.value}) of "
        f"{_origin(entry_point)} in the entry-point group {GROUP!r}"
    )


@functools.cache
def get_plugins() -> tuple[Plugin, ...]:
    """
    Return the installed plugins, sorted by name, and register their options of
    ``class Meta``.

    The installed distributions are scanned once per process; a test that
    changes them calls ``get_plugins.cache_clear()``. Raises
    ``ImproperlyConfigured``, naming distribution, version and entry point, if a
    plugin cannot be loaded or was written for another API version, or if two
    plugins have the same name.
    """
    # Importing importlib.metadata for the first time takes about 50 ms.
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for entry_point in entry_points(group=GROUP):
        if twin := found.get(entry_point.name):
            raise ImproperlyConfigured(
                f"{_describe(entry_point)} has the same name as the plugin of "
                f"{_origin(twin)} "
                f"({twin.value}). Uninstall one of the two."
            )
        found[entry_point.name] = entry_point
    plugins = tuple(_load(found[name]) for name in sorted(found))
    add_meta_options(name for p in plugins for name in p.meta_options)
    return plugins


@contextmanager
def loading_fixtures(connection: DatabaseWrapper) -> Iterator[None]:
    """
    Return a context manager that combines ``loading_fixtures`` of all plugins.
    Deserialized rows are written inside it.
    """
    with ExitStack() as stack:
        for plugin in get_plugins():
            stack.enter_context(plugin.loading_fixtures(connection))
        yield


def legacy_names(
    module: str, names: Iterable[str], distribution: str
) -> Callable[[str], object]:
    """
    Return a ``__getattr__`` function for `module`, an import path of
    django-tidb. It serves `names` from the plugin that `distribution` installs,
    and raises ImportError, naming that distribution, if no plugin does.
    """
    known = frozenset(names)

    def __getattr__(name: str) -> object:
        if name not in known:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        path = f"{module}.{name}"
        for plugin in get_plugins():
            if path in plugin.legacy_imports:
                return import_string(plugin.legacy_imports[path])
        raise ImportError(
            f"{path} needs the plugin {distribution}. Install it: pip install "
            f"{distribution}. New code imports {name} from "
            f"{distribution.replace('-', '_')}."
        )

    return __getattr__
