from __future__ import annotations

import os
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import pytest
from django.db import connections
from hypothesis import HealthCheck, settings

from django_tidb import plugins
from django_tidb.base import DatabaseWrapper
from django_tidb.driver import ensure_driver
from django_tidb.known_issues import all_known_issues
from django_tidb.version import TiDBVersion
from tests import roaming
from tests.tables import isolated_models, model_class, tables_of_models
from tests.tidbserver.cluster import find_binaries, find_proxy, running_cluster
from tests.tidbserver.launcher import GoMissing, LauncherError, running_server

# No test depends on the time that an example takes. Examples share the fixtures of
# their test, such as the connection to the server.
settings.register_profile(
    "tests",
    settings(
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.function_scoped_fixture,
        ],
    ),
)
settings.load_profile("tests")

ensure_driver()

import MySQLdb  # noqa: E402

# Read the variable here, because the fixture tidb_server sets TIDB_HOST too.
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
    """
    Start the cluster of the test mode TIDB_CLUSTER; return it with its Roaming object.
    """
    config = roaming.config(tmp_path_factory.mktemp("certificate"))
    with running_cluster(
        cluster_binaries, servers=ROAMING_SERVERS, config=config
    ) as cluster:
        mode = roaming.Roaming(server.port for server in cluster.servers)
        with mode.installed(DatabaseWrapper):
            yield cluster, mode


@pytest.fixture(scope="session")
def tidb_server(request):
    """Return a running TiDB; set TIDB_HOST and the related variables to point to it."""
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
                # Transactions are pessimistic by default on a cluster, but optimistic
                # on a server before TiDB 7 with embedded storage.
                connection.cursor().execute("SET GLOBAL tidb_txn_mode = 'pessimistic'")
        yield server
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def _stay_on_one_server(request):
    """Keep a test with the marker one_server on the first server of the cluster."""
    if request.node.get_closest_marker("one_server") and ROAMING_SERVERS:
        _, mode = request.getfixturevalue("roaming_cluster")
        with mode.at_home():
            yield
    else:
        yield


@pytest.fixture(scope="session")
def another_server(tidb_server):
    """Return a function that starts one more TiDB with the given configuration."""

    @contextmanager
    def start(config):
        if tidb_server.log is None:
            pytest.skip("TIDB_HOST names a server, so no other one is started.")
        with ExitStack() as stack:
            with pytest.MonkeyPatch.context() as patch:
                # The fixture tidb_server has set TIDB_HOST, with which running_server()
                # would return that server instead of starting another.
                patch.delenv("TIDB_HOST")
                server = stack.enter_context(running_server(config=config))
            yield server

    return start


@pytest.fixture(scope="session")
def cluster_binaries():
    """Return the programs of a cluster; build them if they are missing."""
    if EXTERNAL_HOST:
        pytest.skip("TIDB_HOST names a server, so no cluster is started.")
    try:
        return find_binaries()
    except GoMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def haproxy():
    """Return the path of HAProxy; skip the test if HAProxy is not installed."""
    try:
        return find_proxy()
    except LauncherError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cluster(cluster_binaries):
    """Return a cluster with two servers, for tests that neither stop nor change it."""
    with running_cluster(cluster_binaries) as cluster:
        yield cluster


@pytest.fixture
def fresh_cluster(cluster_binaries):
    """
    Return a function that starts a cluster for this test alone. The test may kill,
    start and add servers. The function takes the options of running_cluster().
    """
    with ExitStack() as stack:

        def start(**options):
            return stack.enter_context(running_cluster(cluster_binaries, **options))

        yield start


@pytest.fixture(scope="session")
def tidb(tidb_server):
    """Return a cursor on the test server, on a connection that Django does not know."""
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
    """Return a separate app registry for the models that the test defines."""
    with isolated_models() as registry:
        yield registry


@pytest.fixture
def make_model(request, isolated_apps):
    """Return the function tests.tables.model_class() with the module of the test."""
    return partial(model_class, module=request.module.__name__)


@pytest.fixture
def create_tables(transactional_db, isolated_apps):
    """
    Return a function that creates the tables of models and drops them after the test.
    """
    with tables_of_models() as create:
        yield create


@pytest.fixture
def check_constraints(tidb, transactional_db):
    """
    Enable CHECK constraints for the test. The value is False if the server does not
    support CHECK constraints.
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
    """Return a cursor in an empty database, which is dropped after the test."""
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
