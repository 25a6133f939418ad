from __future__ import annotations


class TiDBOnly:
    """Keep what SQLite does not have away from it."""

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        if app_label == "vector" or (app_label, model_name) == ("core", "word"):
            return db == "default"
        return None
