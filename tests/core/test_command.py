from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from django_tidb.driver import ensure_driver


def run(capsys, *args):
    call_command("tidb", *args)
    return capsys.readouterr().out


@pytest.mark.django_db
def test_text(capsys):
    output = run(capsys)
    version = connections["default"].tidb_version
    assert f"default: TiDB {version} (" in output
    assert "Django " in output
    assert "django-tidb-vector " in output
    assert f"Driver: {ensure_driver()}" in output
    assert "collation_database = utf8mb4_bin" in output
    assert "FOR UPDATE SKIP LOCKED is accepted" in output
    assert "Concerns core.Shelf: constraint shelf_positive" in output


@pytest.mark.django_db
def test_json(capsys):
    report = json.loads(run(capsys, "--json", "--database", "default"))
    assert [plugin["name"] for plugin in report["plugins"]] == ["autorandom", "vector"]
    driver = report["driver"]
    assert f"{driver['name']} {driver['version']}" == str(ensure_driver())
    assert bool(driver["client_library"]) == (driver["name"] == "mysqlclient")
    database = report["databases"]["default"]
    assert database["version"] == str(connections["default"].tidb_version)
    issues = {issue["id"]: issue for issue in database["known_issues"]}
    assert issues["check-constraint"]["concerns"] == {
        "core.Shelf": ["constraint shelf_positive"]
    }


@pytest.mark.django_db
@pytest.mark.parametrize("format", [(), ("--json",)])
def test_no_password(capsys, monkeypatch, format):
    # The next line sets a wrong password, so connect before it.
    connections["default"].ensure_connection()
    settings = connections["default"].settings_dict
    monkeypatch.setitem(settings, "PASSWORD", "correct horse")
    monkeypatch.setitem(settings, "OPTIONS", {"passwd": "battery staple"})
    output = run(capsys, *format)
    assert "horse" not in output
    assert "staple" not in output


def test_database_that_is_not_tidb():
    with pytest.raises(CommandError, match=r"'sqlite' is 'django\.db"):
        call_command("tidb", "--database", "sqlite")
