from __future__ import annotations


class VectorsInTiDB:
    """SQLite has no vector columns."""

    def allow_migrate(self, db, app_label, **hints):
        if app_label == "vector":
            return db == "default"
        return None
