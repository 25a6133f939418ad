"""Test a third-party plugin that uses every hook, after building and installing it."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import django
import pytest

from django_tidb.plugins import Plugin
from django_tidb.version import TiDBVersion

SOURCE = Path(__file__).parent / "ttl_plugin"
REFERENCE = Path(__file__).parents[2] / "docs/ref/plugins.md"

MODELS = """\
from django.db import models
from example_tidb_ttl.fields import ExpiresField

class Session(models.Model):
    key = models.CharField(max_length=9, unique=True)
    created = models.DateTimeField()

    class Meta:
        tidb_ttl = ("created", {days})
        tidb_partitions = {partitions}
"""

REFERENCE_MODELS = """\
from django.db import models

class Session(models.Model):
    created = models.DateTimeField()

    class Meta:
        tidb_ttl = ("created", 7)
"""

ROOT = Path(__file__).parents[2]
PLUGINS = [
    ROOT / "packages/django-tidb-autorandom/src",
    ROOT / "packages/django-tidb-vector/src",
    SOURCE / "src",
]

# Attributes of connections and schema editors that Django documents, or that Django's
# backends provide for fields, indexes and other schema editors.
OF_DJANGO = {
    *("connection.connection", "connection.cursor", "connection.ensure_connection"),
    *(
        "connection.close",
        "connection.alias",
        "connection.ops",
        "connection.settings_dict",
    ),
    *("connection.timezone_name", "connection.introspection.table_names"),
    *("schema_editor.alter_field", "schema_editor.connection"),
    "schema_editor.quote_name",
}

HOOKS = [
    name
    for name, value in vars(Plugin).items()
    if not name.startswith("_") and name not in ("name", "api_version")
]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Return a folder with the plugin, as an installer unpacks its wheel."""
    path = tmp_path_factory.mktemp("ttl_plugin")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", path],
        cwd=SOURCE,
        check=True,
        capture_output=True,
    )
    (wheel,) = path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(path / "site")
    return path / "site"


@pytest.fixture
def app(project, site, monkeypatch):
    """Return a project with the plugin and a migrated app."""
    monkeypatch.setenv("PYTHONPATH", str(site))
    project.write("app/__init__.py", "")
    write_models(project)
    project.configure("app", "django_tidb", "example_tidb_ttl")
    project.manage("makemigrations", "app")
    project.manage("migrate")
    return project


def write_models(project, days=30, partitions=None, more=""):
    project.write(
        "app/models.py", MODELS.format(days=days, partitions=partitions) + more
    )


def show(tidb, project, table="app_session"):
    tidb.execute(f"SHOW CREATE TABLE `{project.name}`.`{table}`")
    return tidb.fetchone()[1]


def test_the_plugin_uses_every_hook():
    plugin = type(
        runpy.run_path(str(SOURCE / "src/example_tidb_ttl/plugin.py"))["plugin"]
    )
    # `legacy_imports` is for plugins with modules that were part of django-tidb.
    assert {name for name in HOOKS if name not in vars(plugin)} == {"legacy_imports"}


def test_the_reference_has_every_hook():
    documented = re.findall(r"^\| `(\w+)", REFERENCE.read_text(), re.MULTILINE)
    assert [name for name in documented if name in HOOKS] == HOOKS


def test_the_reference_has_the_parameters_of_every_hook():
    text = REFERENCE.read_text()
    for name in HOOKS:
        hook = getattr(Plugin, name)
        if inspect.isfunction(hook):
            parameters = ", ".join(list(inspect.signature(hook).parameters)[1:])
            assert f"`{name}({parameters})`" in text


def names_of_core(source):
    """
    Yield the names of core that a module uses: modules, their members, and attributes
    of variables that are called `connection` or `schema_editor`.
    """
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            assert not any(n.name.startswith("django_tidb.") for n in node.names)
        if isinstance(node, ast.ImportFrom) and not node.level:
            package, _, _ = node.module.partition(".")
            if package == "django_tidb":
                yield from ((node.module, name.name) for name in node.names)
        if isinstance(node, ast.Attribute):
            path = re.sub(
                r"^self\.|^schema_editor\.(?=connection\.)", "", ast.unparse(node)
            )
            if found := re.fullmatch(
                r"(connection|schema_editor)\.((?:features|introspection|validation)\.)?"
                r"(\w+)",
                path,
            ):
                yield found[1], (found[2] or "") + found[3]


def test_plugins_use_the_documented_names_of_core_only():
    text = REFERENCE.read_text()
    rows = re.findall(r"^\| `([\w.]+)[^`]*` \| (.*) \|$", text, re.MULTILINE)
    documented = {name: set(re.findall(r"\w+", text)) for name, text in rows}
    used = {
        name
        for plugin in PLUGINS
        for source in plugin.rglob("*.py")
        for name in names_of_core(source)
    }
    assert len(used) > 30
    undocumented = set()
    for name, member in used:
        if name == "django_tidb" or not name.startswith("django_tidb"):
            known = f"{name}.{member}" in documented.keys() | OF_DJANGO
        elif name == "django_tidb.changes":
            known = name in documented
        else:
            known = member in documented.get(name, ())
        if not known and member not in ("features", "introspection", "validation"):
            undocumented.add(f"{name}.{member}")
    assert undocumented == set()


