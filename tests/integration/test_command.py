from __future__ import annotations


def test_server_that_does_not_answer(project):
    project.configure("django_tidb")
    output = project.manage("tidb", check=False, TIDB_PORT="1", TIDB_HOST="127.0.0.1")
    assert output.startswith("CommandError: Database 'default': (200")
    assert "Traceback" not in output


def test_without_the_plugins_apps(project):
    project.configure("django_tidb")
    output = project.manage("tidb")
    assert "django-tidb-autorandom" in output
    assert f"database {project.name}" in output
