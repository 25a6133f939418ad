"""
Test that the first command of each README is a complete installation.

The command runs in an empty environment without a compiler, and a project works with
the installed packages.
"""

from __future__ import annotations

import os
import re
import shutil

import pytest

from tests.packaging.distributions import (
    AUTORANDOM,
    CORE,
    MODULES,
    PACKAGES,
    VECTOR,
    Environment,
)

pytestmark = pytest.mark.packaging

SETTINGS = """
import os

INSTALLED_APPS += ["django_tidb", {module!r}, "shop"]
DATABASES = {{
    "default": {{
        "ENGINE": "django_tidb",
        "NAME": {database!r},
        "USER": os.environ["TIDB_USER"],
        "PASSWORD": os.environ["TIDB_PASSWORD"],
        "HOST": os.environ["TIDB_HOST"],
        "PORT": os.environ["TIDB_PORT"],
    }}
}}
INSTALLED_APPS = list(dict.fromkeys(INSTALLED_APPS))
"""
#: A model for each distribution.
MODELS = {
    CORE: """
from django.db import models

class Thing(models.Model):
    name = models.CharField(max_length=10)
""",
    AUTORANDOM: """
from django.db import models
from django_tidb_autorandom import BigAutoRandomField

class Thing(models.Model):
    id = BigAutoRandomField(primary_key=True)
    name = models.CharField(max_length=10)
""",
    VECTOR: """
from django.db import models
from django_tidb_vector import VectorField

class Thing(models.Model):
    name = models.CharField(max_length=10)
    vector = VectorField(dimensions=2, default=[0.5, 2])
""",
}
#: Statements that test the rows of each model.
USE = {
    CORE: "assert Thing.objects.filter(name__istartswith='T').count() == 2",
    AUTORANDOM: "assert min(Thing.objects.values_list('pk', flat=True)) > 0",
    VECTOR: "assert all(list(t.vector) == [0.5, 2] for t in Thing.objects.all())",
}
CREATE = """
from shop.models import Thing

Thing.objects.create(name="one")
Thing.objects.bulk_create([Thing(name="two"), Thing(name="three")])
assert Thing.objects.get(name="one").pk
"""


@pytest.fixture
def database(tidb):
    name = f"one_name_{os.getpid()}"
    tidb.execute(f"DROP DATABASE IF EXISTS {name}")
    tidb.execute(f"CREATE DATABASE {name}")
    yield name
    tidb.execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize(
    "name", [CORE, AUTORANDOM, pytest.param(VECTOR, marks=pytest.mark.works("vector"))]
)
def test_first_command_of_the_readme(built, tmp_path, database, name):
    environment = Environment(tmp_path, built)
    # Only the programs of the environment are on PATH, so there is no compiler.
    environment.environ["PATH"] = str(tmp_path / "venv" / "bin")
    for program in ("cc", "gcc", "c++", "clang", "pkg-config"):
        assert shutil.which(program, path=environment.environ["PATH"]) is None
    readme = (PACKAGES / name / "README.md").read_text()
    command = re.search(r"^```sh\n(.+)$", readme, re.MULTILINE)[1]
    assert command == f"pip install {name}"

    environment.install(name)

    assert "mysqlclient" not in environment.installed()
    environment.run("django-admin", "startproject", "project", ".")
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "__init__.py").touch()
    (shop / "models.py").write_text(MODELS[name])
    with (tmp_path / "project" / "settings.py").open("a") as settings:
        settings.write(SETTINGS.format(module=MODULES[name], database=database))
    manage = ("python", "manage.py")
    environment.run(*manage, "makemigrations", "shop")
    output = environment.run(*manage, "migrate", "shop")
    assert "tidb.I002" in output
    assert "Applying shop.0001_initial... OK" in output
    environment.run(*manage, "shell", "-c", CREATE + USE[name])
    assert "Driver: PyMySQL " in environment.run(*manage, "tidb")
