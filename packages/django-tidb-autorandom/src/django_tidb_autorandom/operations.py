"""Migrations of the options of ``class Meta`` that are in options.py."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from django.db.migrations.operations.models import ModelOptionOperation

from django_tidb import is_tidb

from .conversion import alter_options, cannot_alter_cache
from .fields import BigAutoRandomField
from .options import OPTION_NAMES

if TYPE_CHECKING:
    from django.db.migrations.autodetector import MigrationAutodetector
else:
    MigrationAutodetector = object

__all__ = ["AlterRowIdOptions", "RowIdOptionsDetector"]


class AlterRowIdOptions(ModelOptionOperation):
    """
    Set the row id options of a model to `options`, by ALTER TABLE; those that
    are left out return to the server's default.

    makemigrations writes it from Django 5.2 on. Django's own AlterModelOptions
    would not do: it forgets every option that it knows and does not name, as
    in migrations that were written before.

    What TiDB cannot alter, such as ``tidb_auto_id_cache`` between 1 and another
    value, is done by a rebuild of the table. Raises ``NotSupportedError``
    before any change if the table has rows and OPTIONS["rebuild_tables"] does
    not allow it.
    """

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        if unknown := options.keys() - set(OPTION_NAMES):
            raise ValueError(
                f"AlterRowIdOptions of {name!r} has {sorted(unknown)}; its options "
                f"are {list(OPTION_NAMES)}."
            )
        self.options = options
        super().__init__(name)

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        kwargs = {"name": self.name, "options": self.options}
        return type(self).__qualname__, [], kwargs

    def state_forwards(self, app_label: str, state: Any) -> None:
        state.alter_model_options(
            app_label, self.name_lower, self.options, OPTION_NAMES
        )

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        model = to_state.apps.get_model(app_label, self.name)
        if is_tidb(schema_editor.connection) and self.allow_migrate_model(
            schema_editor.connection.alias, model
        ):
            old_model = from_state.apps.get_model(app_label, self.name)
            alter_options(schema_editor, old_model, model)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        self.database_forwards(app_label, schema_editor, from_state, to_state)

    def describe(self) -> str:
        return f"Change TiDB's row id options on {self.name}"

    @property
    def migration_name_fragment(self) -> str:
        return f"alter_{self.name_lower}_row_id_options"


class RowIdOptionsDetector(MigrationAutodetector):
    """
    A mixin for an autodetector that finds changes of the row id options.

    From Django 5.2 on the app adds it to the one that ``makemigrations`` and
    ``migrate`` have; a project that sets another one afterwards inherits from
    this too.
    """

    def generate_altered_db_table(self) -> None:
        # The last of what Django generates: the options may be about a key that
        # has become AUTO_RANDOM before, or no longer is.
        super().generate_altered_db_table()
        for app_label, model_name in sorted(self.kept_model_keys):
            old_name = self.renamed_models.get((app_label, model_name), model_name)
            old, new = (
                {
                    name: value
                    for name, value in options.items()
                    if name in OPTION_NAMES and value is not None
                }
                for options in (
                    self.from_state.models[app_label, old_name].options,
                    self.to_state.models[app_label, model_name].options,
                )
            )
            if old == new:
                continue
            cache = old.get("tidb_auto_id_cache"), new.get("tidb_auto_id_cache")
            if cannot_alter_cache(*cache) and not any(
                isinstance(field, BigAutoRandomField)
                for field in self.to_state.models[app_label, model_name].fields.values()
            ):
                warnings.warn(
                    f"{app_label}.{model_name}: TiDB cannot alter AUTO_ID_CACHE "
                    f"between 1 and another value (tidb_auto_id_cache from "
                    f"{cache[0]} to {cache[1]}) from 6.4 on. The migration rebuilds "
                    "the table: with rows, only if OPTIONS['rebuild_tables'] of the "
                    "database allows it.",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self.add_operation(
                app_label, AlterRowIdOptions(name=model_name, options=new)
            )
