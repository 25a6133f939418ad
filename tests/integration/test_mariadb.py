"""
Test a MariaDB beside TiDB in the same project. The project uses MariaDB as it would
without our packages. A MariaDB with our ENGINE is refused.
"""

from __future__ import annotations

import json
import os

import pytest

from .conftest import Project
from .mariadb import find_program, running_mariadb

TOPICS = (
    "tables",
    "writes",
    "queries",
    "explain",
    "schema",
    "connection",
    "features",
    "operations",
    "schema editor",
)
PLUGINS = ("django_tidb", "django_tidb_autorandom", "django_tidb_vector")

SETTINGS = """\
import importlib.util

# Projects without mysqlclient do this for Django's MySQL backend.
if importlib.util.find_spec("MySQLdb") is None:
    import pymysql
    pymysql.install_as_MySQLdb()

MARIADB = {maria}
DATABASES = {databases}
DEFAULT_AUTO_FIELD = "{key}"
"""

MODELS = """\
from django.db import models

class Author(models.Model):
    name = models.CharField(max_length=20, unique=True)

class Note(models.Model):
    author = models.ForeignKey(Author, models.CASCADE)
    text = models.CharField(max_length=100)
    number = models.PositiveIntegerField()
    data = models.JSONField()
    tags = models.ManyToManyField("Tag")

class Tag(models.Model):
    id = models.BigAutoField(primary_key=True)

    class Meta:
        verbose_name = "label"
        {meta}
"""

# In this migration, schema editors change existing tables.
CHANGES = """\
import django
from django.db import migrations, models
from django.db.models.functions import Lower

class Migration(migrations.Migration):
    dependencies = [("app", "0001_initial")]
    operations = [
        migrations.CreateModel(
            "Group",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("code", models.CharField(max_length=10, db_index=True)),
                ("settings", models.JSONField(default=dict)),
                ("parent", models.ForeignKey("self", models.CASCADE, null=True)),
            ],
        ),
        migrations.AddField(
            "note", "slug", models.CharField(max_length=20, unique=True, null=True)
        ),
        migrations.AddField(
            "note", "group", models.ForeignKey("Group", models.CASCADE, null=True)
        ),
        migrations.AddField("note", "body", models.TextField(default="empty")),
        migrations.AddField("note", "more", models.JSONField(default=list)),
        migrations.AddField("note", "votes", models.PositiveIntegerField(default=1)),
        migrations.AlterField("note", "text", models.CharField(max_length=200)),
        migrations.AlterField("note", "number", models.BigIntegerField(null=True)),
        migrations.AddIndex(
            "note", models.Index(fields=["text", "-number"], name="by_text")
        ),
        migrations.AddIndex("note", models.Index(Lower("text"), name="by_lower")),
        migrations.AddConstraint(
            "note",
            models.UniqueConstraint(fields=["author", "number"], name="one_number"),
        ),
        migrations.AddConstraint(
            "note",
            models.CheckConstraint(
                **{
                    "condition" if django.VERSION >= (5, 1) else "check": models.Q(
                        votes__gt=0
                    )
                },
                name="votes_positive",
            ),
        ),
        migrations.RemoveConstraint("note", "one_number"),
        migrations.RenameField("note", "body", "content"),
        migrations.RemoveField("note", "more"),
        migrations.RemoveField("note", "author"),
        migrations.RenameModel("Tag", "Label"),
        migrations.AlterModelTable("Author", "authors"),
        migrations.DeleteModel("Author"),
    ]
"""

