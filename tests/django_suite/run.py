"""
Run Django's own test suite on a TiDB: ``hatch run suite:run --help``.

This script downloads Django's sdist, makes an environment with this checkout's
django-tidb-core, starts a server and runs the tests of all folders that need
neither GIS nor PostgreSQL. Sdists and environments are kept in
``~/.cache/django-tidb/suite``, which can be deleted at any time.

The exit status is 0 if all tests had the expected results, 1 if a test failed or
succeeded unexpectedly, and 2 if the tests could not be run. The summary is a JSON
file with these entries:

``run``, ``passed``, ``failed``, ``errors``, ``skipped``,
``expected_failures``, ``unexpected_successes``
    The numbers of tests, as unittest counts them. Each failing subtest counts as a
    failure.
``unexpected``
    The tests that failed or passed unexpectedly, each with the last lines of its
    traceback.
``expected_failing_tests``
    The names of the tests that failed as expected.
``skips_by_reason``
    The number of tests that were skipped for each reason.
``seconds_of_setup``, ``seconds_of_tests``
    The time that the creation of the test databases took, and that of the tests.
``django``, ``python``, ``server``, ``collation``, ``backend``, ...
    The versions and settings with which the tests were run.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.integration.mariadb import MariaDBError, find_program, running_mariadb
from tests.tidbserver.launcher import (
    DEFAULT_VERSION,
    RELEASES,
    LauncherError,
    cache_directory,
    running_server,
)

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
CORE = CHECKOUT / "packages" / "django-tidb-core"

#: The release of each Django series that is run, and the Pythons it supports.
DJANGOS = {
    "4.2": ("4.2.30", ">=3.10,<3.13"),
    "5.0": ("5.0.14", ">=3.10,<3.13"),
    "5.1": ("5.1.15", ">=3.10,<3.14"),
    "5.2": ("5.2.19", ">=3.10,<3.14"),
    "6.0": ("6.0.10", ">=3.12,<3.14"),
    "6.1": ("6.1.3", ">=3.12,<3.14"),
}

# Requirements in Django's tests/requirements/py3.txt that are not installed: clients of
# services that are not available here, and the libraries of GIS.
LEFT_OUT = ("geoip2", "pylibmc", "pywatchman", "redis", "selenium")

# The tests of Django before 5.2 were written for these releases; with later releases,
# some tests fail on every database.
OF_THEIR_TIME = ("asgiref<3.9", "tblib<3.1")

# Without this setting, TiDB allows only some functions in an expression index:
# https://docs.pingcap.com/tidb/stable/sql-statement-create-index#expression-index
TIDB_CONFIG = """\
[experimental]
allow-expression-index = true
"""
# Transactions are pessimistic by default on clusters. On a single server without a
# cluster, they are optimistic by default before TiDB 7:
# https://docs.pingcap.com/tidb/stable/pessimistic-transaction
TIDB_TRANSACTION_MODE_SQL = "SET GLOBAL tidb_txn_mode = 'pessimistic'"
# TiDB has CHECK constraints from 7.2 on, if this variable is set:
# https://docs.pingcap.com/tidb/stable/constraints#check
TIDB_CHECK_CONSTRAINTS_SQL = "SET GLOBAL tidb_enable_check_constraint = ON"
WITHOUT_CHECK_CONSTRAINTS = ("6.1.1", "5.1")

# With the schema cache of TiDB 8.0 and later, each query for the list of tables
# reads the definitions of all 1,700 tables from the storage:
# https://docs.pingcap.com/tidb/stable/schema-cache
TIDB_WITHOUT_SCHEMA_CACHE_SQL = "SET GLOBAL tidb_schema_cache_size = 0"
WITH_SCHEMA_CACHE = ("8.5.6",)

# The capabilities of root that are dropped, because tests of file permissions fail with
# them.
ROOT_CAPABILITIES = "-dac_override,-dac_read_search,-fowner"


class SuiteError(Exception):
    """The tests could not be run."""


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    # The tests start a server with this configuration and these variables, so ignore a
    # running server.
    for name in ("TIDB_HOST", "TIDB_PORT", "TIDB_USER", "TIDB_PASSWORD"):
        os.environ.pop(name, None)
    summary = arguments.summary.absolute()
    summary.unlink(missing_ok=True)
    try:
        release, pythons = DJANGOS[arguments.django]
        with _locked(cache_directory() / "suite"):
            source = _source(release)
            python = _environment(
                source, release, arguments.python or pythons, arguments.driver
            )
        with _mariadb() if arguments.mariadb else _tidb(arguments) as environment:
            environment |= {
                "DJANGO_SUITE_SUMMARY": str(summary),
                "PYTHONPATH": str(HERE),
            }
            status = _run(python, source, environment, arguments)
    except (LauncherError, MariaDBError, SuiteError) as error:
        _say(f"suite: {error}")
        return 2
    if not summary.exists():
        _say(f"suite: Django's tests ended with status {status} before the last test.")
        return 2
    return _report(json.loads(summary.read_text()), summary)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="suite", description="Run Django's own test suite on a TiDB."
    )
    parser.add_argument(
        "--django",
        choices=DJANGOS,
        default="5.2",
        help="the line of Django (default: %(default)s)",
    )
    parser.add_argument(
        "--tidb",
        choices=RELEASES,
        default=DEFAULT_VERSION,
        help="the server (default: %(default)s)",
    )
    parser.add_argument(
        "--mariadb",
        action="store_true",
        help="Django's mysql backend on the machine's MariaDB, for comparison",
    )
    parser.add_argument(
        "--driver",
        choices=["mysqlclient", "pymysql"],
        default="mysqlclient",
        help="(default: %(default)s)",
    )
    parser.add_argument(
        "--python",
        metavar="V",
        help="the Python to take, such as 3.12 (default: one that this "
        "Django and we support)",
    )
    parser.add_argument(
        "--apps",
        nargs="+",
        default=[],
        metavar="TESTS",
        help="folders of Django's tests, or dotted names of tests (default: all)",
    )
    parser.add_argument(
        "--parallel",
        type=int,
        default=1,
        metavar="N",
        help="processes, each with a clone of the databases (default: %(default)s)",
    )
    parser.add_argument(
        "--collation",
        help="of the test databases (default: the server's)",
    )
    parser.add_argument(
        "--summary",
        type=Path,
        default=Path("django-suite.json"),
        metavar="FILE",
        help="the JSON file to write (default: %(default)s)",
    )
    parser.add_argument(
        "--verbosity",
        type=int,
        choices=range(4),
        default=1,
        help="of Django's runner (default: %(default)s)",
    )
    return parser


# The sources and environments


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _source(release: str) -> Path:
    """Return the folder of Django's sdist, which is downloaded once."""
    directory = cache_directory() / "suite" / f"django-{release}"
    if directory.exists():
        return directory
    with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
        _call(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            # The tests may run with another Python than this script, so ignore its
            # version here.
            *("--ignore-requires-python", "--no-binary", "Django"),
            *("--dest", temporary, f"Django=={release}"),
        )
        (archive,) = Path(temporary).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            # The first releases of Python 3.10 and 3.11 have no extraction filters.
            if hasattr(tarfile, "data_filter"):
                tar.extractall(temporary, filter="data")
            else:
                tar.extractall(temporary)  # noqa: S202
        archive.unlink()
        (unpacked,) = (path for path in Path(temporary).iterdir() if path.is_dir())
        unpacked.rename(directory)
    return directory


