from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "ttl_plugin"


def install(tmp_path):
    """Build the plugin's wheel and unpack it as an installer would."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=SOURCE,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    return site


@pytest.mark.works("ttl")
def test_third_party_plugin(project, tidb, tmp_path):
    project.write("app/__init__.py", "")
    project.write(
        "app/models.py",
        """\
        from django.db import models

        class Session(models.Model):
            created = models.DateTimeField(auto_now_add=True)

            class Meta:
                tidb_ttl = ("created", 30)
        """,
    )
    project.configure("app", "example_tidb_ttl")
    environ = {"PYTHONPATH": str(install(tmp_path))}
    project.manage("makemigrations", "app", **environ)
    project.manage("migrate", **environ)
    tidb.execute(f"SHOW CREATE TABLE `{project.name}`.`app_session`")
    assert "TTL=`created` + INTERVAL 30 DAY" in tidb.fetchone()[1]
    output = project.shell(
        """\
        from django_tidb.plugins import get_plugins
        print([plugin.name for plugin in get_plugins()])
        """,
        **environ,
    )
    assert "['autorandom', 'ttl', 'vector']" in output
