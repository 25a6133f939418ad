"""
Test that commands which need no database do not connect to it, so that the database
need not exist.
"""

from __future__ import annotations

import django
import pytest

MODELS = """\
from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Lower, Now
from django_tidb_autorandom import BigAutoRandomField

CONDITION = "check" if {django} < (5, 1) else "condition"
DEFAULTS = {{"db_default": Value(1) + Value(2)}} if {django} >= (5, 0) else {{}}
NOW = {{"db_default": Now()}} if {django} >= (5, 0) else {{}}

class Author(models.Model):
    id = BigAutoRandomField(primary_key=True, range=54)
    name = models.CharField(max_length=9, unique=True, db_index=True)
    books = models.PositiveIntegerField(**DEFAULTS)
    born = models.DateTimeField(**NOW)
    data = models.JSONField(null=True)
    token = models.UUIDField(null=True)
    spent = models.DurationField(null=True)

    class Meta:
        db_table_comment = "all of them"
        indexes = [
            models.Index(F("name").desc(), name="backwards"),
            models.Index(Lower("name"), name="lower"),
            models.Index(fields=["-born"], name="youngest"),
        ]
        constraints = [
            models.CheckConstraint(**{{CONDITION: Q(books__gt=0)}}, name="some"),
            models.UniqueConstraint(Lower("name"), name="one"),
        ]

class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE)
    others = models.ManyToManyField(Author, related_name="+")
"""


@pytest.fixture
def app(project, tidb):
    """Return a project with models, whose database does not exist."""
    project.write("app/__init__.py", "")
    project.write("app/models.py", MODELS.format(django=django.VERSION[:2]))
    project.configure("app", "django_tidb", "django_tidb_autorandom")
    tidb.execute(f"DROP DATABASE {project.name}")
    yield project
    tidb.execute(f"CREATE DATABASE IF NOT EXISTS {project.name}")


def test_check(app):
    assert "System check identified" in app.manage("check")


def test_help_and_shell(app):
    assert "usage:" in app.manage("migrate", "--help")
    code = "from app.models import Author; print(Author._meta.pk.range)"
    assert "54" in app.shell(code)


def test_type_of_the_column(app):
    output = app.shell(
        """\
        from app.models import Author
        from django.db import connection
        print(Author._meta.pk.db_type(connection))
        assert connection.connection is None
        """
    )
    assert "bigint AUTO_RANDOM(5, 54)" in output


@pytest.mark.skipif(
    django.VERSION < (6, 1),
    reason="Checks get all databases from Django 6.1 on: "
    "https://docs.djangoproject.com/en/6.1/releases/6.1/",
)
def test_checks_of_all_databases_do_not_connect(app):
    app.shell(
        """\
        from django.core import checks
        from django.db import connection
        issues = checks.run_checks()
        # The server enforces CHECK constraints only if a variable says so.
        assert [issue.id for issue in issues] == ["models.W027"], issues
        assert connection.connection is None
        """
    )


def test_commands_that_need_the_database_name_it(app):
    output = app.manage("migrate", check=False)
    assert f"Unknown database '{app.name}'" in output
