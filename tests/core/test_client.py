"""Test the arguments of dbshell's client. test_tls.py runs a client."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db.backends.mysql.client import DatabaseClient as MySQLDatabaseClient

from django_tidb.client import DatabaseClient
from django_tidb.driver import Driver

VERSIONS = {
    "MySQL": "mysql  Ver 8.4.3 for Linux on x86_64 (MySQL Community Server - GPL)",
    "MySQL 5.7": "/usr/bin/mysql  Ver 14.14 Distrib 5.7.44, for Linux (x86_64)",
    "Percona": "mysql  Ver 8.0.36-28 for Linux on x86_64 (Percona Server (GPL))",
    "MariaDB": "mysql  Ver 15.1 Distrib 10.11.19-MariaDB, for debian-linux-gnu",
    "MariaDB 11": "mariadb from 11.8.3-MariaDB, client 15.2 for debian-linux-gnu",
}
FILES = {"ca": "/ca.pem", "capath": "/cas", "cert": "/c.pem", "key": Path("/k.pem")}
FILES["cipher"] = "ECDHE+AESGCM"
FILE_FLAGS = [
    *("--ssl-ca=/ca.pem", "--ssl-capath=/cas", "--ssl-cert=/c.pem"),
    *("--ssl-key=/k.pem", "--ssl-cipher=ECDHE+AESGCM"),
]
MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
MARIADB = {
    ("DISABLED", False): ["--skip-ssl"],
    ("DISABLED", True): ["--skip-ssl"],
    ("PREFERRED", False): ["--ssl", "--skip-ssl-verify-server-cert"],
    ("PREFERRED", True): ["--ssl", "--skip-ssl-verify-server-cert", *FILE_FLAGS],
    ("REQUIRED", False): ["--ssl", "--skip-ssl-verify-server-cert"],
    ("REQUIRED", True): ["--ssl", *FILE_FLAGS],
    ("VERIFY_CA", False): ["--ssl", "--ssl-verify-server-cert"],
    ("VERIFY_CA", True): ["--ssl", "--ssl-verify-server-cert", *FILE_FLAGS],
    ("VERIFY_IDENTITY", False): ["--ssl", "--ssl-verify-server-cert"],
    ("VERIFY_IDENTITY", True): ["--ssl", "--ssl-verify-server-cert", *FILE_FLAGS],
}


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Return a function that installs a client as the only program in PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def install(version, name="mysql"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{version}'\n")
        program.chmod(0o755)
        return program

    return install


@pytest.fixture(params=["mysqlclient", "PyMySQL"])
def driver(request, monkeypatch):
    """Let the backend use the driver of the parameter."""
    driver = Driver(request.param, "2")
    monkeypatch.setattr("django_tidb.client.ensure_driver", lambda: driver)
    return driver


def arguments(options, *parameters, **settings):
    settings = {
        "NAME": "shop",
        "USER": "ann",
        "PASSWORD": "secret",
        "HOST": "db.example.com",
        "PORT": 4000,
        "OPTIONS": options,
        **settings,
    }
    return DatabaseClient.settings_to_cmd_args_env(settings, parameters)


def flags(options):
    args, _ = arguments(options)
    return args[args.index("shop") + 1 :]


@pytest.mark.parametrize("with_files", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("client", VERSIONS)
def test_modes(install, driver, client, mode, with_files):
    install(VERSIONS[client])
    options = {"ssl_mode": mode, **({"ssl": FILES} if with_files else {})}
    if "MariaDB" in client:
        assert flags(options) == MARIADB[mode, with_files]
    else:
        files = FILE_FLAGS if with_files and mode != "DISABLED" else []
        assert flags(options) == [f"--ssl-mode={mode}", *files]


def test_the_rest_is_djangos(install, driver):
    install(VERSIONS["MySQL"])
    options = {"charset": "utf8mb4", "ssl_mode": "REQUIRED", "ssl": {"ca": "/ca.pem"}}
    args, env = arguments(options, "-e", "SELECT 1")
    assert args == [
        *("mysql", "--user=ann", "--host=db.example.com", "--port=4000"),
        *("--default-character-set=utf8mb4", "shop"),
        *("--ssl-mode=REQUIRED", "--ssl-ca=/ca.pem", "-e", "SELECT 1"),
    ]
    assert env == {"MYSQL_PWD": "secret"}
    args, _ = arguments({**options, "read_default_file": "/my.cnf"})
    assert args[:2] == ["mysql", "--defaults-file=/my.cnf"]


def test_without_tls_no_client_is_asked(install, driver):
    # This client would not answer the question for its version.
    install("")
    settings = {"NAME": "shop", "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}
    settings["OPTIONS"] = {}
    assert DatabaseClient.settings_to_cmd_args_env(
        settings, ["-e", "SELECT 1"]
    ) == MySQLDatabaseClient.settings_to_cmd_args_env(settings, ["-e", "SELECT 1"])


def test_mariadb_under_its_own_name(install, driver):
    install(VERSIONS["MariaDB 11"], name="mariadb")
    args, _ = arguments({"ssl_mode": "REQUIRED"})
    assert args[0] == "mariadb"
    install(VERSIONS["MySQL"])
    args, _ = arguments({"ssl_mode": "REQUIRED"})
    assert args[0] == "mysql"


def test_files_without_mode(install, monkeypatch):
    # Without ssl_mode, the driver decides how to use the files. mysqlclient leaves it
    # to the client library.
    install(VERSIONS["MySQL"])
    monkeypatch.setattr(
        "django_tidb.client.ensure_driver", lambda: Driver("mysqlclient", "2")
    )
    assert flags({"ssl": FILES}) == FILE_FLAGS
    assert flags({"ssl": {}}) == flags({"ssl": None}) == []
    assert flags({"ssl": True}) == ["--ssl-mode=REQUIRED"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ssl": {"ca": "/ca.pem"}}, ["VERIFY_IDENTITY", "ca=/ca.pem"]),
        ({"ssl": {"capath": "/cas"}}, ["VERIFY_IDENTITY", "capath=/cas"]),
        (
            {"ssl": {"ca": "/ca.pem", "check_hostname": False}},
            ["VERIFY_CA", "ca=/ca.pem"],
        ),
        (
            {"ssl": {"ca": "/ca.pem", "check_hostname": False, "verify_mode": "none"}},
            ["REQUIRED", "ca=/ca.pem"],
        ),
        ({"ssl": {"verify_mode": "required"}}, ["VERIFY_CA"]),
        ({"ssl": {"cipher": "AESGCM"}}, ["REQUIRED", "cipher=AESGCM"]),
        ({"ssl_ca": "/ca.pem"}, ["REQUIRED", "ca=/ca.pem"]),
        (
            {"ssl_ca": "/ca.pem", "ssl_verify_cert": True},
            ["VERIFY_CA", "ca=/ca.pem"],
        ),
        (
            {"ssl_ca": "/ca.pem", "ssl_verify_cert": True, "ssl_verify_identity": True},
            ["VERIFY_IDENTITY", "ca=/ca.pem"],
        ),
        (
            {"ssl_cert": "/c.pem", "ssl_key": "/k.pem"},
            ["REQUIRED", "cert=/c.pem", "key=/k.pem"],
        ),
        ({"ssl_disabled": True, "ssl_ca": "/ca.pem"}, ["DISABLED"]),
        ({"ssl": True}, ["REQUIRED"]),
    ],
)
def test_options_of_pymysql(install, monkeypatch, options, expected):
    install(VERSIONS["MySQL"])
    monkeypatch.setattr(
        "django_tidb.client.ensure_driver", lambda: Driver("PyMySQL", "1")
    )
    mode, *files = expected
    assert flags(options) == [f"--ssl-mode={mode}", *(f"--ssl-{f}" for f in files)]


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
PASSWORD = "the password of the key for TLS"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"ssl": CONTEXT}, f"OPTIONS['ssl'], {CONTEXT!r}"),
        ({"ssl": {"cert": "/c.pem", "key": "/k.pem", "password": "hush"}}, PASSWORD),
        ({"ssl_key": "/k.pem", "ssl_key_password": "hush"}, PASSWORD),
    ],
    # The processes of pytest-xdist have to agree on the names of the tests.
    ids=["context", "password", "password of PyMySQL"],
)
def test_what_no_client_can_be_asked_for(install, monkeypatch, options, what):
    install(VERSIONS["MySQL"])
    monkeypatch.setattr(
        "django_tidb.client.ensure_driver", lambda: Driver("PyMySQL", "1")
    )
    with pytest.raises(ImproperlyConfigured) as error:
        arguments(options)
    assert str(error.value) == (
        f"dbshell cannot pass on {what}. It can pass on OPTIONS['ssl_mode'], and a "
        "dictionary OPTIONS['ssl'] with the keys 'ca', 'capath', 'cert', 'key', "
        "'cipher'."
    )


def test_unknown_mode(install, driver):
    install(VERSIONS["MySQL"])
    with pytest.raises(ImproperlyConfigured) as error:
        arguments({"ssl_mode": "TRUST_ME"})
    assert str(error.value) == (
        "OPTIONS['ssl_mode'] is 'TRUST_ME'; it must be one of 'DISABLED', 'PREFERRED', "
        "'REQUIRED', 'VERIFY_CA', 'VERIFY_IDENTITY'."
    )


def test_unknown_client(install, driver):
    program = install("usql 0.19")
    with pytest.raises(ImproperlyConfigured) as error:
        arguments({"ssl_mode": "REQUIRED"})
    assert str(error.value) == (
        "OPTIONS ask for TLS, and dbshell can ask MySQL's client and MariaDB's for it, "
        f"but {str(program)!r} says that it is 'usql 0.19'."
    )


@pytest.mark.parametrize("options", [{}, {"ssl_mode": "REQUIRED"}])
def test_no_client(monkeypatch, tmp_path, settings, options):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(settings.DATABASES["default"], "OPTIONS", options)
    with pytest.raises(CommandError, match="appear not to have the 'mysql' program"):
        call_command("dbshell")
