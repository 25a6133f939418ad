from __future__ import annotations

import os
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import pytest
from django.db import connections

from django_tidb import plugins
from django_tidb.base import DatabaseWrapper
from django_tidb.driver import ensure_driver
from django_tidb.known_issues import all_known_issues
from django_tidb.version import TiDBVersion
from tests import roaming
from tests.tables import isolated_models, model_class, tables_of_models
from tests.tidbserver.cluster import find_binaries, find_proxy, running_cluster
from tests.tidbserver.launcher import GoMissing, LauncherError, running_server

ensure_driver()

import MySQLdb  # noqa: E402

# The fixture tidb_server sets TIDB_HOST too.
EXTERNAL_HOST = os.environ.get("TIDB_HOST")
ROAMING_SERVERS = roaming.servers_wanted()


def _connect(server):
    return MySQLdb.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        charset="utf8mb4",
        autocommit=True,
    )


@pytest.fixture(scope="session")
def roaming_cluster(cluster_binaries, tmp_path_factory):
    """The cluster of the test mode TIDB_CLUSTER, and what moves connections in it."""
    config = roaming.config(tmp_path_factory.mktemp("certificate"))
    with running_cluster(
        cluster_binaries, servers=ROAMING_SERVERS, config=config
    ) as cluster:
        mode = roaming.Roaming(server.port for server in cluster.servers)
        with mode.installed(DatabaseWrapper):
            yield cluster, mode


@pytest.fixture(scope="session")
def tidb_server(request):
    """A running TiDB, which TIDB_HOST and the other variables point to."""
    with ExitStack() as stack:
        if ROAMING_SERVERS:
            cluster, _ = request.getfixturevalue("roaming_cluster")
            server = cluster.as_server()
        else:
            server = stack.enter_context(running_server())
        before = dict(os.environ)
        os.environ.update(server.environ)
        if server.log is not None:
            with closing(_connect(server)) as connection:
                # This is the default on clusters. A server before 7 without a cluster
                # uses optimistic transactions.
                connection.cursor().execute("SET GLOBAL tidb_txn_mode = 'pessimistic'")
        yield server
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def _stay_on_one_server(request):
    """What holds for one server only is tested on the first one."""
    if request.node.get_closest_marker("one_server") and ROAMING_SERVERS:
        _, mode = request.getfixturevalue("roaming_cluster")
        with mode.at_home():
            yield
    else:
        yield


@pytest.fixture(scope="session")
def another_server(tidb_server):
    """A function that starts one more TiDB, with a configuration of its own."""

    @contextmanager
    def start(config):
        if tidb_server.log is None:
            pytest.skip("TIDB_HOST names a server, so no other one is started.")
        with ExitStack() as stack:
            with pytest.MonkeyPatch.context() as patch:
                # The fixture tidb_server has set this variable, so no other server
                # would be started.
                patch.delenv("TIDB_HOST")
                server = stack.enter_context(running_server(config=config))
            yield server

    return start


@pytest.fixture(scope="session")
def cluster_binaries():
    """The programs of a cluster, which are built if need be."""
    if EXTERNAL_HOST:
        pytest.skip("TIDB_HOST names a server, so no cluster is started.")
    try:
        return find_binaries()
    except GoMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def haproxy():
    """The path of HAProxy; without it, the test is skipped."""
    try:
        return find_proxy()
    except LauncherError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cluster(cluster_binaries):
    """A cluster with two servers, for tests that leave them alone."""
    with running_cluster(cluster_binaries) as cluster:
        yield cluster


@pytest.fixture
def fresh_cluster(cluster_binaries):
    """
    A function that starts a cluster for the test alone, which may kill, start
    and add servers. It takes the options of running_cluster().
    """
    with ExitStack() as stack:

        def start(**options):
            return stack.enter_context(running_cluster(cluster_binaries, **options))

        yield start


@pytest.fixture(scope="session")
def tidb(tidb_server):
    """A cursor on the test server, outside of Django."""
    with closing(_connect(tidb_server)) as connection, connection.cursor() as cursor:
        yield cursor


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tidb_server):
    connections["default"].settings_dict.update(
        HOST=tidb_server.host,
        PORT=str(tidb_server.port),
        USER=tidb_server.user,
        PASSWORD=tidb_server.password,
    )


@pytest.fixture
def isolated_apps():
    """Return a registry of apps for the models of the test alone."""
    with isolated_models() as registry:
        yield registry


@pytest.fixture
def make_model(request, isolated_apps):
    """A function that makes a model: see tests.tables.model_class()."""
    return partial(model_class, module=request.module.__name__)


@pytest.fixture
def create_tables(transactional_db, isolated_apps):
    """A function that creates the tables of models. They are dropped after the test."""
    with tables_of_models() as create:
        yield create


@pytest.fixture
def check_constraints(tidb, transactional_db):
    """
    Enable CHECK constraints for the test. The value is False if the server has no
    CHECK constraints.
    """
    tidb.execute("SHOW GLOBAL VARIABLES LIKE 'tidb_enable_check_constraint'")
    found = tidb.fetchone()
    if not found:
        yield False
        return

    def switch(value):
        tidb.execute("SET GLOBAL tidb_enable_check_constraint = %s", [value])
        connection = connections["default"]
        connection.tidb_variables.refresh()
        enabled = connection.features.supports_table_check_constraints
        assert enabled == (value in ("ON", "1"))

    switch("ON")
    yield True
    switch(found[1])


@pytest.fixture
def cursor(transactional_db):
    """A cursor in an empty database, which is dropped after the test."""
    other = connections["default"].copy()
    with other.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS probe")
        cursor.execute("CREATE DATABASE probe")
        cursor.execute("USE probe")
        yield cursor
        cursor.execute("ROLLBACK")
        cursor.execute("DROP DATABASE probe")
    other.close()


@pytest.fixture(autouse=True)
def _skip_on_known_issues(request):
    for mark in request.node.iter_markers("works"):
        cursor = request.getfixturevalue("tidb")
        cursor.execute("SELECT VERSION(), tidb_version()")
        version = TiDBVersion.parse(*cursor.fetchone())
        issue = all_known_issues()[mark.args[0]]
        if issue.affects(version):
            pytest.skip(f"TiDB {version}: {issue.summary} {issue.link}")


@pytest.fixture
def fresh_plugins():
    """Clear the cache of plugins before and after the test."""
    plugins.get_plugins.cache_clear()
    yield
    plugins.get_plugins.cache_clear()
