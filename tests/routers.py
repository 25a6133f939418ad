from __future__ import annotations

from django.db import connections


class TiDBOnly:
    """Create a table only on the databases that support its columns."""

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        if app_label == "vector":
            return db == "default" and connections[db].tidb_version >= (8, 4)
        if (app_label, model_name) == ("core", "word"):
            return db == "default"
        return None