def _environment(source: Path, release: str, python: str, driver: str) -> Path:
    """
    Return the Python of an environment with Django from `source`, the requirements of
    Django's tests, the driver, and django-tidb-core from this checkout.
    """
    requirements = _requirements(source)
    if release < "5.2":
        requirements += OF_THEIR_TIME
    key = hashlib.sha256(
        f"{CHECKOUT} {python} {driver} {requirements}".encode()
    ).hexdigest()[:12]
    directory = cache_directory() / "suite" / f"venv-{release}-{key}"
    executable = directory / "bin" / "python"
    # This file is written last, so that an interrupted installation is repeated.
    complete = directory / "complete"
    if not complete.exists():
        path = os.pathsep.join([os.environ["PATH"], *_pyenv_directories()])
        uv = ("uv", "--quiet")
        _call(
            *(*uv, "venv", "--clear", "--python", python, str(directory)),
            env={**os.environ, "PATH": path},
        )
        _call(
            *(*uv, "pip", "install", "--python", str(executable)),
            *(f"Django=={release}", *requirements),
            *("--editable", f"{CORE}[{driver}]"),
        )
        complete.touch()
    return executable


def _requirements(source: Path) -> list[str]:
    lines = (source / "tests" / "requirements" / "py3.txt").read_text().splitlines()
    return [
        # sys.platform is an old name of the marker sys_platform, which not every tool
        # knows.
        line.replace("sys.platform", "sys_platform")
        for line in lines
        if line.strip() and not line.startswith(("#", *LEFT_OUT))
    ]