# A script that prints everything that a project can observe of each database, with the
# default database first.
PROBE = """\
import io
import json
import sys

from django.core.management import call_command
from django.db import NotSupportedError, connections
from django.db.models import CharField, Count, Max
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Chr, Length, Lower, MD5, Ord
from django.test.utils import CaptureQueriesContext

from app.models import Author, Note, Tag

CHAR = Chr("number", output_field=CharField())
CONNECTION = [
    "data_type_check_constraints", "data_types", "data_types_suffix",
    "display_name", "isolation_levels", "mysql_is_mariadb", "mysql_version",
    "operators", "pattern_esc", "pattern_ops", "vendor",
]

def attributes(thing):
    kinds = (bool, int, str, tuple, list, set, frozenset, dict, type(None))
    values = {name: getattr(thing, name) for name in dir(thing) if name[0] != "_"}
    return {name: value for name, value in values.items() if isinstance(value, kinds)}

def queries(notes):
    yield notes.annotate(x=CHAR).filter(x="A")
    yield notes.annotate(x=Ord("text"), y=MD5("text"), z=Length("text"))
    yield notes.annotate(x=Cast("number", CharField(max_length=9)))
    for lookup in (
        "exact", "iexact", "contains", "icontains", "startswith", "istartswith",
        "endswith", "iendswith", "regex", "iregex",
    ):
        yield notes.filter(**{"text__" + lookup: "A"})
        yield notes.filter(**{"data__name__" + lookup: "A"})
    yield notes.filter(text__icontains=Lower("author__name"))
    for lookup, value in (
        ("exact", None), ("exact", {"a": 1}), ("a__b", [1, 2.5]), ("a__0", "x"),
        ("name__isnull", True), ("name", None), ("name__in", ["Ann", 1]),
        ("size__gt", 2), ("contains", {"a": 1}), ("contained_by", {"a": 1}),
        ("has_key", "a"), ("has_keys", ["a", "b"]), ("has_any_keys", ["a", "b"]),
    ):
        yield notes.filter(**{"data__" + lookup: value})
    yield notes.exclude(data__name="Ann").order_by("data__size").values("data__a")
    yield notes.annotate(x=KT("data__name")).values("x").annotate(n=Count("pk"))
    yield notes.values("author").annotate(n=Max("number"), m=Count("tags"))
    yield notes.filter(number__lt=9).union(notes.filter(number__gt=5))
    yield notes.filter(number__lt=9).intersection(notes.filter(number__gt=5))
    yield notes.filter(author__in=Author.objects.using(notes.db).order_by("pk")[:1])
    yield notes.select_related("author").prefetch_related("tags")

def executed(connection, function, *args, **kwargs):
    with CaptureQueriesContext(connection) as captured:
        try:
            result = function(*args, **kwargs)
        except (NotSupportedError, ValueError) as error:
            result = error
    return [*(query["sql"] for query in captured.captured_queries), repr(result)]

def explain(notes, **options):
    # Without its answer, which has times.
    notes.explain(**options)

def writes(connection):
    authors = Author.objects.using(connection.alias)
    notes = Note.objects.using(connection.alias)
    author = authors.create(name="Ann")
    yield executed(connection, authors.bulk_create, [Author(name="Bob")])
    for conflicts in (
        {"ignore_conflicts": True},
        {"update_conflicts": True, "update_fields": ["name"]},
    ):
        yield executed(
            connection, authors.bulk_create, [Author(name="BOB")], **conflicts
        )
    note = notes.create(
        author=author, text="An apple", number=65, data={"name": "Ann", "a": [1]}
    )
    note.tags.add(Tag.objects.using(connection.alias).create())
    assert notes.get(text__icontains="APPLE", data__name__iexact="ANN") == note
    assert notes.annotate(x=CHAR).get().x == "A"
    yield executed(connection, notes.filter(text="x").update, number=1)
    yield executed(connection, notes.filter(author__name="x").update, number=1)
    yield executed(connection, notes.filter(number__gt=99, tags=None).delete)
    assert notes.count() == 1

def tables(connection):
    with connection.cursor() as cursor:
        for name in connection.introspection.table_names(cursor):
            cursor.execute("SHOW CREATE TABLE " + connection.ops.quote_name(name))
            yield cursor.fetchone()

def probe(connection):
    alias = connection.alias
    found = {}
    call_command("migrate", "app", "0001", database=alias, verbosity=0)
    found["tables"] = dict(tables(connection))
    found["writes"] = list(writes(connection))
    notes = Note.objects.using(alias)
    found["queries"] = [executed(connection, list, query) for query in queries(notes)]
    found["explain"] = [
        executed(connection, explain, notes, **options)
        for options in (
            {}, {"format": "text"}, {"format": "json"}, {"format": "traditional"},
            {"analyze": True}, {"analyze": True, "format": "json"},
        )
    ]
    statements = io.StringIO()
    call_command("sqlmigrate", "app", "0002", database=alias, stdout=statements)
    found["schema"] = statements.getvalue().splitlines()
    # TiDB before 6.2 cannot make all of these changes.
    if connection.mysql_is_mariadb:
        call_command("migrate", "app", database=alias, verbosity=0)
        found["changed tables"] = dict(tables(connection))
    found["connection"] = {name: getattr(connection, name) for name in CONNECTION}
    found["features"] = attributes(connection.features)
    found["operations"] = attributes(connection.ops)
    found["schema editor"] = attributes(connection.SchemaEditorClass)
    return found

answer = {
    alias: probe(connections[alias])
    for alias in connections
    if connections[alias].vendor == "mysql"
}
answer["modules"] = [name for name in sys.modules if name.startswith("django_tidb")]
with open("answer.json", "w") as file:
    json.dump(answer, file, default=sorted)
"""

QUERY = """\
from django.contrib.contenttypes.models import ContentType
ContentType.objects.count()
"""

QUERY_TWICE = """\
from django.contrib.contenttypes.models import ContentType
from django.db import NotSupportedError

for _ in range(2):
    try:
        ContentType.objects.count()
    except NotSupportedError as error:
        assert "is not a TiDB" in str(error)
    else:
        raise AssertionError("The query went to MariaDB.")
"""


@pytest.fixture(scope="session")
def mariadb():
    """Start a MariaDB server for these tests."""
    programs = [find_program(name) for name in ("mariadb-install-db", "mariadbd")]
    if None in programs:
        pytest.skip(
            "MariaDB is not installed: "
            "https://packages.debian.org/bookworm/mariadb-server"
        )
    with running_mariadb(*programs) as server:
        yield server


