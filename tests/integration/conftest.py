from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SETTINGS = """\
import os

SECRET_KEY = "only for tests"
USE_TZ = True
INSTALLED_APPS = {apps!r}
# What django.contrib.admin asks for.
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {{
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        }},
    }}
]
TIDB = {{
    "ENGINE": "django_tidb",
    "NAME": {name!r},
    "USER": os.environ["TIDB_USER"],
    "PASSWORD": os.environ["TIDB_PASSWORD"],
    "HOST": os.environ["TIDB_HOST"],
    "PORT": int(os.environ["TIDB_PORT"]),
}}
SQLITE = {{"ENGINE": "django.db.backends.sqlite3", "NAME": {sqlite!r}}}
{more}
"""

MANAGE = """\
import os
import sys

from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
# Processes that are spawned import this file.
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""


class Project:
    """A Django project in a separate folder, used through manage.py."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.write("manage.py", MANAGE)

    def write(self, name: str, text: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))

    def configure(
        self, *apps: str, more: str = "DATABASES = {'default': TIDB}"
    ) -> None:
        """Write the settings, with `apps` installed."""
        text = SETTINGS.format(
            apps=list(apps),
            name=self.name,
            sqlite=str(self.path / "db.sqlite3"),
            more=textwrap.dedent(more),
        )
        (self.path / "settings.py").write_text(text)

    def manage(self, *args: str, check: bool = True, **environ: str) -> str:
        """Run manage.py; return its output, including that on stderr."""
        result = subprocess.run(
            [sys.executable, "-W", "error::DeprecationWarning", "manage.py", *args],
            cwd=self.path,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        assert (result.returncode == 0) == check, result.stdout
        return result.stdout

    def shell(self, code: str, **environ: str) -> str:
        return self.manage("shell", "-c", textwrap.dedent(code), **environ)


@pytest.fixture
def project(tmp_path, tidb):
    """Return an empty project with an empty database."""
    name = f"project_{os.getpid()}"
    tidb.execute(f"DROP DATABASE IF EXISTS {name}")
    tidb.execute(f"CREATE DATABASE {name}")
    yield Project(tmp_path, name)
    tidb.execute(f"DROP DATABASE {name}")
