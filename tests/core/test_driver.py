from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib.machinery import PathFinder

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_tidb.driver import ensure_driver

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


def test_mysqlclient_is_preferred(monkeypatch, tmp_path):
    (tmp_path / "MySQLdb.py").write_text("")
    (tmp_path / "pymysql.py").write_text("raise AssertionError")
    for module in ("MySQLdb", "pymysql"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    ensure_driver()
    chosen = importlib.import_module("MySQLdb")
    del sys.modules["MySQLdb"]
    assert chosen.__file__ == str(tmp_path / "MySQLdb.py")


def test_no_driver(monkeypatch):
    for module in ("MySQLdb", "pymysql"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImproperlyConfigured) as error:
        ensure_driver()
    assert str(error.value) == (
        "django_tidb needs a driver. Install mysqlclient (recommended, is compiled on "
        'installation): pip install "django-tidb-core[mysqlclient]"; or PyMySQL (pure '
        'Python): pip install "django-tidb-core[pymysql]".'
    )
