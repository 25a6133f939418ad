"""Test servers that report another version than their own."""

from __future__ import annotations

import pytest

ALIASES = """\
DATABASES = {
    "default": TIDB,
    "other": TIDB | {"NAME": "", "HOST": "%s", "PORT": %d, "USER": "%s"},
}
"""


@pytest.fixture(scope="module")
def other_server(another_server):
    """Start a second server, whose VERSION() is the version of a MySQL."""
    with another_server('server-version = "8.4.0"') as server:
        assert server.version == "8.4.0"
        yield server


def test_two_servers_in_one_process(project, tidb, other_server):
    tidb.execute("SELECT VERSION()")
    (default,) = tidb.fetchone()
    more = ALIASES % (other_server.host, other_server.port, other_server.user)
    project.configure("django.contrib.contenttypes", "django_tidb", more=more)
    output = project.shell(
        """\
        from django.db import connections

        for alias in ("default", "other", "default"):
            connection = connections[alias]
            print(alias, connection.tidb_version.text, connection.tidb_version >= (5,))
            print(connection.mysql_version, connection.mysql_is_mariadb)
        """
    )
    constants = "(8, 0, 11) False"
    # The shell of newer Djangos first prints its automatic imports.
    assert output.splitlines()[-6:] == [
        f"default {default} True",
        constants,
        "other 8.4.0 True",
        constants,
        f"default {default} True",
        constants,
    ]


def test_replaced_version_string(project, other_server):
    more = ALIASES % (other_server.host, other_server.port, other_server.user)
    project.configure("django_tidb", more=more.replace('"NAME": ""', '"NAME": "x"'))
    project.shell(
        """\
        from django.db import connections
        with connections["other"]._nodb_cursor() as cursor:
            cursor.execute("CREATE DATABASE x")
        """
    )
    # MySQL 8.4's syntax of upserts would be a syntax error here.
    project.write("app/__init__.py", "")
    project.write(
        "app/models.py",
        """\
        from django.db import models

        class Tag(models.Model):
            name = models.CharField(max_length=9, unique=True)
            rank = models.IntegerField()
        """,
    )
    project.configure(
        "django_tidb", "app", more=more.replace('"NAME": ""', '"NAME": "x"')
    )
    project.manage("makemigrations", "app")
    project.manage("migrate", "--database", "other")
    project.shell(
        """\
        from app.models import Tag
        for rank in (1, 2):
            Tag.objects.using("other").bulk_create(
                [Tag(name="a", rank=rank)],
                update_conflicts=True,
                update_fields=["rank"],
            )
        assert Tag.objects.using("other").get().rank == 2
        """
    )
