"""
The registry of plugins: other distributions that extend this backend.

A plugin's distribution names one instance of a subclass of :class:`Plugin` in
the entry-point group ``django_tidb.plugins``::

    [project.entry-points."django_tidb.plugins"]
    example = "django_tidb_example.plugin:plugin"

The module that holds it must import nothing heavy, models least of all: it is
loaded together with the engine, before the apps are. Its methods import what
they need when they are called.

The contract, hook by hook, is in ``docs/ref/plugins.md``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

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
#: The entry-point group that is scanned for plugins.
GROUP = "django_tidb.plugins"


class Plugin:
    """
    What one plugin adds to the backend.

    A subclass sets :attr:`name` and :attr:`api_version` and overrides the hooks
    that it needs. The defaults of all others add nothing, so core has no special
    case for a project without plugins. Core calls each hook from one place only,
    in the order of the plugins' names, and only for connections to TiDB.
    """

    #: The name of the plugin; the same as its entry point's.
    name: str
    #: The :data:`API_VERSION` that the plugin was written for.
    api_version: int
    #: Names that ``class Meta`` of a model accepts. They are registered when
    #: core loads the plugin.
    meta_options: tuple[str, ...] = ()
    #: Names that DATABASES[...]["OPTIONS"] accepts beside the driver's; their
    #: values are found in ``connection.tidb_options``.
    database_options: tuple[str, ...] = ()
    #: Names of SQL functions that TiDB accepts as the DEFAULT of a column.
    default_functions: tuple[str, ...] = ()
    #: Import paths of django-tidb, as found in users' migrations, mapped to the
    #: paths that these names have now.
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
        Return table options for CREATE TABLE of `model`, as finished SQL.
        Raise ValueError for a value that is not allowed.
        """
        return ()

    def partitioning(self, model: type[Model], connection: DatabaseWrapper) -> str:
        """
        Return PARTITION BY for CREATE TABLE of `model`, as finished SQL, or "".
        It follows the table options of all plugins, as TiDB's grammar demands.
        """
        return ""

    def clustering(self, model: type[Model], connection: DatabaseWrapper) -> str:
        """
        Return what CREATE TABLE says of the storage of the primary key of
        `model`: CLUSTERED, NONCLUSTERED, NONCLUSTERED GLOBAL, or "" for the
        server's choice. The first plugin with an answer decides.
        """
        return ""

    def unique_suffix(self, model: type[Model], connection: DatabaseWrapper) -> str:
        """
        Return the option that the unique indexes of `model` end with, such as
        GLOBAL, or "". The first plugin with an answer decides.
        """
        return ""

    def alter_table_options(
        self,
        schema_editor: DatabaseSchemaEditor,
        old_model: type[Model],
        new_model: type[Model],
    ) -> None:
        """
        Give the table of `new_model`, which has the Meta options of `old_model`,
        the Meta options of `new_model`, as far as they are the plugin's own.
        :class:`django_tidb.table_options.AlterTableOptions` calls it.

        Raise before any SQL for a change that is not possible.
        """

    def check_altered_options(
        self, old_state: ModelState, new_state: ModelState
    ) -> None:
        """
        Warn of a change of the plugin's Meta options, or raise the error that it
        will end with, when ``makemigrations`` has found one.
        """

    def check_foreign_key(
        self, field: ForeignKey, schema_editor: DatabaseSchemaEditor
    ) -> None:
        """
        Raise ``NotSupportedError`` if TiDB would refuse the constraint of the
        foreign key `field`. Called before the statement that brings it.
        """

    def rebuilding(
        self, schema_editor: DatabaseSchemaEditor, table: str
    ) -> AbstractContextManager[object]:
        """
        Return a context manager for the time in which the rows of `table` are
        copied into a new table that takes its place. It is left after an error
        too, with the old table in place.
        """
        return nullcontext()

    # -- Columns

    def takes_default(self, field: Field, connection: DatabaseWrapper) -> bool:
        """
        Return whether ADD COLUMN and ALTER TABLE can give the column of `field`
        a DEFAULT, so that its rows get their first value from it.
        """
        return True

    def add_field(
        self, schema_editor: DatabaseSchemaEditor, model: type[Model], field: Field
    ) -> bool:
        """
        Add a column in the plugin's own way. Return True if that has been done,
        False to leave it to core. Raise before any SQL if it is not possible.
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
        Alter a column in the plugin's own way. Return True if that has been
        done, False to leave it to core. Raise before any SQL if it is not
        possible.
        """
        return False

    def introspect_column(
        self, column: FieldInfo, connection: DatabaseWrapper
    ) -> tuple[str, dict[str, Any]] | None:
        """
        Recognise a column of a table. Return the import path of its field and
        the field's arguments, as inspectdb writes them, or None. The first
        plugin with an answer decides.
        """
        return None

    # -- Rows

    def check_write(
        self, query: InsertQuery | UpdateQuery, connection: DatabaseWrapper
    ) -> None:
        """
        Raise the error of a query whose rows TiDB would refuse. Called before
        the query is compiled.
        """

    def loading_fixtures(
        self, connection: DatabaseWrapper
    ) -> AbstractContextManager[object]:
        """
        Return a context manager for the time in which rows are written as a
        serializer has read them: fixtures, the rows of a serialized test
        database, and each row that is saved with ``raw=True``.
        """
        return nullcontext()

    # -- Projects

    def set_up_test_database(self, connection: DatabaseWrapper) -> None:
        """
        Prepare a test database, which exists and has no tables yet, or a
        connection to one of its copies.
        """

    def known_issues(self) -> Iterable[KnownIssue]:
        """
        Return entries for the table of known issues. Each is expected to have a
        test that runs the statement on a server.
        """
        return ()

    def check_database(self, connection: DatabaseWrapper) -> Iterable[CheckMessage]:
        """
        Return the messages of system checks that ask the server: for ``check
        --database`` and ``migrate``.
        """
        return ()

    def report(self, connection: DatabaseWrapper) -> Mapping[str, list[dict[str, Any]]]:
        """
        Return what ``manage.py tidb`` shows of a database: headings and their
        rows, in values that JSON can express.
        """
        return {}

    def add_subcommands(self, subparsers: _SubParsersAction[CommandParser]) -> None:
        """
        Add sub-commands to ``manage.py tidb``: ``subparsers.add_parser(...)``,
        and ``set_defaults(subcommand=function)`` on what it returns. The
        function is called with the command and its options.
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
    Return the installed plugins, in the order of their names, and make ``class
    Meta`` of models accept their options.

    The installed distributions are scanned once per process; a test that
    changes them calls ``get_plugins.cache_clear()``. Raises
    ``ImproperlyConfigured``, naming distribution, version and entry point, if
    a plugin cannot be loaded, was written for another API version, or if two
    have the same name.
    """
    # A cold import of importlib.metadata takes some 50 ms.
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
    _register_meta_options(name for p in plugins for name in p.meta_options)
    return plugins


