"""Test a project's tests in several processes: ``manage.py test --parallel``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MODELS = """\
from django.db import models
from django_tidb_autorandom import BigAutoRandomField

class Author(models.Model):
    name = models.CharField(max_length=20, unique=True)

class Book(models.Model):
    id = BigAutoRandomField(primary_key=True)
    author = models.ForeignKey(Author, models.CASCADE)
"""

# This migration inserts a row, which the database of every process must contain.
MIGRATION = """\
from django.db import migrations

def add(apps, schema_editor):
    author = apps.get_model("app", "Author").objects.create(name="template")
    apps.get_model("app", "Book").objects.create(author=author)

class Migration(migrations.Migration):
    dependencies = [("app", "0001_initial")]
    operations = [migrations.RunPython(add)]
"""

TESTS = """\
import os

from django.db import connection, IntegrityError
from django.test import TestCase, TransactionTestCase

from app.models import Author, Book

class Base:
    def test_database(self):
        with open("databases", "a") as file:
            file.write(connection.settings_dict["NAME"] + "\\n")
        Author.objects.create(name="a")

    test_again = test_database

class ATests(Base, TestCase):
    def test_rows_of_migrations(self):
        self.assertEqual(Book.objects.get().author.name, "template")

class BTests(Base, TestCase):
    def test_rows_of_migrations(self):
        self.assertEqual(Book.objects.get().author.name, "template")

class CTests(Base, TransactionTestCase):
    reset_sequences = True

    def test_ids(self):
        self.assertEqual(Author.objects.create(name="b").pk, 1)

    test_ids_again = test_ids

class DTests(Base, TransactionTestCase):
    def test_foreign_key(self):
        if connection.features.supports_foreign_keys:
            with self.assertRaises(IntegrityError):
                Book.objects.create(author_id=77)
"""


@pytest.fixture
def app(project, tidb):
    """Return a project with tests; remove its test databases afterwards."""
    project.write("app/__init__.py", "")
    project.write("app/models.py", MODELS)
    project.write("app/tests.py", TESTS)
    configure(project)
    project.manage("makemigrations", "app")
    project.write("app/migrations/0002_rows.py", MIGRATION)
    yield project
    for name in databases(project, tidb):
        tidb.execute(f"DROP DATABASE `{name}`")


def configure(project, more=""):
    project.configure(
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django_tidb",
        "django_tidb_autorandom",
        "app",
        more=f"{more}\nDATABASES = {{'default': TIDB}}\n"
        "DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'",
    )


def databases(project, tidb):
    """Return the names of the project's test databases."""
    tidb.execute("SHOW DATABASES LIKE %s", [f"test\\_{project.name}%"])
    return {name for (name,) in tidb.fetchall()}


def used(project):
    """Return the names of the databases that tests have used."""
    file = project.path / "databases"
    names = file.read_text().split()
    file.unlink()
    return set(names)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_parallel(app, tidb, method):
    configure(
        app,
        f"import multiprocessing\nmultiprocessing.set_start_method({method!r}, True)",
    )
    output = app.manage("test", "--parallel", "2", "--noinput")
    assert output.count("Cloning test database") == 2
    assert "OK" in output
    name = f"test_{app.name}"
    # A process that starts late may find no tests left to run.
    assert used(app) - {f"{name}_1", f"{name}_2"} == set()
    assert databases(app, tidb) == set()


def test_databases_are_kept(app, tidb):
    # ATests and BTests would fail here. A TransactionTestCase deletes the rows of
    # migrations, and kept databases do not get these rows again.
    labels = ("app.tests.CTests", "app.tests.DTests")
    options = ("--parallel", "2", "--noinput", "--keepdb")
    for _ in range(2):
        output = app.manage("test", *labels, *options)
        assert "OK" in output
    name = f"test_{app.name}"
    assert databases(app, tidb) == {name, f"{name}_1", f"{name}_2"}
    # Kept databases get a new migration.
    app.write("app/models.py", MODELS + "    pages = models.IntegerField(default=1)\n")
    app.manage("makemigrations", "app")
    output = app.manage("test", *labels, *options)
    assert "OK" in output
    assert databases(app, tidb) == {name, f"{name}_1", f"{name}_2"}


def test_pytest_xdist(app, tidb):
    app.write("pytest.ini", "[pytest]\n")
    arguments = "-n 2 --dist loadscope -p no:randomly --ds settings app/tests.py"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments.split()],
        cwd=app.path,
        env={**os.environ, "PYTHONPATH": "."},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout
    name = f"test_{app.name}"
    assert used(app) == {f"{name}_gw0", f"{name}_gw1"}
    assert databases(app, tidb) == set()
