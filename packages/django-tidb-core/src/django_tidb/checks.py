"""System checks for the whole project. Their ids are listed in the README."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Info, Warning
from django.db import DEFAULT_DB_ALIAS, connections

from .compat import has_tidb
from .driver import ensure_driver

# Apps with search backends, and the names of the settings that configure
# these. Wagtail's search is built on django-modelsearch and re-exports its
# backends under its own names.
_SEARCH_APPS = {
    "wagtail.search": "WAGTAILSEARCH_BACKENDS",
    "modelsearch": "MODELSEARCH_BACKENDS",
}
_DATABASE_BACKEND = re.compile(
    r"(wagtail\.search|modelsearch)\.backends\.database(\.SearchBackend|\.mysql\b.*)?"
)

# The processor time of PyMySQL divided by that of mysqlclient, as measured:
# benchmarks/results/drivers.json.
TUPLES_TIMES, OBJECTS_TIMES, GET_TIMES = 2.4, 1.4, 1.2


def check_old_distribution(**kwargs: Any) -> list[CheckMessage]:
    """
    Warn (``tidb.W001``) if django-tidb is installed beside django-tidb-core,
    which contains files of the same names.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("django-tidb")
    except PackageNotFoundError:
        return []
    return [
        Warning(
            f"django-tidb {installed} is still installed. It shares files with "
            "django-tidb-core: whichever was installed last is in effect, and "
            "uninstalling either breaks the other.",
            hint=(
                "Run: pip uninstall -y django-tidb && pip install "
                "--force-reinstall --no-deps django-tidb-core"
            ),
            id="tidb.W001",
        )
    ]


def check_search_backends(**kwargs: Any) -> list[CheckMessage]:
    """
    Warn (``tidb.W004``) if Wagtail or django-modelsearch is configured to use
    MySQL's full-text search, which TiDB does not support.
    """
    # These backends always search in the default database; routers do not apply.
    if not has_tidb(connections[DEFAULT_DB_ALIAS]):
        return []
    return list(_full_text_backends())


def _full_text_backends() -> Iterator[CheckMessage]:
    for app, setting in _SEARCH_APPS.items():
        if not apps.is_installed(app):
            continue
        default = {"BACKEND": f"{app}.backends.database"}
        backends = {"default": default, **getattr(settings, setting, {})}
        for name, options in backends.items():
            backend = options.get("BACKEND", "")
            if _DATABASE_BACKEND.fullmatch(backend):
                yield Warning(
                    f"{setting}[{name!r}] has the BACKEND {backend!r}, which searches "
                    f"with MATCH ... AGAINST in the database {DEFAULT_DB_ALIAS!r}. "
                    "TiDB has no full-text search, so each search fails.",
                    hint=(
                        f"Set the BACKEND to '{app}.backends.database.fallback', or to "
                        "that of a search engine. The app's migrations need "
                        f"DATABASES[{DEFAULT_DB_ALIAS!r}]['OPTIONS']"
                        "['skip_fulltext_indexes'] = True."
                    ),
                    id="tidb.W004",
                )


def check_driver(
    databases: Iterable[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """
    Report (``tidb.I002``) that a TiDB among `databases` is used with PyMySQL.
    mysqlclient would be faster.
    """
    if not any(has_tidb(connections[alias]) for alias in databases or ()):
        return []
    driver = ensure_driver()
    if not driver.is_pymysql:
        return []
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = f"mysqlclient {version('mysqlclient')} is installed"
    except PackageNotFoundError:
        hint = (
            "Run: pip install 'django-tidb-core[mysqlclient]'. It is compiled on "
            "installation, which takes a C compiler and MySQL's client library."
        )
    else:
        hint = (
            f"{installed}, but cannot be imported: {driver.import_error}."
            if driver.import_error
            else f"{installed}, but the project calls pymysql.install_as_MySQLdb(): "
            "leave that out."
        )
    return [
        Info(
            f"The driver is {driver}. Beside mysqlclient it takes "
            f"{TUPLES_TIMES} times the processor time to read many rows, "
            f"{OBJECTS_TIMES} times if they become objects of models, and "
            f"{GET_TIMES} times for a get().",
            hint=f"{hint} Or add 'tidb.I002' to SILENCED_SYSTEM_CHECKS.",
            id="tidb.I002",
        )
    ]
