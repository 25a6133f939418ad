"""
Migrations of the options in ``class Meta`` that plugins define.

Django's AlterModelOptions cannot set these options: it resets every option that it
knows and that is missing in its arguments. If it knew the plugins' options, each
AlterModelOptions in an existing migration would reset them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.migrations.operations.models import ModelOptionOperation

from .plugins import get_plugins

if TYPE_CHECKING:
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.migrations.autodetector import MigrationAutodetector
    from django.db.migrations.state import ProjectState
else:
    MigrationAutodetector = object

__all__ = ["AlterTableOptions", "TableOptionsDetector", "extend_autodetectors"]


def option_names() -> tuple[str, ...]:
    """
    Return the names of the options in ``class Meta`` that the installed plugins
    define.
    """
    return tuple(name for plugin in get_plugins() for name in plugin.meta_options)


class AlterTableOptions(ModelOptionOperation):
    """
    Set the options in ``class Meta`` that plugins define to `options`. Options
    that are left out return to the server's default.

    makemigrations writes this operation from Django 5.2 on. Each plugin alters
    the table in its :meth:`~django_tidb.plugins.Plugin.alter_table_options`.
    Raises ValueError for an option that no installed plugin defines, and the
    errors that the plugins raise, such as ``NotSupportedError`` if the table
    would have to be rebuilt, has rows, and OPTIONS["rebuild_tables"] does not
    allow a rebuild.
    """

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        if unknown := options.keys() - set(self.option_names()):
            raise ValueError(
                f"{type(self).__name__} of {name!r} has {sorted(unknown)}; its options "
                f"are {list(self.option_names())}. Others come with other plugins."
            )
        self.options = options
        super().__init__(name)

    def option_names(self) -> tuple[str, ...]:
        """Return the names of all options that this operation controls."""
        return option_names()

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        kwargs = {"name": self.name, "options": self.options}
        return type(self).__qualname__, [], kwargs

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        state.alter_model_options(
            app_label, self.name_lower, self.options, self.option_names()
        )

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        # django-tidb may have replaced this name: see the check tidb.W001.
        from . import is_tidb

        model = to_state.apps.get_model(app_label, self.name)
        if is_tidb(schema_editor.connection) and self.allow_migrate_model(
            schema_editor.connection.alias, model
        ):
            old_model = from_state.apps.get_model(app_label, self.name)
            for plugin in get_plugins():
                plugin.alter_table_options(schema_editor, old_model, model)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        self.database_forwards(app_label, schema_editor, from_state, to_state)

    def describe(self) -> str:
        return f"Change TiDB's table options on {self.name}"

    @property
    def migration_name_fragment(self) -> str:
        return f"alter_{self.name_lower}_table_options"


class TableOptionsDetector(MigrationAutodetector):
    """
    A mixin for autodetectors that detects changes of the plugins' options in ``class
    Meta``.

    From Django 5.2 on, :func:`extend_autodetectors` adds it to the autodetector of
    ``makemigrations`` and ``migrate``. A project that sets its own autodetector
    afterwards has to inherit from this class as well.
    """

    def generate_altered_db_table(self) -> None:
        # Django calls this method last. The new operation comes after all others,
        # because an option may depend on a field that they alter.
        super().generate_altered_db_table()
        names = option_names()
        for app_label, model_name in sorted(self.kept_model_keys):
            old_name = self.renamed_models.get((app_label, model_name), model_name)
            old_state = self.from_state.models[app_label, old_name]
            new_state = self.to_state.models[app_label, model_name]
            old, new = (
                {
                    name: value
                    for name, value in state.options.items()
                    if name in names and value is not None
                }
                for state in (old_state, new_state)
            )
            if old == new:
                continue
            for plugin in get_plugins():
                plugin.check_altered_options(old_state, new_state)
            self.add_operation(
                app_label, AlterTableOptions(name=model_name, options=new)
            )


def extend_autodetectors() -> None:
    """
    Make ``makemigrations`` and ``migrate`` detect changes of the plugins'
    options.

    Before Django 5.2 this function does nothing, because the commands have no
    attribute for the autodetector. Call it from ``AppConfig.ready()``; repeated
    calls have no effect.
    """
    from django.core.management.commands import makemigrations, migrate

    # Django requires that both commands have the same autodetector. Another app may
    # have replaced it.
    extended: dict[type, type] = {}
    for command in (makemigrations.Command, migrate.Command):
        base = getattr(command, "autodetector", None)
        if base is None or issubclass(base, TableOptionsDetector):
            continue
        if base not in extended:
            name = f"TableOptions{base.__name__}"
            extended[base] = type(name, (TableOptionsDetector, base), {})
        command.autodetector = extended[base]
