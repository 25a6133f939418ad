from __future__ import annotations

import pytest
from django.core import checks
from django.db import connections

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
    features = connections["default"].features
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
    assert "core.Author.name" in info.msg


def test_collation_that_ignores_case(monkeypatch):
    connection = connections["default"]
    monkeypatch.setattr(
        connection,
        "tidb_variables",
        {**connection.tidb_variables, "collation_database": "utf8mb4_general_ci"},
    )
    assert messages("tidb.I001") == []


def test_old_distribution(monkeypatch, settings):
    # The packaging tests install the real one.
    monkeypatch.setattr("importlib.metadata.version", lambda name: "6.0.1")
    (warning,) = [i for i in checks.run_checks() if i.id == "tidb.W001"]
    assert "django-tidb 6.0.1 is still installed" in warning.msg
    # With the app there is nothing more to say, without it the backend says it.
    assert messages("tidb.W001") == []
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "django_tidb"
    ]
    assert len(messages("tidb.W001")) == 1
