"""Test TLS with both drivers, with the same OPTIONS."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.machinery import PathFinder
from pathlib import Path
from subprocess import CalledProcessError
from unittest import mock

import pytest
import trustme
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.db.utils import ConnectionHandler

from django_tidb.version import TiDBVersion

README = Path(__file__).parents[2] / "packages/django-tidb-core/README.md"
DOCUMENTATION = (
    "https://docs.pingcap.com/tidb/stable/enable-tls-between-clients-and-servers"
)
HOST = "127.0.0.1"
# The same address, under a name that no certificate has.
OTHER_HOST = "127.1"
VERIFY = ("VERIFY_CA", "VERIFY_IDENTITY")
# The drivers, and the module that each installs.
DRIVERS = {"mysqlclient": "MySQLdb", "pymysql": "pymysql"}


def choose(driver):
    if driver == "pymysql":
        # This makes the import of mysqlclient fail, as if it were not installed.
        sys.modules["MySQLdb"] = None


def client_version():
    import MySQLdb

    return MySQLdb.get_client_info()


def open_connection(port, options, **settings):
    settings = {
        "ENGINE": "django_tidb",
        "HOST": HOST,
        "PORT": port,
        "USER": "root",
        "OPTIONS": options,
        **settings,
    }
    return ConnectionHandler({"default": settings})["default"]


def ask(statement, *args, **settings):
    connection = open_connection(*args, **settings)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()
    finally:
        connection.close()


def driver_options(options):
    params = open_connection(0, options).get_connection_params()
    return {name: value for name, value in params.items() if name.startswith("ssl")}


class Driver:
    """
    A process that uses one driver, because a process cannot change its driver.
    """

    def __init__(self, name, executor):
        self.name = name
        self._executor = executor

    def call(self, function, *args, **kwargs):
        return self._executor.submit(function, *args, **kwargs).result()

    def cipher(self, server, options, **settings):
        """Return the cipher of a new connection to `server`, or "" for plain text."""
        statement = "SHOW STATUS LIKE 'Ssl_cipher'"
        return self.call(ask, statement, server.port, options, **settings)[1]

    @property
    def checks_every_name(self):
        """
        Whether VERIFY_CA verifies the host name as well. In MariaDB's client library,
        one option switches both checks. The library's versions are 3.x, and those of
        MySQL's library are 8 and above.
        """
        return self.name == "mysqlclient" and self.call(client_version)[0] == "3"


@pytest.fixture(scope="module", params=DRIVERS)
def driver(request):
    name = request.param
    if PathFinder.find_spec(DRIVERS[name]) is None:
        pytest.skip(f"{name} is not installed in this environment.")
    with ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=choose,
        initargs=[name],
    ) as executor:
        yield Driver(name, executor)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority, folder):
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="module")
def other_ca(folder):
    path = folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="module")
def server(another_server, authority, ca, folder):
    """Start a server whose certificate is signed by the CA and has the name HOST."""
    certificate = authority.issue_cert(HOST)
    files = {"ssl-ca": ca}
    for option, blob in {
        "ssl-cert": certificate.cert_chain_pems[0],
        "ssl-key": certificate.private_key_pem,
    }.items():
        files[option] = str(folder / f"{option}.pem")
        blob.write_to_path(files[option])
    config = "".join(f"{name} = {json.dumps(path)}\n" for name, path in files.items())
    with another_server(f"[security]\n{config}") as server:
        yield server


@pytest.fixture(scope="module")
def auto_server(another_server, folder):
    """Start a server that creates a self-signed certificate."""
    storage = json.dumps(str(folder))
    config = f"tmp-storage-path = {storage}\n[security]\nauto-tls = true\n"
    with another_server(config) as server:
        if TiDBVersion.parse(server.version) < (5, 2):
            pytest.skip(f"TiDB 5.1 has no auto-tls. {DOCUMENTATION}")
        yield server


@pytest.fixture(scope="module")
def auto_ca(auto_server, folder):
    """Return the path of the self-signed certificate of `auto_server`."""
    (path,) = folder.rglob("tmp-storage/cert.pem")
    return str(path)


@pytest.fixture(scope="module")
def plain_server(tidb_server):
    if tidb_server.log is None:
        pytest.skip("TIDB_HOST names a server, which may have TLS.")
    return tidb_server


def options(mode, ca):
    return {"ssl_mode": mode, "ssl": {"ca": ca}}


def test_documented_options(driver, server, ca, other_ca):
    (block,) = re.findall(
        r"^```python\n# settings.py\n([^`]*ssl_mode[^`]*)```$",
        README.read_text(),
        re.MULTILINE,
    )
    scope = {"DATABASES": {"default": {}}}
    exec(block, scope)  # noqa: S102
    documented = scope["DATABASES"]["default"]["OPTIONS"]
    assert documented["ssl_mode"] == "VERIFY_IDENTITY"
    documented["ssl"]["ca"] = ca
    assert driver.cipher(server, documented)
    documented["ssl"]["ca"] = other_ca
    with pytest.raises(OperationalError):
        driver.cipher(server, documented)


@pytest.mark.parametrize("mode", VERIFY)
def test_wrong_ca(driver, server, other_ca, mode):
    with pytest.raises(OperationalError) as error:
        driver.cipher(server, options(mode, other_ca))
    text = str(error.value)
    assert "unable to get local issuer certificate" in text
    assert "'default'" in text
    assert repr(mode) in text
    assert other_ca in text


@pytest.mark.parametrize("mode", VERIFY)
def test_without_ca_those_of_the_system_count(driver, server, mode):
    with pytest.raises(OperationalError, match=f"certificate.*{mode}"):
        driver.cipher(server, {"ssl_mode": mode})


def test_wrong_host(driver, server, ca):
    with pytest.raises(OperationalError) as error:
        driver.cipher(server, options("VERIFY_IDENTITY", ca), HOST=OTHER_HOST)
    assert re.search("certificate.*'VERIFY_IDENTITY'", str(error.value))
    assert repr(OTHER_HOST) in str(error.value)
    verify_ca = options("VERIFY_CA", ca)
    assert driver.cipher(server, verify_ca)
    if driver.checks_every_name:
        with pytest.raises(OperationalError, match=r"certificate.*'VERIFY_CA'"):
            driver.cipher(server, verify_ca, HOST=OTHER_HOST)
    else:
        assert driver.cipher(server, verify_ca, HOST=OTHER_HOST)


@pytest.mark.parametrize("key", ["ca", "cert", "key"])
def test_missing_file(driver, ca, key):
    files = {"ca": ca, key: "/nowhere/file.pem"}
    with pytest.raises(ImproperlyConfigured) as error:
        driver.call(driver_options, {"ssl_mode": "VERIFY_CA", "ssl": files})
    assert str(error.value) == (
        f"DATABASES['default']['OPTIONS']['ssl'][{key!r}] is '/nowhere/file.pem': "
        "No such file or directory."
    )


def test_file_that_is_no_certificate(driver, server, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("not a certificate")
    with pytest.raises((ImproperlyConfigured, OperationalError)) as error:
        driver.cipher(server, options("VERIFY_CA", str(path)))
    assert "'default'" in str(error.value)
    assert str(path) in str(error.value)


def test_path_object(driver, server, ca, other_ca):
    assert driver.cipher(server, options("VERIFY_IDENTITY", Path(ca)))
    with pytest.raises(OperationalError, match=re.escape(other_ca)):
        driver.cipher(server, options("VERIFY_IDENTITY", Path(other_ca)))


@pytest.mark.parametrize("mode", ["verify_ca", "", None, ["REQUIRED"]])
def test_unknown_mode(driver, mode):
    with pytest.raises(ImproperlyConfigured) as error:
        driver.call(driver_options, {"ssl_mode": mode})
    assert str(error.value) == (
        f"DATABASES['default']['OPTIONS']['ssl_mode'] is {mode!r}; it must be one of "
        "'DISABLED', 'PREFERRED', 'REQUIRED', 'VERIFY_CA', 'VERIFY_IDENTITY'."
    )


def test_required(driver, server):
    assert driver.cipher(server, {"ssl_mode": "REQUIRED"}, HOST=OTHER_HOST)


def test_disabled(driver, server):
    assert driver.cipher(server, {"ssl_mode": "DISABLED"}) == ""


def test_preferred(driver, server, plain_server):
    assert driver.cipher(plain_server, {"ssl_mode": "PREFERRED"}) == ""
    # Without other TLS options, MariaDB's client library connects in plain text.
    cipher = driver.cipher(server, {"ssl_mode": "PREFERRED"})
    assert bool(cipher) != driver.checks_every_name


@pytest.mark.parametrize("mode", ["REQUIRED", *VERIFY])
@pytest.mark.parametrize("with_ca", [True, False])
def test_server_without_tls(driver, plain_server, ca, mode, with_ca):
    asked = options(mode, ca) if with_ca else {"ssl_mode": mode}
    with pytest.raises(OperationalError, match=r"TLS|SSL") as error:
        driver.cipher(plain_server, asked)
    assert error.value.args[0] == 2026
    assert f"'default' to {HOST!r} asks for ssl_mode {mode!r}" in str(error.value)


def test_no_options(driver, server, plain_server):
    assert driver.call(driver_options, {}) == {}
    assert driver.cipher(plain_server, {}) == ""
    driver.cipher(server, {})


def test_other_errors_stay(driver, server):
    settings = {"USER": "nobody", "PASSWORD": "wrong"}
    with pytest.raises(OperationalError, match="Access denied") as error:
        driver.cipher(server, {"ssl_mode": "REQUIRED"}, **settings)
    assert "ssl_mode" not in str(error.value)


def test_client_certificate(driver, server, authority, ca, tmp_path):
    user = f"with_certificate_{driver.name}"
    root = options("VERIFY_IDENTITY", ca)
    driver.call(ask, f"CREATE USER {user} REQUIRE X509", server.port, root)
    with pytest.raises(OperationalError, match="Access denied"):
        driver.cipher(server, root, USER=user)
    certificate = authority.issue_cert("client@example.com")
    files = {"ca": ca, "cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    asked = {"ssl_mode": "VERIFY_IDENTITY", "ssl": files}
    assert driver.cipher(server, asked, USER=user)


def test_auto_tls(driver, auto_server, auto_ca, ca):
    assert driver.cipher(auto_server, {"ssl_mode": "REQUIRED"})
    with pytest.raises(OperationalError, match="self-signed certificate"):
        driver.cipher(auto_server, options("VERIFY_CA", ca))
    with pytest.raises(OperationalError, match="certificate"):
        driver.cipher(auto_server, options("VERIFY_IDENTITY", auto_ca))
    verify_ca = options("VERIFY_CA", auto_ca)
    if driver.checks_every_name:
        with pytest.raises(OperationalError, match="certificate"):
            driver.cipher(auto_server, verify_ca)
    else:
        assert driver.cipher(auto_server, verify_ca)


def test_auto_tls_with_identity(driver, auto_server, auto_ca):
    name = socket.gethostname()
    try:
        socket.create_connection((name, auto_server.port)).close()
    except OSError as error:
        pytest.skip(
            "A certificate of auto-tls has the machine's name alone, and the server "
            f"listens on {HOST}, which is not what {name} means here: {error}. "
            f"{DOCUMENTATION}"
        )
    for mode in VERIFY:
        assert driver.cipher(auto_server, options(mode, auto_ca), HOST=name)


# Options of one driver


def test_options_of_a_driver_stay(driver, server, ca):
    native = {
        "mysqlclient": [{"ssl": {"ca": ca}}, options("VERIFY_IDENTITY", ca)],
        "pymysql": [
            {"ssl": {"ca": ca, "check_hostname": False, "verify_mode": "required"}},
            {"ssl_ca": ca, "ssl_verify_cert": True, "ssl_verify_identity": True},
            {"ssl_disabled": True},
        ],
    }
    for asked in native[driver.name]:
        assert driver.call(driver_options, asked) == asked
        assert bool(driver.cipher(server, asked)) != ("ssl_disabled" in asked)


with_pymysql = pytest.mark.parametrize("driver", ["pymysql"], indirect=True)


def context_of(options):
    context = driver_options(options)["ssl"]
    # Python 3.13 sets VERIFY_X509_STRICT by default.
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    return context.verify_mode, context.check_hostname


@with_pymysql
@pytest.mark.parametrize(
    ("mode", "files", "expected"),
    [
        ("REQUIRED", {}, (ssl.CERT_NONE, False)),
        # With a CA in the options, the certificate is verified against it.
        ("REQUIRED", {"capath": "/"}, (ssl.CERT_REQUIRED, False)),
        ("VERIFY_CA", {}, (ssl.CERT_REQUIRED, False)),
        # PyMySQL would not verify the host name with its own options.
        ("VERIFY_IDENTITY", {}, (ssl.CERT_REQUIRED, True)),
    ],
)
def test_pymysql_context(driver, mode, files, expected):
    asked = {"ssl_mode": mode, "ssl": files}
    assert driver.call(context_of, asked) == expected


def times_that_cas_are_read(port, options):
    """
    Return how often two connections load the CA certificates of the system, which is
    slow.
    """
    with mock.patch("ssl.SSLContext.load_default_certs", autospec=True) as read:
        for _ in range(2):
            with contextlib.suppress(OperationalError):
                ask("SELECT 1", port, options)
    return read.call_count


@with_pymysql
def test_pymysql_does_not_read_unneeded_cas(driver, server, plain_server, ca):
    for asked, times in [
        ({}, 0),
        ({"ssl_mode": "PREFERRED"}, 0),
        ({"ssl_mode": "REQUIRED"}, 0),
        (options("VERIFY_CA", ca), 0),
        # No other test has these options, so no context is cached for them.
        ({"ssl_mode": "VERIFY_CA", "ssl": {"cipher": "ECDHE+AESGCM"}}, 1),
    ]:
        assert driver.call(times_that_cas_are_read, server.port, asked) == times
        if not times:
            assert driver.call(times_that_cas_are_read, plain_server.port, asked) == 0


def calls_of_connect(port):
    import pymysql

    with mock.patch.object(pymysql, "connect", wraps=pymysql.connect) as connect:
        ask("SELECT 1", port, {})
    return connect.call_count


@with_pymysql
def test_a_replaced_connect_of_pymysql_is_called(driver, plain_server):
    assert driver.call(calls_of_connect, plain_server.port) == 1


def contexts(options, path, text):
    """Return whether contexts are reused before and after a change of `path`."""
    before = [driver_options(options)["ssl"] for _ in range(2)]
    path.write_text(text)
    os.utime(path, ns=(0, 0))
    return before[0] is before[1], before[0] is driver_options(options)["ssl"]


@with_pymysql
def test_pymysql_reads_a_certificate_that_changed(driver, ca, other_ca, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text(Path(ca).read_text())
    asked = options("VERIFY_IDENTITY", str(path))
    text = Path(other_ca).read_text()
    assert driver.call(contexts, asked, path, text) == (True, False)


@with_pymysql
@pytest.mark.parametrize(
    "asked",
    [
        {"ssl_ca": "ca.pem", "ssl_verify_cert": True},
        {"ssl": {"verify_mode": "none"}},
        {"ssl": True},
    ],
)
def test_ssl_mode_with_options_of_pymysql(driver, asked):
    with pytest.raises(ImproperlyConfigured) as error:
        driver.call(driver_options, {"ssl_mode": "VERIFY_IDENTITY", **asked})
    text = str(error.value)
    assert "DATABASES['default']['OPTIONS'] has 'ssl_mode'" in text
    assert "'ca', 'capath', 'cert', 'key', 'cipher'" in text
    assert any(repr(word) in text for word in (*asked, *asked.values()))


@with_pymysql
def test_unknown_cipher(driver):
    asked = {"ssl_mode": "REQUIRED", "ssl": {"cipher": "rot13"}}
    with pytest.raises(ImproperlyConfigured, match=r"'rot13'.*No cipher"):
        driver.call(driver_options, asked)


def test_several_servers(driver, server, plain_server, ca):
    """With several servers in HOST, the name of the connected server is verified."""
    asked = options("VERIFY_IDENTITY", ca)
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        dead = f"{HOST}:{closed.getsockname()[1]}"
        right, wrong = (f"{host}:{server.port}" for host in (HOST, OTHER_HOST))
        assert driver.cipher(server, asked, HOST=f"{dead},{right}")
        with pytest.raises(OperationalError, match="VERIFY_IDENTITY"):
            driver.cipher(server, asked, HOST=f"{dead},{wrong}")
        # A server without TLS causes an error; the next server is not tried.
        with pytest.raises(OperationalError, match="VERIFY_IDENTITY"):
            driver.cipher(server, asked, HOST=f"{dead},{HOST}:{plain_server.port}")


# The client that dbshell starts; test_client.py tests the options of MySQL's client


@pytest.fixture
def shell(capfd, django_db_blocker):
    """Return a function that returns the cipher of a dbshell, or "" for plain text."""
    for name in ("mysql", "mariadb"):
        if shutil.which(name):
            break
    else:
        pytest.skip("Neither MySQL's client nor MariaDB's is installed here.")

    def shell(server, options, **settings):
        connection = open_connection(server.port, options, NAME="", **settings)
        statement = "SHOW STATUS LIKE 'Ssl_cipher'"
        capfd.readouterr()
        connection.client.runshell(["--batch", "-N", f"--execute={statement}"])
        assert connection.connection is None
        return capfd.readouterr().out.split("\t")[1].strip()

    # The shells connect to other servers than the server of the test database.
    with django_db_blocker.unblock():
        yield shell


def test_shell(shell, server, plain_server, ca):
    assert shell(server, {"ssl_mode": "DISABLED", "ssl": {"ca": ca}}) == ""
    assert shell(server, {"ssl_mode": "PREFERRED"})
    assert shell(plain_server, {"ssl_mode": "PREFERRED"}) == ""
    assert shell(server, {"ssl_mode": "REQUIRED"})
    assert shell(server, options("REQUIRED", ca))
    assert shell(server, options("VERIFY_IDENTITY", ca))


@pytest.mark.parametrize("mode", ["REQUIRED", *VERIFY])
def test_shell_never_goes_on_in_plain_text(shell, plain_server, ca, mode):
    for asked in ({"ssl_mode": mode}, options(mode, ca)):
        with pytest.raises((OperationalError, CalledProcessError)):
            shell(plain_server, asked)


@pytest.mark.parametrize("mode", VERIFY)
def test_shell_with_a_wrong_ca(shell, server, other_ca, mode):
    with pytest.raises(CalledProcessError):
        shell(server, options(mode, other_ca))
    # Without a CA in the options, the client trusts the system's CAs or no CA.
    with pytest.raises(CalledProcessError):
        shell(server, {"ssl_mode": mode})


def test_shell_with_a_wrong_host(shell, server, ca):
    with pytest.raises(CalledProcessError):
        shell(server, options("VERIFY_IDENTITY", ca), HOST=OTHER_HOST)


def test_shell_with_capath(shell, server, ca, other_ca, tmp_path):
    for path, folder in ((ca, tmp_path / "right"), (other_ca, tmp_path / "wrong")):
        folder.mkdir()
        shutil.copy(path, folder)
        subprocess.run(["openssl", "rehash", folder], check=True)
    asked = {"ssl_mode": "VERIFY_IDENTITY", "ssl": {"capath": tmp_path / "right"}}
    assert shell(server, asked)
    asked["ssl"]["capath"] = tmp_path / "wrong"
    with pytest.raises(CalledProcessError):
        shell(server, asked)


def test_shell_with_a_cipher(shell, server):
    # The option has no effect on the ciphers of TLS 1.3.
    with pytest.raises(CalledProcessError):
        shell(server, {"ssl_mode": "PREFERRED", "ssl": {"cipher": "rot13"}})


def test_shell_with_a_client_certificate(shell, server, authority, ca, tmp_path):
    root = options("VERIFY_IDENTITY", ca)
    ask("CREATE USER with_certificate_shell REQUIRE X509", server.port, root)
    certificate = authority.issue_cert("client@example.com")
    files = {"ca": ca, "cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    asked = {"ssl_mode": "VERIFY_IDENTITY", "ssl": files}
    assert shell(server, asked, USER="with_certificate_shell")
    with pytest.raises(CalledProcessError):
        shell(server, root, USER="with_certificate_shell")
