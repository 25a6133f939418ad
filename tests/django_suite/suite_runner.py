"""Django's test runner, with a summary of the run as JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import django
from django.db import connection
from django.test.runner import DiscoverRunner

# The number of lines at the end of a traceback that the summary keeps.
LAST_LINES = 4


class SuiteRunner(DiscoverRunner):
    """
    Write the summary that run.py describes after the last test. The variable
    DJANGO_SUITE_SUMMARY names the file.
    """

    def setup_databases(self, **kwargs):
        # The variable contains statements only if the server was started for this run.
        statements = json.loads(os.environ["DJANGO_SUITE_SET_UP_SQL"])
        with connection._nodb_cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        start = time.monotonic()
        databases = super().setup_databases(**kwargs)
        self._setup_seconds = time.monotonic() - start
        return databases

    def run_suite(self, suite, **kwargs):
        start = time.monotonic()
        result = super().run_suite(suite, **kwargs)
        seconds = time.monotonic() - start
        summary = {
            **_versions(),
            "parallel": self.parallel,
            "seconds_of_setup": round(self._setup_seconds, 1),
            "seconds_of_tests": round(seconds, 1),
            **_outcome(result),
        }
        path = Path(os.environ["DJANGO_SUITE_SUMMARY"])
        path.write_text(json.dumps(summary, indent=1) + "\n")
        return result


def _versions():
    # The parallel test processes have closed this inherited connection.
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("SELECT VERSION(), @@collation_database")
        server, collation = cursor.fetchone()
    return {
        "django": django.get_version(),
        "backend": connection.settings_dict["ENGINE"],
        "django_tidb": _installed("django-tidb-core"),
        "python": platform.python_version(),
        "mysqlclient": _installed("mysqlclient"),
        "pymysql": _installed("pymysql"),
        "server": server,
        "collation": collation,
    }


def _installed(distribution):
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _outcome(result):
    failing = [
        {"test": test.id(), "kind": kind, "last_lines": _tail(traceback)}
        for kind, found in (("failure", result.failures), ("error", result.errors))
        for test, traceback in found
    ]
    failing += [
        {"test": test.id(), "kind": "unexpected success", "last_lines": []}
        for test in result.unexpectedSuccesses
    ]
    counts = {
        "failed": len(result.failures),
        "errors": len(result.errors),
        "skipped": len(result.skipped),
        "expected_failures": len(result.expectedFailures),
        "unexpected_successes": len(result.unexpectedSuccesses),
    }
    return {
        "run": result.testsRun,
        # unittest counts a test once, however many of its subtests fail;
        # the tests with no other outcome have passed.
        "passed": result.testsRun
        - counts["skipped"]
        - counts["expected_failures"]
        - len({_whole_test(entry["test"]) for entry in failing}),
        **counts,
        "unexpected": sorted(failing, key=lambda entry: entry["test"]),
        "expected_failing_tests": sorted(t.id() for t, _ in result.expectedFailures),
        "skips_by_reason": dict(
            Counter(reason for _, reason in result.skipped).most_common()
        ),
    }


def _whole_test(identifier):
    # The id of a subtest is the name of its test followed by its parameters.
    return identifier.partition(" ")[0]


def _tail(traceback):
    lines = [line for line in traceback.splitlines() if line.strip()]
    return [line[:500] for line in lines[-LAST_LINES:]]
