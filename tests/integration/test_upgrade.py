"""Test that projects of users of django-tidb continue to work."""

from __future__ import annotations

import pytest

CONTRIB = (
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
)
PLUGINS = ("django_tidb", "django_tidb_autorandom", "django_tidb_vector")


def show_create_table(tidb, project, table):
    tidb.execute(f"SHOW CREATE TABLE `{project.name}`.`{table}`")
    return tidb.fetchone()[1]


def add_app(project, models, name="app"):
    project.write(f"{name}/__init__.py", "")
    project.write(f"{name}/models.py", models)


@pytest.mark.parametrize(
    "path",
    [
        "django_tidb.fields.BigAutoRandomField",
        "django_tidb_autorandom.BigAutoRandomField",
        "django_tidb_autorandom.fields.BigAutoRandomField",
    ],
)
def test_default_auto_field(project, tidb, path):
    add_app(
        project,
        """\
        from django.conf import settings
        from django.db import models

        class Note(models.Model):
            user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
            tags = models.ManyToManyField("Tag")

        class Tag(models.Model):
            name = models.CharField(max_length=10)
        """,
    )
    project.configure(
        *CONTRIB,
        *PLUGINS,
        "app",
        more=f"""\
        DATABASES = {{"default": TIDB}}
        DEFAULT_AUTO_FIELD = "{path}"
        """,
    )
    project.manage("makemigrations", "app")
    migration = (project.path / "app/migrations/0001_initial.py").read_text()
    assert "django_tidb_autorandom.BigAutoRandomField(" in migration
    project.manage("migrate")
    for table in ("app_note", "app_tag", "app_note_tags"):
        assert "AUTO_RANDOM(5)" in show_create_table(tidb, project, table)
    # Django's own apps have their own default_auto_field.
    for table in ("auth_user", "django_admin_log", "django_content_type"):
        assert "AUTO_INCREMENT" in show_create_table(tidb, project, table)
    project.shell(
        """\
        from django.contrib.auth.models import User
        from app.models import Note, Tag

        note = Note.objects.create(user=User.objects.create_user("ann"))
        note.tags.add(Tag.objects.create(name="new"), Tag.objects.create(name="hot"))
        note = Note.objects.get(tags__name="hot")
        assert note.tags.count() == 2 and note.user.username == "ann"
        """
    )
    project.manage("makemigrations", "--check")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("default", ["tidb", "sqlite"])
def test_tidb_auto_id_cache(project, tidb, first, default):
    add_app(
        project,
        """\
        from django.db import models

        class Ticket(models.Model):
            class Meta:
                tidb_auto_id_cache = 1

        class Numbered(models.Model):
            class Meta:
                abstract = True
                tidb_auto_id_cache = 50

        class Invoice(Numbered):
            pass
        """,
    )
    apps = ("app", *PLUGINS) if first else (*PLUGINS, "app")
    if default == "tidb":
        project.configure(*apps)
        database = "default"
    else:
        project.configure(*apps, more="DATABASES = {'default': SQLITE, 'second': TIDB}")
        database = "second"
    project.manage("makemigrations", "app")
    migration = (project.path / "app/migrations/0001_initial.py").read_text()
    assert "'tidb_auto_id_cache': 1" in migration.replace('"', "'")
    project.manage("migrate")
    project.manage("migrate", "--database", database)
    assert "AUTO_ID_CACHE=1 */" in show_create_table(tidb, project, "app_ticket")
    assert "AUTO_ID_CACHE=50 */" in show_create_table(tidb, project, "app_invoice")
    project.shell(
        """\
        from django.db import connections
        from app.models import Ticket
        for alias in connections:
            first, second = (Ticket.objects.using(alias).create() for _ in range(2))
            assert second.pk == first.pk + 1
        """
    )
    project.manage("makemigrations", "--check")


def test_tidb_auto_id_cache_without_the_app(project, tidb):
    # In a project of django-tidb, models use this option although INSTALLED_APPS
    # contains none of our apps, and Django's own models are imported first.
    add_app(
        project,
        """\
        from django.db import models

        class Ticket(models.Model):
            class Meta:
                tidb_auto_id_cache = 1
        """,
    )
    project.configure(*CONTRIB, "app")
    project.manage("makemigrations", "app")
    project.manage("migrate", "app")
    assert "AUTO_ID_CACHE=1 */" in show_create_table(tidb, project, "app_ticket")


OLD_MIGRATION = """\
import django_tidb.fields
import django_tidb.fields.vector
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Document",
            fields=[
                (
                    "id",
                    django_tidb.fields.BigAutoRandomField(
                        primary_key=True, range=64, serialize=False, shard_bits=5
                    ),
                ),
                ("text", models.TextField()),
                ("embedding", django_tidb.fields.vector.VectorField(dimensions=3)),
            ],
        ),
        migrations.CreateModel(
            name="Ticket",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
            ],
            options={"tidb_auto_id_cache": 1},
        ),
        migrations.AlterModelOptions(
            name="ticket", options={"verbose_name": "travel ticket"}
        ),
    ]
"""

OLD_MODELS = """\
from django.db import models
from django_tidb.fields import BigAutoRandomField
from django_tidb.fields.vector import VectorField

class Document(models.Model):
    id = BigAutoRandomField(primary_key=True)
    text = models.TextField()
    embedding = VectorField(dimensions=3)

class Ticket(models.Model):
    class Meta:
        tidb_auto_id_cache = 1
        verbose_name = "travel ticket"
"""

