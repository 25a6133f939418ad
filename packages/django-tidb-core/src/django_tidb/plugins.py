"""
The registry of plugins: other distributions that extend this backend.

A plugin's distribution names one :class:`Plugin` in the entry-point group
``django_tidb.plugins``::

    [project.entry-points."django_tidb.plugins"]
    vector = "django_tidb_vector.plugin:plugin"

The module that holds it must import nothing heavy, models least of all: it is
loaded together with the engine, before the apps are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Field, Model

__all__ = [
    "API_VERSION",
    "GROUP",
    "Plugin",
    "get_plugins",
    "register_meta_options",
]

#: The version of the contract between core and its plugins.
API_VERSION = 1
#: The entry-point group that is scanned for plugins.
GROUP = "django_tidb.plugins"


def _no_table_options(
    model: type[Model], connection: BaseDatabaseWrapper
) -> Iterable[str]:
    return ()


def _no_primary_key(model: type[Model], connection: BaseDatabaseWrapper) -> str:
    return ""


def _no_field_type(column: Any, connection: BaseDatabaseWrapper) -> None:
    return None


def _writes_anything(query: Any, connection: BaseDatabaseWrapper) -> None:
    return None


def _loads_anything(connection: BaseDatabaseWrapper) -> AbstractContextManager[Any]:
    return nullcontext()


def _reports_nothing(
    connection: BaseDatabaseWrapper,
) -> Mapping[str, list[dict[str, Any]]]:
    return {}


def _alters_nothing(
    schema_editor: Any, model: type[Model], old_field: Field, new_field: Field
) -> bool:
    return False


@dataclass(frozen=True)
class Plugin:
    """What one plugin adds to the backend. Every hook may be left out."""

    #: The name of the plugin; the same as its entry point's.
    name: str
    #: The :data:`API_VERSION` that the plugin was written for.
    api_version: int
    #: Names that ``class Meta`` of a model accepts.
    meta_options: tuple[str, ...] = ()
    #: Table options that CREATE TABLE ends with, as finished SQL: called with
    #: the model and the connection, which is one to TiDB.
    table_options: Callable[[type[Model], BaseDatabaseWrapper], Iterable[str]] = (
        _no_table_options
    )
    #: CLUSTERED, NONCLUSTERED, or "" for the server's choice: what CREATE TABLE
    #: says of the primary key of a model, on a connection to TiDB.
    primary_key: Callable[[type[Model], BaseDatabaseWrapper], str] = _no_primary_key
    #: Recognises a column for introspection: called with a
    #: :class:`django_tidb.introspection.FieldInfo` and the connection. Returns
    #: None, or the field's path and its arguments, as inspectdb writes them.
    field_type: Callable[
        [Any, BaseDatabaseWrapper], tuple[str, dict[str, Any]] | None
    ] = _no_field_type
    #: Called before a column is altered, with the schema editor, the model and
    #: the old and the new field. Returns True if it has altered the column
    #: itself, so that nothing is left to do; raises what says why it cannot be.
    alter_field: Callable[[Any, type[Model], Field, Field], bool] = _alters_nothing
    #: Called with an InsertQuery or an UpdateQuery of Django's and the connection
    #: before it is compiled; raises what says why its rows cannot be written.
    write: Callable[[Any, BaseDatabaseWrapper], None] = _writes_anything
    #: Returns a context manager for the connection in which rows are written as
    #: a serializer has read them: fixtures, the rows of a serialized test
    #: database, and each row that is saved with ``raw=True``.
    loading: Callable[[BaseDatabaseWrapper], AbstractContextManager[Any]] = (
        _loads_anything
    )
    #: What the command ``tidb`` shows of a database: headings, and their rows,
    #: in values that JSON has.
    report: Callable[[BaseDatabaseWrapper], Mapping[str, list[dict[str, Any]]]] = (
        _reports_nothing
    )
    #: Names of ours that DATABASES[...]["OPTIONS"] accepts beside the driver's;
    #: found in ``connection.tidb_options``.
    options: tuple[str, ...] = ()
    #: Import paths of django-tidb, as found in users' migrations, and the
    #: paths that they have now.
    moved: Mapping[str, str] = field(default_factory=dict)


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
    if plugin.api_version != API_VERSION:
        raise ImproperlyConfigured(
            f"{_describe(entry_point)} was written for plugin API "
            f"{plugin.api_version!r}; this django-tidb-core has {API_VERSION}. "
            "Install versions of the two that fit together."
        )
    if plugin.name != entry_point.name:
        raise ImproperlyConfigured(
            f"{_describe(entry_point)} calls itself {plugin.name!r}; the two "
            "names must be the same."
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
    Return the installed plugins, in the order of their names.

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
    return tuple(_load(found[name]) for name in sorted(found))


@contextmanager
def loading(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """
    Return a context manager in which the connection writes rows as a
    serializer has read them, with what the plugins have to do for that.
    """
    with ExitStack() as stack:
        for plugin in get_plugins():
            stack.enter_context(plugin.loading(connection))
        yield


def register_meta_options(names: Iterable[str]) -> None:
    """
    Make ``class Meta`` of every model, and of the models in migrations,
    accept `names`.

    A plugin with such options calls it in its ``apps.py``, which Django
    imports before the first model, whatever the order of INSTALLED_APPS. The
    engine calls it too, for projects without the plugin's app: that is in
    time for the models that are loaded after the first connection is made.
    """
    from django.db.migrations import state
    from django.db.models import options

    for module in (options, state):
        module.DEFAULT_NAMES += tuple(
            name for name in names if name not in module.DEFAULT_NAMES
        )


def moved_names(
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
            if path in plugin.moved:
                return import_string(plugin.moved[path])
        raise ImportError(
            f"{path} needs the plugin {distribution}. Install it: pip install "
            f"{distribution}. New code imports {name} from "
            f"{distribution.replace('-', '_')}."
        )

    return __getattr__
