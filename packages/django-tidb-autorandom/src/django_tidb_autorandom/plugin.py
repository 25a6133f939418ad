"""The AUTO_RANDOM plugin of django-tidb-core; see :mod:`django_tidb.plugins`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from django_tidb.plugins import Plugin

from . import options

if TYPE_CHECKING:
    from django.core.checks import CheckMessage
    from django.db.migrations.state import ModelState
    from django.db.models import Field, Model
    from django.db.models.sql import InsertQuery, UpdateQuery

    from django_tidb.base import DatabaseWrapper
    from django_tidb.introspection import FieldInfo
    from django_tidb.known_issues import KnownIssue
    from django_tidb.schema import DatabaseSchemaEditor


class AutoRandomPlugin(Plugin):
    """Hooks for AUTO_RANDOM keys and for the table options of row ids."""

    name = "autorandom"
    api_version = 2
    meta_options = options.OPTION_NAMES
    database_options = ("id_usage_threshold",)
    legacy_imports = {
        "django_tidb.fields.BigAutoRandomField": (
            "django_tidb_autorandom.BigAutoRandomField"
        ),
    }

    def table_options(
        self, model: type[Model], connection: DatabaseWrapper
    ) -> Iterable[str]:
        return options.table_options(model)

    def clustering(self, model: type[Model], connection: DatabaseWrapper) -> str:
        return options.clustering(model)

    def alter_table_options(
        self,
        schema_editor: DatabaseSchemaEditor,
        old_model: type[Model],
        new_model: type[Model],
    ) -> None:
        from .conversion import alter_options

        alter_options(schema_editor, old_model, new_model)

    def check_altered_options(
        self, old_state: ModelState, new_state: ModelState
    ) -> None:
        from .conversion import warn_of_altered_cache

        warn_of_altered_cache(old_state, new_state)

    def alter_field(
        self,
        schema_editor: DatabaseSchemaEditor,
        model: type[Model],
        old_field: Field,
        new_field: Field,
    ) -> bool:
        from .conversion import alter_field

        return alter_field(schema_editor, model, old_field, new_field)

    def introspect_column(
        self, column: FieldInfo, connection: DatabaseWrapper
    ) -> tuple[str, dict[str, Any]] | None:
        """
        Return the field of an AUTO_RANDOM column, which is the first column of
        its table's primary key. Return None for all other columns.

        TiDB 7.5 does not report the shard bits of a composite key; 8.5 does.
        """
        sharding = options.SHARDING.match(column.row_id_sharding)
        if not sharding or column.primary_key != 1:
            return None
        arguments = {"shard_bits": int(sharding[1])}
        if sharding[2]:
            arguments["range"] = int(sharding[2])
        return "django_tidb_autorandom.BigAutoRandomField", arguments

    def check_write(
        self, query: InsertQuery | UpdateQuery, connection: DatabaseWrapper
    ) -> None:
        from .explicit import check_write

        check_write(query, connection)

    def loading_fixtures(
        self, connection: DatabaseWrapper
    ) -> AbstractContextManager[None]:
        from .explicit import loading

        return loading(connection)

    def known_issues(self) -> Iterable[KnownIssue]:
        from .known_issues import KNOWN_ISSUES

        return KNOWN_ISSUES

    def check_database(self, connection: DatabaseWrapper) -> Iterable[CheckMessage]:
        from .checks import check_server

        return check_server(connection)

    def report(self, connection: DatabaseWrapper) -> Mapping[str, list[dict[str, Any]]]:
        from .capacity import report

        return report(connection)


plugin = AutoRandomPlugin()
