"""
Test the distribution django-tidb, which contained the import package before
django-tidb-core. A real pip installs it beside django-tidb-core, and replaces it.
"""

from __future__ import annotations

import re
import shutil

import pytest

from tests.packaging.distributions import CORE, MODULES, Environment

pytestmark = pytest.mark.packaging

OLD = "django-tidb"
WITH_APP = ("--settings", "project.with_app")
WITH_DATABASE = ("--database", "default")


@pytest.fixture(scope="module")
def project_environment(built, tmp_path_factory, tidb_server):
    """Return an environment with a new project, and with neither distribution."""
    environment = Environment(tmp_path_factory.mktemp("project"), built)
    environment.install("pip", "django", "pymysql")
    environment.run("django-admin", "startproject", "project")
    folder = environment.directory / "project" / "project"
    database = {
        "ENGINE": "django_tidb",
        "HOST": tidb_server.host,
        "PORT": tidb_server.port,
        "USER": tidb_server.user,
        "PASSWORD": tidb_server.password,
    }
    with (folder / "settings.py").open("a") as settings:
        settings.write(f"DATABASES = { ({'default': database})!r}\n")
        # These checks inform about the default collation and the driver.
        settings.write("SILENCED_SYSTEM_CHECKS = ['tidb.I001', 'tidb.I002']\n")
    (folder / "with_app.py").write_text(
        "from .settings import *\nINSTALLED_APPS.append('django_tidb')\n"
    )
    # With the old distribution, the project itself has to set up PyMySQL.
    (folder / "__init__.py").write_text(
        "import pymysql\n\npymysql.install_as_MySQLdb()\n"
    )
    return environment


@pytest.fixture
def environment(project_environment):
    yield project_environment
    project_environment.run("pip", "uninstall", "--yes", CORE, OLD)
    # A failed test may have left this folder, with files that pip does not know.
    package = project_environment.site_packages / MODULES[CORE]
    shutil.rmtree(package, ignore_errors=True)


def check(environment, *arguments):
    return environment.run("python", "project/manage.py", "check", *arguments)


def python_files(environment, name):
    files = environment.installed()[name].files
    return {str(file) for file in files if file.suffix == ".py"}


def repair(environment, output):
    """Run the command in the hint of the warning in the `output` of check."""
    command = re.search(r"HINT: Run: (.+)", output)[1]
    environment.run("sh", "-c", command)


def assert_all_is_well(environment):
    assert OLD not in environment.installed()
    assert environment.differences(CORE) == set()
    output = check(environment, *WITH_APP, *WITH_DATABASE)
    assert "System check identified no issues" in output


def test_core_installed_over_the_old_one(environment):
    environment.run("pip", "install", OLD)
    environment.run("pip", "install", CORE)

    for arguments in (WITH_APP, WITH_DATABASE, WITH_APP + WITH_DATABASE):
        output = check(environment, *arguments)
        assert output.count("tidb.W001") == 1
    # Core works, but files of the old distribution that core lacks are still there.
    leftovers = python_files(environment, OLD) - python_files(environment, CORE)
    assert environment.differences(CORE) == leftovers

    repair(environment, output)
    assert_all_is_well(environment)


def test_old_one_installed_over_core(environment):
    environment.run("pip", "install", CORE)
    environment.run("pip", "install", OLD)

    # The engine of the old distribution is used, which has no such warning; the warning
    # comes from core's app.
    assert environment.differences(CORE) == python_files(environment, OLD)
    assert "tidb.W001" not in check(environment, *WITH_DATABASE)
    output = check(environment, *WITH_APP)
    assert output.count("tidb.W001") == 1

    repair(environment, output)
    assert_all_is_well(environment)


def test_old_one_uninstalled_before_core_is_installed(environment):
    environment.run("pip", "install", OLD)
    environment.run("pip", "uninstall", "--yes", OLD)
    environment.run("pip", "install", CORE)

    assert_all_is_well(environment)


def test_old_one_uninstalled_after_core_was_installed(environment):
    environment.run("pip", "install", OLD)
    environment.run("pip", "install", CORE)
    shared = python_files(environment, OLD) & python_files(environment, CORE)
    environment.run("pip", "uninstall", "--yes", OLD)

    # Uninstalling the old package last removes files of the new one.
    assert "django_tidb/__init__.py" in shared
    assert environment.differences(CORE) == shared

    environment.run("pip", "install", "--force-reinstall", "--no-deps", CORE)
    assert_all_is_well(environment)