@contextmanager
def loading_fixtures(connection: DatabaseWrapper) -> Iterator[None]:
    """
    Return a context manager in which the connection writes rows as a
    serializer has read them, prepared by all plugins.
    """
    with ExitStack() as stack:
        for plugin in get_plugins():
            stack.enter_context(plugin.loading_fixtures(connection))
        yield


def _register_meta_options(names: Iterable[str]) -> None:
    """
    Make ``class Meta`` of every model, and of the models in migrations, accept
    `names`.

    Django reads the options of a model when its class is made. The engine loads
    the plugins with the first connection, which may be later, so the ``apps.py``
    of core and of each plugin with such options calls ``get_plugins()`` too:
    Django imports it before the first model, whatever the order of
    INSTALLED_APPS.
    """
    from django.db.migrations import state
    from django.db.models import options

    known = dict.fromkeys((*options.DEFAULT_NAMES, *names))
    options.DEFAULT_NAMES = state.DEFAULT_NAMES = tuple(known)


def legacy_names(
    module: str, names: Iterable[str], distribution: str
) -> Callable[[str], object]:
    """
    Return a ``__getattr__`` for `module`, an import path of django-tidb, whose
    `names` are served by the plugin that `distribution` installs.

    It raises ImportError, naming that distribution, if no plugin does.
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
