from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.packaging.distributions import (
    AUTORANDOM,
    CORE,
    MODULES,
    PACKAGES,
    VECTOR,
    hashes,
)

pytestmark = pytest.mark.packaging

CONFIGURE = """
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "django_tidb"}})
"""
PRINT_DRIVER = f"""
{CONFIGURE}
from django.db import connections
connection = connections["default"]
print(type(connection).__module__, connection.Database.__name__)
"""
PRINT_PLUGINS = """
from django_tidb.plugins import get_plugins
print([plugin.name for plugin in get_plugins()])
"""


def has_client_library():
    """Return whether pkg-config finds a client library to compile mysqlclient with."""
    names = ("mysqlclient", "mariadb", "libmariadb", "perconaserverclient")
    return shutil.which("pkg-config") is not None and any(
        subprocess.run(["pkg-config", "--exists", name]).returncode == 0
        for name in names
    )


needs_client_library = pytest.mark.skipif(
    not has_client_library(),
    reason=(
        "mysqlclient is compiled, which needs pkg-config and the headers of MySQL's "
        "client library: https://github.com/PyMySQL/mysqlclient#install"
    ),
)


def print_import(statement):
    """Return code that prints the object that `statement` imports, or the error."""
    name = statement.rpartition(" ")[2]
    return f"""
try:
    {statement}
except ImportError as error:
    print("ImportError:", error)
else:
    print({name}.__module__)
"""


@pytest.mark.parametrize(
    ("requirements", "distributions", "plugins"),
    [
        ([CORE], {CORE}, []),
        ([AUTORANDOM], {CORE, AUTORANDOM}, ["autorandom"]),
        ([VECTOR], {CORE, VECTOR}, ["vector"]),
        ([AUTORANDOM, VECTOR], {CORE, AUTORANDOM, VECTOR}, ["autorandom", "vector"]),
    ],
    ids=["core", "autorandom", "vector", "both"],
)
def test_installation(installed, requirements, distributions, plugins):
    environment = installed(*requirements)
    names = environment.installed().keys()

    assert names & MODULES.keys() == distributions
    assert ("numpy" in names) == (VECTOR in distributions)
    assert all(environment.differences(name) == set() for name in distributions)
    assert environment.python(PRINT_PLUGINS) == str(plugins)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported(installed, built, name):
    """The modules need no package that the metadata and its extras do not name."""
    extras = {VECTOR: "[rest]"}.get(name, "")
    modules = sorted(
        path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in hashes(built.wheel(name))
        if path.endswith(".py")
    )
    code = f"""{CONFIGURE}
import importlib, django
django.setup()
for module in {modules}:
    importlib.import_module(module)
print(len({modules}))
"""
    assert MODULES[name] in modules
    environment = installed(f"{name}{extras}")
    assert environment.python(code) == str(len(modules))


def test_sdists_can_be_installed(installed):
    no_binary = [f"--no-binary={name}" for name in (CORE, VECTOR)]

    environment = installed(*no_binary, VECTOR)

    assert environment.installed().keys() & MODULES.keys() == {CORE, VECTOR}
    assert environment.differences(CORE) == environment.differences(VECTOR) == set()
    assert environment.python(PRINT_PLUGINS) == "['vector']"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_installation_from_a_clone(installed, page):
    root = PACKAGES.parent
    (command,) = re.findall(
        r"^pip install (.* (?:\./)?packages/.*)$",
        (root / page).read_text(),
        re.MULTILINE,
    )
    arguments = [
        str(root / argument) if "packages/" in argument else argument
        for argument in command.split()
    ]

    environment = installed(*arguments)

    assert environment.installed().keys() & MODULES.keys() == MODULES.keys()
    assert environment.python(PRINT_PLUGINS) == "['autorandom', 'vector']"


@pytest.mark.parametrize(
    ("extras", "driver"),
    [
        ("", "pymysql"),
        ("[pymysql]", "pymysql"),
        pytest.param("[mysqlclient]", "MySQLdb", marks=needs_client_library),
        pytest.param("[mysqlclient,pymysql]", "MySQLdb", marks=needs_client_library),
    ],
)
def test_driver_of_the_extra_is_used(installed, extras, driver):
    environment = installed(f"{CORE}{extras}")

    assert environment.python(PRINT_DRIVER) == f"django_tidb.base {driver}"


OLD_PATHS = {
    AUTORANDOM: "from django_tidb.fields import BigAutoRandomField",
    VECTOR: "from django_tidb.fields.vector import VectorField",
}


@pytest.mark.parametrize(
    ("requirement", "missing"),
    [
        (CORE, AUTORANDOM),
        (CORE, VECTOR),
        (AUTORANDOM, VECTOR),
        (VECTOR, AUTORANDOM),
    ],
)
def test_old_path_names_the_plugin_to_install(installed, requirement, missing):
    output = installed(requirement).python(print_import(OLD_PATHS[missing]))

    assert output.startswith("ImportError: django_tidb.fields.")
    assert f"pip install {missing}." in output


@pytest.mark.parametrize("name", OLD_PATHS)
def test_old_path_leads_to_the_installed_plugin(installed, name):
    output = installed(name).python(print_import(OLD_PATHS[name]))

    assert output == f"{MODULES[name]}.fields"
