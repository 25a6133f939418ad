"""Settings of the tests. conftest.py adds the address of the server."""

from __future__ import annotations

SECRET_KEY = "only for tests"
USE_TZ = True

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    # The tests of vectors in the admin need these two apps.
    "django.contrib.admin",
    "django.contrib.messages",
    "django.contrib.sessions",
    "rest_framework",
    # The apps of the tests come before those of the packages, because the order must
    # not matter.
    "tests.autorandom",
    "tests.core",
    "tests.vector",
    "django_tidb",
    "django_tidb_autorandom",
    "django_tidb_vector",
]

# django.contrib.admin requires these.
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {
    "default": {"ENGINE": "django_tidb", "NAME": "django_tidb"},
    "sqlite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
DATABASE_ROUTERS = ["tests.routers.TiDBOnly"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
