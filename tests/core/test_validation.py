from __future__ import annotations

import re

import pytest
from django.apps import apps
from django.core import checks
from django.db import connections, models
from django.test.utils import isolate_apps

pytestmark = pytest.mark.django_db


def messages(id):
    issues = connections["default"].validation.check()
    return [issue for issue in issues if issue.id == id]


def test_ignored_constraints():
    (warning,) = messages("tidb.W002")
    assert warning.level == checks.WARNING
    assert "'default' ignores CHECK constraints" in warning.msg
    assert "core.Shelf (constraint shelf_positive)" in warning.msg
    assert "SET GLOBAL tidb_enable_check_constraint = ON" in warning.hint


def test_enforced_constraints(monkeypatch):
    features = type(connections["default"].features)
    monkeypatch.setattr(features, "supports_table_check_constraints", True)
    assert messages("tidb.W002") == []


def test_skip_locked(monkeypatch):
    assert messages("tidb.W005") == []
    apps = {"core", "another"}
    monkeypatch.setattr("django_tidb.validation._SKIP_LOCKED_APPS", apps)
    (warning,) = messages("tidb.W005")
    assert warning.level == checks.WARNING
    assert "The app 'tests.core', whose tables are in the database 'def" in warning.msg
    assert "DATABASES['default']['OPTIONS']['skip_locked'] = 'wait'" in warning.hint
    options = connections["default"].settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "skip_locked", "wait")
    assert messages("tidb.W005") == []


def test_collation():
    (info,) = messages("tidb.I001")
    assert info.level == checks.INFO
    assert "has the collation utf8mb4_bin" in info.msg
    assert "auth.User.username" in info.msg


def test_collation_of_the_hint_exists(tidb):
    (info,) = messages("tidb.I001")
    # The hint first advises on the database, because most fields belong to other apps.
    assert info.hint.index("create the database") < info.hint.index("db_collation")
    collation = re.search(r"'(utf8mb4_\w+)'", info.hint)[1]
    tidb.execute("SELECT 'a' COLLATE " + collation + " = 'A'")
    # From TiDB 6.0 on, new clusters distinguish collations:
    # https://docs.pingcap.com/tidb/stable/character-set-and-collation
    # https://docs.pingcap.com/tidb/stable/character-set-and-collation
    assert tidb.fetchone() == (connections["default"].tidb_version >= (6, 0),)


def test_many_fields_are_counted(make_model, monkeypatch):
    models_ = [
        make_model(f"Thing{i}", name=models.CharField(max_length=9, unique=True))
        for i in range(9)
    ]
    validation = connections["default"].validation
    monkeypatch.setattr(validation, "models", lambda: models_[:5])
    (info,) = messages("tidb.I001")
    assert info.msg.endswith("core.Thing3.name, core.Thing4.name.")
    monkeypatch.setattr(validation, "models", lambda: models_)
    (info,) = messages("tidb.I001")
    assert info.msg.endswith("core.Thing3.name, core.Thing4.name and 4 more.")


def test_a_mirror_repeats_nothing(monkeypatch):
    connection = connections["default"]
    assert messages("tidb.I001") and messages("tidb.W002")
    monkeypatch.setitem(connection.settings_dict["TEST"], "MIRROR", "primary")
    assert messages("tidb.I001") == messages("tidb.W002") == []


def test_collation_that_ignores_case(monkeypatch):
    connection = connections["default"]
    monkeypatch.setattr(
        connection,
        "tidb_variables",
        {**connection.tidb_variables, "collation_database": "utf8mb4_general_ci"},
    )
    assert messages("tidb.I001") == []


def test_old_distribution(monkeypatch, settings):
    # Pretend that the old distribution is installed; the packaging tests install it.
    monkeypatch.setattr("importlib.metadata.version", lambda name: "6.0.1")
    (warning,) = [i for i in checks.run_checks() if i.id == "tidb.W001"]
    assert "django-tidb 6.0.1 is still installed" in warning.msg
    # The app has registered the check. Without the app, the backend runs it.
    assert messages("tidb.W001") == []
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "django_tidb"
    ]
    assert len(messages("tidb.W001")) == 1


@pytest.fixture
def install(monkeypatch):
    """Return a function that makes the checks believe that an app is installed."""

    def install(name):
        is_installed = apps.is_installed
        monkeypatch.setattr(
            apps, "is_installed", lambda other: other == name or is_installed(other)
        )

    return install


def full_text_warnings():
    return [issue for issue in checks.run_checks() if issue.id == "tidb.W004"]


@pytest.mark.parametrize(
    ("app", "setting"),
    [
        ("wagtail.search", "WAGTAILSEARCH_BACKENDS"),
        ("modelsearch", "MODELSEARCH_BACKENDS"),
    ],
)
def test_search_backends(install, settings, app, setting):
    assert full_text_warnings() == []
    install(app)
    # The database is the default search backend.
    (warning,) = full_text_warnings()
    assert f"{setting}['default'] has the BACKEND '{app}.backends.database'" in (
        warning.msg
    )
    assert f"'{app}.backends.database.fallback'" in warning.hint
    assert "['skip_fulltext_indexes'] = True" in warning.hint
    for backend, count in {
        f"{app}.backends.database": 1,
        f"{app}.backends.database.SearchBackend": 1,
        f"{app}.backends.database.mysql.mysql": 1,
        "modelsearch.backends.database": 1,
        f"{app}.backends.database.fallback": 0,
        "wagtail.search.backends.database.fallback.SearchBackend": 0,
        f"{app}.backends.elasticsearch8": 0,
        "shop.search.backends.database": 0,
    }.items():
        setattr(settings, setting, {"default": {"BACKEND": backend}})
        assert len(full_text_warnings()) == count, backend
    other = {"BACKEND": f"{app}.backends.database.fallback"}
    setattr(
        settings,
        setting,
        {"default": other, "more": {"BACKEND": f"{app}.backends.database"}},
    )
    (warning,) = full_text_warnings()
    assert f"{setting}['more']" in warning.msg


def test_search_backends_without_the_app(install, monkeypatch, settings):
    install("wagtail.search")
    connection = connections["default"]
    assert messages("tidb.W004") == []
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "django_tidb"
    ]
    install("wagtail.search")
    assert len(messages("tidb.W004")) == 1
    # The alias "other" has no settings, so check_driver() would fail for it.
    monkeypatch.setattr("django_tidb.validation.check_driver", lambda **kwargs: [])
    monkeypatch.setattr(connection, "alias", "other")
    assert messages("tidb.W004") == []


def test_search_backends_elsewhere(install, monkeypatch):
    install("wagtail.search")
    # On MySQL, the search backend works.
    monkeypatch.setattr(type(connections["default"]), "tidb", False)
    assert full_text_warnings() == []


@isolate_apps("tests.core")
def test_intermediate_table_of_another_database():
    class Inner(models.Model):
        tags = models.ManyToManyField("self")

        class Meta:
            db_table = "other`.`inner"

    class Outer(models.Model):
        tags = models.ManyToManyField(Inner)
        named = models.ManyToManyField(Inner, related_name="+", db_table="other`.`x")

        class Meta:
            db_table = "`other`.`outer`"

    def errors(name, model):
        field = model._meta.get_field(name)
        return field.check(databases=["default"], from_model=model)

    assert errors("tags", Inner) == errors("named", Outer) == []
    (error,) = errors("tags", Outer)
    assert error.id == "tidb.E002"
    assert error.level == checks.ERROR
    assert "core.Outer.tags is not valid: '`other`.`outer`_tags' is no" in error.msg
    assert "without the outer backticks, 'other`.`outer'" in error.hint
