from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from django_tidb.checks import check_driver
from django_tidb.driver import Driver, ensure_driver

ROUND_TRIP = """
import datetime
import os
import sys
import uuid
from decimal import Decimal

if sys.argv[1] == "pymysql":
    # As if mysqlclient were not installed.
    sys.modules["MySQLdb"] = None

import django
from django.conf import settings
from django.db import connection, models

settings.configure(
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django_tidb",
            "NAME": f"driver_{os.getpid()}",
            "HOST": os.environ["TIDB_HOST"],
            "PORT": os.environ["TIDB_PORT"],
            "USER": os.environ["TIDB_USER"],
            "PASSWORD": os.environ["TIDB_PASSWORD"],
        }
    },
)
django.setup()


class Row(models.Model):
    binary = models.BinaryField(null=True)
    boolean = models.BooleanField(null=True)
    date = models.DateField(null=True)
    datetime = models.DateTimeField(null=True)
    decimal = models.DecimalField(max_digits=30, decimal_places=10, null=True)
    duration = models.DurationField(null=True)
    float = models.FloatField(null=True)
    integer = models.BigIntegerField(null=True)
    json = models.JSONField(null=True)
    text = models.TextField(null=True)
    time = models.TimeField(null=True)
    uuid = models.UUIDField(null=True)

    class Meta:
        app_label = "app"


VALUES = {
    "binary": bytes(range(256)),
    "boolean": True,
    "date": datetime.date(1, 1, 1),
    "datetime": datetime.datetime(
        2024, 2, 29, 23, 59, 59, 999999, datetime.timezone.utc
    ),
    "decimal": Decimal("-12345678901234567890.0123456789"),
    "duration": -datetime.timedelta(days=3, microseconds=1),
    "float": 0.1,
    "integer": -(2**63),
    "json": {"a": [1, 2.5, None, True, "\\u00e9\\U0001f600'\\"\\\\%"]},
    "text": "\\u00e9\\U0001f600'\\"\\\\%s\\0\\n",
    "time": datetime.time(23, 59, 59, 999999),
    "uuid": uuid.UUID(int=2**128 - 1),
}

connection.creation.create_test_db(verbosity=0, autoclobber=True)
try:
    with connection.schema_editor() as editor:
        editor.create_model(Row)
    full = Row.objects.create(**VALUES)
    empty = Row.objects.create()
    for name, value in VALUES.items():
        found = Row.objects.get(**{name: value})
        assert found == full, name
        assert type(getattr(found, name)) is type(value), name
        assert getattr(found, name) == value, name
        assert Row.objects.get(**{f"{name}__isnull": True}) == empty, name
finally:
    connection.creation.destroy_test_db("unused", verbosity=0)

print(sys.modules["MySQLdb"].__name__)
"""


