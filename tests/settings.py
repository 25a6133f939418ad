"""Settings of the tests. conftest.py fills in the server."""

from __future__ import annotations

SECRET_KEY = "only for tests"
USE_TZ = True

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    # Before the plugins' apps, on purpose: the order must not matter.
    "tests.autorandom",
    "tests.core",
    "tests.vector",
    "django_tidb",
    "django_tidb_autorandom",
    "django_tidb_vector",
]

DATABASES = {
    "default": {"ENGINE": "django_tidb", "NAME": "django_tidb"},
    "sqlite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
DATABASE_ROUTERS = ["tests.routers.TiDBOnly"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
