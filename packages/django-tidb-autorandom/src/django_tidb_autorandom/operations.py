"""The migration operation that earlier releases used for the options in options.py."""

from __future__ import annotations

from django_tidb.table_options import AlterTableOptions

from .options import OPTION_NAMES

__all__ = ["AlterRowIdOptions"]


class AlterRowIdOptions(AlterTableOptions):
    """
    Set the row id options of a model to `options`. Options that are left out
    return to the server's default; options of other plugins are unchanged.

    A change that TiDB cannot alter in place, such as ``tidb_auto_id_cache``
    between 1 and another value, rebuilds the table. Raises
    ``NotSupportedError`` before any change if the table has rows and
    OPTIONS["rebuild_tables"] does not allow a rebuild.
    """

    def option_names(self) -> tuple[str, ...]:
        return OPTION_NAMES

    def describe(self) -> str:
        return f"Change TiDB's row id options on {self.name}"

    @property
    def migration_name_fragment(self) -> str:
        return f"alter_{self.name_lower}_row_id_options"