OLD_QUERIES = """\
import numpy as np
from app.models import Document, Ticket
from django_tidb.fields.vector import (
    CosineDistance, L1Distance, L2Distance, NegativeInnerProduct
)

Document.objects.create(text="list", embedding=[1, 2, 3])
Document.objects.create(text="array", embedding=np.array([3, 2, 1]))
for distance in (CosineDistance, L1Distance, L2Distance, NegativeInnerProduct):
    near = Document.objects.annotate(d=distance("embedding", [1, 2, 4])).order_by("d")
    assert [document.text for document in near] == ["list", "array"], distance
    value = near[0].embedding
    assert isinstance(value, np.ndarray) and value.dtype == np.float32
assert Document.objects.alias(d=L2Distance("embedding", [1, 2, 3])).filter(
    d__lt=0.5
).get().text == "list"
assert "TableFullScan" in Document.objects.all().explain(format="brief")
assert Ticket.objects.create().pk
"""


@pytest.mark.works("vector")
def test_migrations_written_by_django_tidb(project, tidb):
    add_app(project, OLD_MODELS)
    project.write("app/migrations/__init__.py", "")
    project.write("app/migrations/0001_initial.py", OLD_MIGRATION)
    project.configure(
        *PLUGINS,
        "app",
        more="""\
        DATABASES = {"default": TIDB}
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        """,
    )
    project.manage("makemigrations", "--check")
    project.manage("migrate")
    document = show_create_table(tidb, project, "app_document")
    assert "AUTO_RANDOM(5)" in document
    assert "`embedding` vector(3) NOT NULL" in document
    assert "AUTO_ID_CACHE=1 */" in show_create_table(tidb, project, "app_ticket")
    project.shell(OLD_QUERIES)


def test_vector_index_of_django_tidb_loads(project):
    add_app(
        project,
        """\
        from django.db import models
        from django_tidb.fields.vector import CosineDistance, VectorField, VectorIndex

        class Document(models.Model):
            embedding = VectorField(dimensions=3)

            class Meta:
                indexes = [VectorIndex(CosineDistance("embedding"), name="near")]
        """,
    )
    project.configure(*PLUGINS, "app")
    project.manage("makemigrations", "app")
    project.manage("makemigrations", "--check")
    statement = project.manage("sqlmigrate", "app", "0001").splitlines()[-1]
    assert statement.endswith(
        ", VECTOR INDEX `near` ((VEC_COSINE_DISTANCE(`embedding`))) USING HNSW);"
    )


SQLITE_TEST = """\
from django.test import TestCase
from app.models import Note

class NoteTests(TestCase):
    def test_key(self):
        note = Note.objects.create(text="x")
        self.assertEqual(Note.objects.get(pk=note.pk).text, "x")
"""


def test_sqlite_alone(project):
    """The same project runs on SQLite, on a machine without TiDB."""
    add_app(
        project,
        """\
        from django.db import models

        class Note(models.Model):
            text = models.CharField(max_length=10)

            class Meta:
                tidb_auto_id_cache = 1
        """,
    )
    project.write("app/tests.py", SQLITE_TEST)
    project.configure(
        *CONTRIB,
        *PLUGINS,
        "app",
        more="""\
        DATABASES = {"default": SQLITE}
        DEFAULT_AUTO_FIELD = "django_tidb.fields.BigAutoRandomField"
        """,
    )
    project.manage("makemigrations", "app")
    project.manage("migrate")
    assert "Ran 1 test" in project.manage("test")


def test_vector_on_sqlite_is_one_check_error(project):
    add_app(
        project,
        """\
        from django.db import models
        from django_tidb_vector import VectorField

        class Document(models.Model):
            embedding = VectorField(dimensions=3)
        """,
    )
    project.configure(
        *PLUGINS,
        "app",
        more="""\
        DATABASES = {"default": SQLITE}
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        """,
    )
    output = project.manage("migrate", check=False)
    assert output.count("tidb_vector.E002") == 1
    assert "The database 'default' is not a TiDB" in output
    assert "System check identified 1 issue" in project.manage(
        "check", "--database", "default", check=False
    )


TIDB_TEST = """\
from django.db import connection
from django.test import TestCase, TransactionTestCase
from app.models import Note

class NoteTests(TestCase):
    def test_database(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT DATABASE(), @@collation_database")
            self.assertEqual(
                cursor.fetchone(), ("custom_test_name", "utf8mb4_general_ci")
            )
            cursor.execute("SELECT @@max_execution_time")
            self.assertEqual(cursor.fetchone(), (98765,))

class FlushTests(TransactionTestCase):
    def test_one(self):
        Note.objects.create(text="x")
        self.assertEqual(Note.objects.count(), 1)

    test_two = test_one
"""


def test_settings_for_tests(project, tidb):
    add_app(
        project,
        """\
        from django.db import models

        class Note(models.Model):
            text = models.CharField(max_length=10)
        """,
    )
    project.write("app/tests.py", TIDB_TEST)
    project.configure(
        *PLUGINS,
        "app",
        more="""\
        TIDB["OPTIONS"] = {"init_command": "SET @@max_execution_time = 98765"}
        TIDB["TEST"] = {
            "NAME": "custom_test_name",
            "CHARSET": "utf8mb4",
            "COLLATION": "utf8mb4_general_ci",
        }
        DATABASES = {"default": TIDB}
        DEFAULT_AUTO_FIELD = "django_tidb_autorandom.BigAutoRandomField"
        """,
    )
    project.manage("makemigrations", "app")
    assert "Ran 3 tests" in project.manage("test", "--noinput")
    tidb.execute("SHOW DATABASES LIKE 'custom_test_name'")
    assert not tidb.fetchall()