def _pyenv_directories() -> list[str]:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return [str(path) for path in sorted(root.glob("versions/*/bin"), reverse=True)]


def _call(*command: str, **kwargs: Any) -> None:
    try:
        subprocess.run(command, check=True, **kwargs)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SuiteError(error) from error


# The servers


@contextlib.contextmanager
def _tidb(arguments: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Yield the variables for suite_settings.py and suite_runner.py."""
    with running_server(arguments.tidb, config=TIDB_CONFIG) as server:
        settings = {
            "ENGINE": "django_tidb",
            "HOST": server.host,
            "PORT": server.port,
            "USER": server.user,
            "PASSWORD": server.password,
            "OPTIONS": {"rebuild_tables": True, "drop_unsupported_db_defaults": True},
        }
        set_up = [TIDB_TRANSACTION_MODE_SQL]
        if arguments.tidb not in WITHOUT_CHECK_CONSTRAINTS:
            set_up.append(TIDB_CHECK_CONSTRAINTS_SQL)
        if arguments.tidb in WITH_SCHEMA_CACHE:
            set_up.append(TIDB_WITHOUT_SCHEMA_CACHE_SQL)
        yield _variables(settings, set_up, arguments.collation)


@contextlib.contextmanager
def _mariadb() -> Iterator[dict[str, str]]:
    """
    Start a MariaDB, and yield the same variables as _tidb(), with which the tests use
    Django's MySQL backend.
    """
    programs = {}
    for name in ("mariadb-install-db", "mariadbd", "mariadb", "mariadb-tzinfo-to-sql"):
        programs[name] = find_program(name)
        if programs[name] is None:
            raise SuiteError(
                f"There is no {name} on this machine; Debian's package is "
                "mariadb-server."
            )
    with running_mariadb(programs["mariadb-install-db"], programs["mariadbd"]) as found:
        time_zones = subprocess.run(
            [programs["mariadb-tzinfo-to-sql"], "/usr/share/zoneinfo"],
            capture_output=True,
            check=True,
        ).stdout
        _call(
            *(programs["mariadb"], "--no-defaults", "--user=root"),
            *(f"--socket={found.settings['HOST']}", "mysql"),
            input=time_zones,
        )
        yield _variables(found.settings, [], None)


def _variables(
    settings: dict[str, Any], set_up: list[str], collation: str | None
) -> dict[str, str]:
    if collation is not None:
        settings = {**settings, "TEST": {"COLLATION": collation}}
    databases = {
        "default": {**settings, "NAME": "django"},
        "other": {**settings, "NAME": "django2"},
    }
    return {
        "DJANGO_SUITE_DATABASES": json.dumps(databases),
        "DJANGO_SUITE_SET_UP_SQL": json.dumps(set_up),
    }


# The run


def _run(
    python: Path,
    source: Path,
    environment: dict[str, str],
    arguments: argparse.Namespace,
) -> int:
    command = [
        *(str(python), "runtests.py", "--settings=suite_settings", "--noinput"),
        f"--parallel={arguments.parallel}",
        f"--verbosity={arguments.verbosity}",
        *arguments.apps,
    ]
    if os.geteuid() == 0:
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--bounding-set", ROOT_CAPABILITIES, *command]
        else:
            _say(
                "suite: as root, and without setpriv of util-linux, the tests of "
                "file permissions fail."
            )
    return subprocess.run(
        command, cwd=source / "tests", env={**os.environ, **environment}
    ).returncode


def _report(summary: dict[str, Any], path: Path) -> int:
    counts = ("run", "passed", "failed", "errors", "skipped", "expected_failures")
    for name in (*counts, "unexpected_successes"):
        print(f"{name.replace('_', ' '):>22} {summary[name]}")
    print(f"{'summary':>22} {path}")
    return 1 if summary["unexpected"] else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