def test_the_documented_names_of_core_exist():
    text = REFERENCE.read_text()
    rows = re.findall(r"^\| `(django_tidb[\w.]*)` \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) > 10
    for name, description in rows:
        if name == "django_tidb.is_tidb":
            continue
        module = importlib.import_module(name)
        members = re.findall(r"`([A-Za-z_]+)(?:\([\w, ]*\))?`", description)
        found = [member for member in members if hasattr(module, member)]
        assert found, name


@pytest.fixture
def plugin_of_the_reference(tmp_path, monkeypatch):
    """Install the code blocks of the reference as a distribution."""
    site = tmp_path / "site"
    package = site / "example_tidb_ttl"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    blocks = re.findall(
        r"^```(\w+)\n(.*?)^```$", REFERENCE.read_text(), re.MULTILINE | re.DOTALL
    )
    languages = [language for language, _ in blocks]
    assert sorted(languages) == ["python", "python", "toml"]
    for language, code in blocks:
        if language == "python":
            name = re.match(r"# (example_tidb_ttl/\w+\.py)\n", code)[1]
            (site / name).write_text(code)
            continue
        # An installer writes the entry points of pyproject.toml into this file.
        group, name, value = re.fullmatch(
            r'\[project\.entry-points\."([\w.]+)"\]\n(\w+) = "([\w.:]+)"\n', code
        ).groups()
        info = site / "example_tidb_ttl-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: example-tidb-ttl\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    monkeypatch.setenv("PYTHONPATH", str(site))


@pytest.mark.works("ttl")
def test_plugin_of_the_reference(project, plugin_of_the_reference, tidb):
    project.write("app/__init__.py", "")
    project.write("app/models.py", REFERENCE_MODELS)
    project.configure("app", "django_tidb", "example_tidb_ttl")
    project.manage("makemigrations", "app")
    project.manage("migrate")
    assert "TTL=`created` + INTERVAL 7 DAY" in show(tidb, project)
    output = project.manage("tidb")
    assert "example-tidb-ttl" in output


@pytest.mark.works("ttl")
def test_table_options(app, tidb):
    assert "TTL=`created` + INTERVAL 30 DAY" in show(tidb, app)
    assert "TTL_ENABLE='ON'" in show(tidb, app)
    output = app.shell(
        "from django_tidb.plugins import get_plugins\n"
        "print([plugin.name for plugin in get_plugins()])"
    )
    assert "['autorandom', 'ttl', 'vector']" in output


@pytest.mark.works("ttl")
def test_options_of_the_database(app, tidb):
    app.configure(
        "app",
        "example_tidb_ttl",
        more="DATABASES = {'default': TIDB | {'OPTIONS': {'ttl_paused': True}}}",
    )
    app.manage("migrate", "app", "zero")
    app.manage("migrate", "app")
    assert "TTL_ENABLE='OFF'" in show(tidb, app)


@pytest.mark.works("ttl")
@pytest.mark.skipif(
    django.VERSION < (5, 2),
    reason="Commands have an autodetector from Django 5.2: "
    "https://docs.djangoproject.com/en/5.2/releases/5.2/#management-commands",
)
def test_altered_options(app, tidb):
    write_models(app, days=7)
    output = app.manage("makemigrations", "app", "--name", "shorter")
    assert "Session: rows will be deleted after 7 days." in output
    text = (app.path / "app/migrations/0002_shorter.py").read_text()
    assert "django_tidb.table_options.AlterTableOptions(" in text
    app.manage("migrate")
    assert "TTL=`created` + INTERVAL 7 DAY" in show(tidb, app)
    app.manage("migrate", "app", "0001")
    assert "TTL=`created` + INTERVAL 30 DAY" in show(tidb, app)


@pytest.mark.works("ttl")
def test_partitions_follow_the_ttl(app, tidb):
    tidb.execute("SELECT VERSION()")
    if TiDBVersion.parse(*tidb.fetchone()) < (8, 4):
        pytest.skip("https://docs.pingcap.com/tidb/stable/global-indexes is from 8.4.")
    app.manage("migrate", "app", "zero")
    (app.path / "app/migrations/0001_initial.py").unlink()
    write_models(app, partitions=("created", 4))
    app.manage("makemigrations", "app")
    app.manage("migrate")
    sql = show(tidb, app)
    assert re.search(r"PRIMARY KEY \(`id`\) .*NONCLUSTERED.*GLOBAL", sql)
    assert re.search(r"UNIQUE KEY `key` \(`key`\) .*GLOBAL", sql)
    assert re.search(
        r"TTL=.*PARTITION BY KEY \(`created`\) PARTITIONS 4", sql, re.DOTALL
    )


@pytest.mark.works("ttl")
def test_foreign_key_is_refused_before_any_sql(app, tidb):
    more = """
class Note(models.Model):
    session = models.ForeignKey(Session, models.CASCADE)
"""
    write_models(app, more=more)
    app.manage("makemigrations", "app")
    output = app.manage("migrate", check=False)
    assert "Note.session refers to a table with a TTL: error 8152" in output
    tidb.execute(f"SHOW TABLES FROM `{app.name}` LIKE 'app_note'")
    assert tidb.fetchall() == ()


@pytest.mark.works("ttl")
def test_ttl_sleeps_while_a_table_is_rebuilt(app, tidb):
    app.write(
        "app/migrations/0002_key.py",
        """\
        from django.db import migrations, models

        class Migration(migrations.Migration):
            dependencies = [("app", "0001_initial")]
            operations = [
                migrations.AlterField(
                    "session",
                    "key",
                    models.CharField(
                        db_collation="utf8mb4_general_ci", max_length=9, unique=True
                    ),
                )
            ]
        """,
    )
    output = app.shell(
        """\
        from django.core.management import call_command
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        with CaptureQueriesContext(connection) as queries:
            call_command("migrate", verbosity=0)
        for query in queries:
            if "TTL_ENABLE" in query["sql"]:
                print(query["sql"].replace(chr(10), " "))
        """
    )
    off, create, on = (line for line in output.splitlines() if "TTL_ENABLE" in line)
    assert off == "ALTER TABLE `app_session` TTL_ENABLE = 'OFF'"
    assert create.startswith("CREATE TABLE `app_session__rebuild_new`")
    assert "TTL_ENABLE='OFF'" in create
    assert on == "ALTER TABLE `app_session` TTL_ENABLE = 'ON'"
    assert "COLLATE utf8mb4_general_ci" in show(tidb, app)


@pytest.fixture
def tickets(app):
    """
    Create a table with a row that was inserted before the column `expires` was added.
    """
    ticket = """
class Ticket(models.Model):
    name = models.CharField(max_length=9)
"""
    write_models(app, more=ticket)
    app.manage("makemigrations", "app")
    app.manage("migrate")
    app.shell("from app.models import Ticket; Ticket.objects.create(name='old')")
    expires = "expires = ExpiresField(default='2100-01-01T00:00:00Z')"
    write_models(app, more=f"{ticket}    {expires}\n")
    app.manage("makemigrations", "app")
    return app


@pytest.mark.works("ttl")
def test_columns(tickets):
    sql = tickets.manage("sqlmigrate", "app", "0003")
    assert re.search(r"ADD COLUMN `expires` datetime\(6\)[^;]* NULL[^;]*;", sql)
    tickets.manage("migrate")
    tickets.shell(
        "from app.models import Ticket\n"
        "assert Ticket.objects.get().expires.year == 2100"
    )
    output = tickets.manage("inspectdb", "app_ticket")
    assert "expires = example_tidb_ttl.fields.ExpiresField(" in output
    write_models(
        tickets,
        more="""
class Ticket(models.Model):
    name = models.CharField(max_length=9)
    expires = models.IntegerField()
""",
    )
    tickets.manage("makemigrations", "app")
    output = tickets.manage("migrate", check=False)
    assert "Ticket.expires has to stay a date: error 8148" in output


@pytest.mark.works("ttl")
def test_rows(tickets):
    tickets.manage("migrate")
    fixture = [
        {
            "model": "app.ticket",
            "pk": 9,
            "fields": {"name": "past", "expires": "2001-01-01T00:00:00Z"},
        }
    ]
    tickets.write("past.json", json.dumps(fixture))
    tickets.manage("loaddata", "past.json")
    tickets.shell(
        """\
        from app.models import Ticket
        past = Ticket.objects.get(pk=9)
        try:
            Ticket.objects.create(name="late", expires=past.expires)
        except ValueError as error:
            assert "Ticket.expires is 2001-01-01" in str(error), error
        else:
            raise AssertionError("It was written.")
        """
    )


@pytest.mark.works("ttl")
def test_command(app):
    assert app.manage("tidb", "ttl").strip() == "app_session"
    assert app.manage("tidb", "ttl", "--count").strip() == "1"
    report = app.manage("tidb")
    assert "TTL\n    table app_session" in report
    assert "ttl-time-zone (from 6.5)" in report


@pytest.mark.works("ttl")
def test_checks(app, tidb):
    tidb.execute("SELECT @@global.time_zone")
    (zone,) = tidb.fetchone()
    try:
        tidb.execute("SET GLOBAL time_zone = '+08:00'")
        output = app.manage("check", "--database", "default")
        assert "The global time zone is +08:00, not UTC" in output
        tidb.execute("SET GLOBAL time_zone = 'UTC'")
        assert "time zone" not in app.manage("check", "--database", "default")
    finally:
        tidb.execute("SET GLOBAL time_zone = %s", [zone])


@pytest.mark.works("ttl")
def test_test_databases(app, tidb):
    app.write(
        "app/tests.py",
        """\
        from django.db import connection
        from django.test import TestCase

        class SessionTests(TestCase):
            def test_it(self):
                with connection.cursor() as cursor:
                    cursor.execute("SHOW CREATE TABLE app_session")
                    assert "TTL_ENABLE='OFF'" in cursor.fetchone()[1]
        """,
    )
    assert "OK" in app.manage("test", "--noinput")