def answer(project, mariadb, *apps, databases, key, meta="pass"):
    """Return the output of PROBE in a project with these `apps` and `databases`."""
    with mariadb.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {project.name}")
    project.write("app/__init__.py", "")
    project.write("app/models.py", MODELS.format(meta=meta))
    project.write("probe.py", PROBE)
    project.configure(
        *apps,
        "app",
        more=SETTINGS.format(
            maria=mariadb.settings | {"NAME": project.name},
            databases=databases,
            key=key,
        ),
    )
    project.manage("makemigrations", "app")
    project.write("app/migrations/0002_changes.py", CHANGES)
    project.shell("import probe")
    return json.loads((project.path / "answer.json").read_text())


@pytest.fixture(scope="module")
def without(tmp_path_factory, tidb_server, mariadb):
    """Return the output of PROBE in a project that has none of our packages."""
    project = Project(tmp_path_factory.mktemp("without"), "without")
    return answer(
        project,
        mariadb,
        databases="{'default': {}, 'maria': MARIADB}",
        key="django.db.models.BigAutoField",
    )


@pytest.fixture(scope="module")
def beside(tmp_path_factory, tidb, mariadb):
    """
    Return the output of PROBE in a project that uses TiDB with all packages, and
    MariaDB.
    """
    name = f"beside_{os.getpid()}"
    tidb.execute(f"CREATE DATABASE {name}")
    project = Project(tmp_path_factory.mktemp("beside"), name)
    try:
        yield answer(
            project,
            mariadb,
            *PLUGINS,
            databases="{'default': TIDB, 'maria': MARIADB}",
            key="django_tidb_autorandom.BigAutoRandomField",
            meta="tidb_auto_id_cache = 1",
        )
    finally:
        tidb.execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize("topic", [*TOPICS, "changed tables"])
def test_same_as_without_our_packages(beside, without, topic):
    assert without["modules"] == []
    assert beside["maria"][topic] == without["maria"][topic]


@pytest.mark.parametrize("topic", TOPICS)
def test_tidb_is_told_apart(beside, topic):
    assert beside["default"][topic] != beside["maria"][topic]


def test_chr(beside):
    tidb, maria = (beside[alias]["queries"][0][0] for alias in ("default", "maria"))
    assert "USING utf8mb4" in tidb
    assert "CHAR(`app_note`.`number` USING utf16)" in maria


def test_keys(beside):
    tidb, maria = (beside[alias]["tables"] for alias in ("default", "maria"))
    assert "AUTO_RANDOM(5)" in tidb["app_note"]
    assert "`id` bigint(20) NOT NULL AUTO_INCREMENT" in maria["app_note"]
    assert "AUTO_ID_CACHE=1 */" in tidb["app_tag"]
    assert "AUTO_ID_CACHE" not in maria["app_tag"]


def misdirect(project, mariadb, **settings):
    """Configure a database on MariaDB with our ENGINE in the project."""
    settings = {**mariadb.settings, "ENGINE": "django_tidb", **settings}
    project.configure(
        "django.contrib.contenttypes",
        *PLUGINS,
        more=f"DATABASES = {{'default': {settings}}}",
    )


def refusal(mariadb):
    with mariadb.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        (version,) = cursor.fetchone()
    assert "MariaDB" in version
    return (
        "NotSupportedError: The database connection 'default' has the ENGINE "
        f"'django_tidb', but its server at {mariadb.settings['HOST']!r} is not a "
        f"TiDB: it calls itself '{version}'. For MySQL and MariaDB the ENGINE is "
        "'django.db.backends.mysql'.\n"
    )


@pytest.mark.parametrize("name", ["mysql", ""])
@pytest.mark.parametrize(
    "command",
    [
        ("check", "--database", "default"),
        ("migrate",),
        ("shell", "-c", QUERY),
    ],
    ids=lambda command: command[0],
)
def test_engine_of_mariadb(project, mariadb, command, name):
    misdirect(project, mariadb, NAME=name)
    output = project.manage(*command, check=False)
    assert output.endswith(refusal(mariadb))
    assert output.count("Traceback") == 1


def test_engine_of_mariadb_for_a_user_without_privileges(project, mariadb):
    # To a user without privileges, the server does not report that tidb_version() does
    # not exist.
    with mariadb.cursor() as cursor:
        cursor.execute("CREATE DATABASE readable")
        cursor.execute("CREATE USER reader@localhost")
        cursor.execute("GRANT SELECT ON readable.* TO reader@localhost")
    misdirect(project, mariadb, NAME="readable", USER="reader")
    output = project.manage("check", "--database", "default", check=False)
    assert output.endswith(refusal(mariadb))


def test_engine_of_mariadb_is_refused_again(project, mariadb):
    misdirect(project, mariadb, NAME="mysql")
    project.shell(QUERY_TWICE)
