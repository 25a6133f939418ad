from __future__ import annotations

import os

import pytest
from django.db import connections

from django_tidb import plugins
from django_tidb.known_issues import KNOWN_ISSUES
from tests.tidbserver.launcher import running_server


@pytest.fixture(scope="session")
def tidb_server():
    """A running TiDB, which TIDB_HOST and the other variables point to."""
    with running_server() as server:
        before = dict(os.environ)
        os.environ.update(server.environ)
        yield server
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tidb_server):
    connections["default"].settings_dict.update(
        HOST=tidb_server.host,
        PORT=str(tidb_server.port),
        USER=tidb_server.user,
        PASSWORD=tidb_server.password,
    )


@pytest.fixture(autouse=True)
def _skip_on_known_issues(request):
    for mark in request.node.iter_markers("works"):
        request.getfixturevalue("db")
        issue = KNOWN_ISSUES[mark.args[0]]
        version = connections["default"].tidb_version
        if issue.affects(version, connections["default"].tidb_variables):
            pytest.skip(f"TiDB {version}: {issue.summary} {issue.link}")


@pytest.fixture
def fresh_plugins():
    """The entry points are scanned anew in the test, and again after it."""
    plugins.get_plugins.cache_clear()
    yield
    plugins.get_plugins.cache_clear()
