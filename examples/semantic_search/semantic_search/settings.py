"""Settings of the demo. The environment says which TiDB it talks to."""

from __future__ import annotations

import os

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_tidb",
    "django_tidb_autorandom",
    "django_tidb_vector",
    "search",
]

DATABASES = {
    "default": {
        "ENGINE": "django_tidb",
        "HOST": os.environ.get("TIDB_HOST", "127.0.0.1"),
        "PORT": os.environ.get("TIDB_PORT", "4000"),
        "USER": os.environ.get("TIDB_USER", "root"),
        "PASSWORD": os.environ.get("TIDB_PASSWORD", ""),
        "NAME": os.environ.get("TIDB_NAME", "semantic_search"),
    }
}

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