@pytest.mark.parametrize("module", ["MySQLdb", "pymysql"])
def test_round_trips(tidb_server, module):
    if PathFinder.find_spec(module) is None:
        pytest.skip(f"The driver with the module {module} is not installed here.")
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", ROUND_TRIP, module],
        env={**os.environ, **tidb_server.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    assert result.stdout == f"{module}\n"


CHOICE = """
from django_tidb.driver import ensure_driver

driver = ensure_driver()
import MySQLdb
from MySQLdb.constants import CLIENT

assert driver.is_pymysql == (MySQLdb.__name__ == "pymysql")
print(MySQLdb.__name__, driver, driver.import_error, sep="; ")
"""


def choose(folder):
    """Return what CHOICE prints in a new process with `folder` on the path."""
    result = subprocess.run(
        [sys.executable, "-c", CHOICE],
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return result.stdout.strip()


def fake_mysqlclient(folder, start=""):
    (folder / "MySQLdb" / "constants").mkdir(parents=True)
    for name, text in {
        "__init__": f"from .constants import CLIENT\n{start}\nversion_info = 2, 9, 1",
        "constants/__init__": "from . import CLIENT",
        "constants/CLIENT": "",
    }.items():
        (folder / "MySQLdb" / f"{name}.py").write_text(text)
    return folder


def test_mysqlclient_is_preferred(tmp_path):
    (tmp_path / "pymysql.py").write_text("raise AssertionError")
    assert choose(fake_mysqlclient(tmp_path)) == "MySQLdb; mysqlclient 2.9.1;"


def test_mysqlclient_without_its_library(tmp_path):
    error = "libmysqlclient.so.21: cannot open shared object file"
    broken = fake_mysqlclient(tmp_path, start=f"raise ImportError({error!r})")
    assert choose(broken) == f"pymysql; PyMySQL {version('pymysql')}; {error}"


def test_no_driver(monkeypatch):
    for module in ("MySQLdb", "pymysql"):
        monkeypatch.setitem(sys.modules, module, None)
    for module in [name for name in sys.modules if name.startswith("MySQLdb.")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ImproperlyConfigured) as error:
        ensure_driver.__wrapped__()
    assert str(error.value) == (
        "django_tidb needs a driver, and neither mysqlclient nor PyMySQL can be "
        "imported: import of MySQLdb halted; None in sys.modules. PyMySQL (pure "
        "Python) comes with django-tidb-core; mysqlclient (faster, is compiled on "
        'installation) with: pip install "django-tidb-core[mysqlclient]".'
    )


# The check tidb.I002

PYMYSQL = Driver("PyMySQL", "1.2.4", "No module named 'MySQLdb'")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "drivers.json"


@pytest.fixture
def use(monkeypatch):
    """
    Return a function that simulates the driver in use and the installed mysqlclient.
    """

    def use(driver, mysqlclient=None):
        def version(name):
            if name == "mysqlclient" and mysqlclient:
                return mysqlclient
            raise PackageNotFoundError(name)

        monkeypatch.setattr("django_tidb.checks.ensure_driver", lambda: driver)
        monkeypatch.setattr("importlib.metadata.version", version)

    return use


def test_check_names_the_extra(use):
    use(PYMYSQL)
    (info,) = check_driver(databases=["default", "sqlite"])
    assert info.level == checks.INFO
    assert info.id == "tidb.I002"
    assert info.msg.startswith("The driver is PyMySQL 1.2.4. Beside mysqlclient it ")
    assert "pip install 'django-tidb-core[mysqlclient]'" in info.hint
    assert "'tidb.I002' to SILENCED_SYSTEM_CHECKS" in info.hint


def test_check_has_the_measured_times(use):
    use(PYMYSQL)
    (info,) = check_driver(databases=["default"])
    (ratios,) = json.loads(RESULTS.read_text())["ratios"].values()
    measured = ("100,000 rows as tuples", "100,000 rows as objects", "1,000 get()")
    assert re.findall(r"([\d.]+) times", info.msg) == [
        f"{ratios[what]:.1f}" for what in measured
    ]


def test_check_tells_why_an_installed_mysqlclient_is_not_used(use):
    use(Driver("PyMySQL", "1.2.4", "libmysqlclient.so.21: not there"), "2.3.2")
    (info,) = check_driver(databases=["default"])
    assert info.hint.startswith(
        "mysqlclient 2.3.2 is installed, but cannot be imported: "
        "libmysqlclient.so.21: not there."
    )
    use(Driver("PyMySQL", "1.2.4"), "2.3.2")
    (info,) = check_driver(databases=["default"])
    assert "calls pymysql.install_as_MySQLdb()" in info.hint


def test_check_has_nothing_to_say(use):
    use(Driver("mysqlclient", "2.3.2"), "2.3.2")
    assert check_driver(databases=["default"]) == []
    use(PYMYSQL)
    # The argument is None in runserver, which checks no database. SQLite is no TiDB.
    assert check_driver(databases=None) == check_driver(databases=["sqlite"]) == []


@pytest.mark.django_db
def test_check_runs_once(use, settings):
    use(PYMYSQL)
    issues = checks.run_checks(databases=["default", "sqlite"])
    assert [issue.id for issue in issues].count("tidb.I002") == 1
    # If django_tidb is not in INSTALLED_APPS, the validation of the backend runs the
    # check.
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "django_tidb"
    ]
    issues = connections["default"].validation.check()
    assert [issue.id for issue in issues].count("tidb.I002") == 1
