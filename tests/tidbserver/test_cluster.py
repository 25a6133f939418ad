"""Test the programs of the cluster, which can be stopped and started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import MySQLdb
import pytest

from tests.faults import connect
from tests.tidbserver import cluster as cluster_module
from tests.tidbserver.cluster import RELEASE, running_cluster
from tests.tidbserver.launcher import LauncherError, free_port
from tests.tidbserver.test_launcher import (
    ROOT,
    is_running,
    launch,
    run_launcher,
    wait_until,
)

# The numbers of MySQL's errors for a lost connection.
LOST_CONNECTION = (2006, 2013)


def execute(server, *statements):
    """Execute statements on a server or a cluster; return the last one's rows."""
    with closing(connect(server.port)) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall()


def processes(cluster):
    everything = [cluster.pd, cluster.store, *cluster.servers, cluster.proxy]
    return [process for process in everything if process is not None]


class TestCluster:
    def test_servers(self, cluster):
        first, second = cluster.servers
        assert cluster.proxy is None
        assert cluster.environ == {
            "TIDB_HOST": "127.0.0.1",
            "TIDB_PORT": str(first.port),
            "TIDB_USER": "root",
            "TIDB_PASSWORD": "",
            "TIDB_SERVERS": f"127.0.0.1:{first.port},127.0.0.1:{second.port}",
        }
        assert second.environ["TIDB_PORT"] == str(second.port)
        for server in cluster.servers:
            ((version, port),) = execute(server, "SELECT VERSION(), @@port")
            assert version.endswith(f"-TiDB-{RELEASE.tag}")
            assert port == server.port

    def test_servers_know_each_other(self, cluster):
        statement = "SELECT TYPE, INSTANCE FROM information_schema.cluster_info"
        known = set(execute(cluster.servers[1], statement))
        assert known == {
            ("pd", cluster.pd.address),
            ("tikv", cluster.store.address),
            *(("tidb", server.address) for server in cluster.servers),
        }

    def test_one_database(self, cluster):
        first, second = cluster.servers
        execute(
            first,
            "CREATE DATABASE seen",
            "CREATE TABLE seen.t (id INT PRIMARY KEY, v INT)",
            "INSERT INTO seen.t VALUES (1, 1)",
        )
        execute(second, "UPDATE seen.t SET v = 2")
        execute(second, "ALTER TABLE seen.t ADD INDEX (v)")
        assert execute(first, "SELECT * FROM seen.t FORCE INDEX (v)") == ((1, 2),)
        execute(second, "DROP DATABASE seen")
        assert execute(first, "SHOW DATABASES LIKE 'seen'") == ()

    def test_no_servers(self, cluster_binaries):
        with pytest.raises(ValueError, match="servers is 0; a cluster has at least"):
            running_cluster(cluster_binaries, servers=0).__enter__()


class TestFaults:
    def test_server_is_killed_and_comes_back(self, fresh_cluster):
        first, second = fresh_cluster().servers
        execute(first, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)")
        with closing(connect(second.port)) as connection:
            cursor = connection.cursor()
            cursor.execute("INSERT INTO d.t VALUES (1)")
            pid = second.pid
            second.kill()
            assert not second.is_running
            with pytest.raises(MySQLdb.OperationalError) as raised:
                cursor.execute("SELECT 1")
        assert raised.value.args[0] in LOST_CONNECTION
        execute(first, "INSERT INTO d.t VALUES (2)")
        assert second.start().endswith(f"-TiDB-{RELEASE.tag}")
        assert second.pid != pid
        assert execute(second, "SELECT id FROM d.t ORDER BY id") == ((1,), (2,))

    def test_server_is_stopped_and_added(self, fresh_cluster):
        cluster = fresh_cluster(servers=1)
        (first,) = cluster.servers
        execute(first, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)")
        added = cluster.add_server()
        assert cluster.servers == [first, added]
        with closing(connect(first.port)) as connection:
            connection.cursor().execute("BEGIN")
            connection.cursor().execute("INSERT INTO d.t VALUES (1)")
            first.stop()
        # The stopped server holds no locks any more, and no longer executes the DDL.
        execute(added, "INSERT INTO d.t VALUES (1)", "ALTER TABLE d.t ADD v INT")
        assert execute(added, "ADMIN SHOW DDL")[0][2] == added.address
        first.start()
        assert execute(first, "SELECT id FROM d.t") == ((1,),)

    def test_pd_is_killed_and_comes_back(self, fresh_cluster):
        cluster = fresh_cluster(servers=1)
        execute(cluster, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)")
        cluster.pd.kill()
        cluster.pd.start()
        execute(cluster, "INSERT INTO d.t VALUES (1)")
        assert execute(cluster, "SELECT id FROM d.t") == ((1,),)

    def test_data_are_kept(self, fresh_cluster):
        cluster = fresh_cluster(servers=1, durable=True)
        execute(
            cluster,
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id INT PRIMARY KEY)",
            "INSERT INTO d.t VALUES (1)",
        )
        cluster.store.kill()
        cluster.store.start()
        execute(cluster, "INSERT INTO d.t VALUES (2)")
        cluster.stop()
        assert [p for p in processes(cluster) if p.is_running] == []
        cluster.start()
        assert execute(cluster, "SELECT id FROM d.t ORDER BY id") == ((1,), (2,))


@pytest.mark.usefixtures("haproxy")
class TestProxy:
    def test_passes_over_a_killed_server(self, fresh_cluster):
        cluster = fresh_cluster(proxy=True)
        first, second = cluster.servers
        assert cluster.port not in (first.port, second.port)

        def port_of(connection):
            cursor = connection.cursor()
            cursor.execute("SELECT @@port")
            return cursor.fetchone()[0]

        # A new connection goes to the server with the fewest connections.
        with (
            closing(connect(cluster.port)) as one,
            closing(connect(cluster.port)) as two,
        ):
            assert {port_of(one), port_of(two)} == {first.port, second.port}
            second.kill()
            (survivor,) = (c for c in (one, two) if is_alive(c))
            assert port_of(survivor) == first.port
        for _ in range(4):
            assert execute(cluster, "SELECT @@port") == ((first.port,),)
        second.start()
        third = cluster.add_server()
        first.kill()
        with (
            closing(connect(cluster.port)) as one,
            closing(connect(cluster.port)) as two,
        ):
            assert {port_of(one), port_of(two)} == {second.port, third.port}


def is_alive(connection):
    try:
        connection.cursor().execute("SELECT 1")
    except MySQLdb.OperationalError as error:
        assert error.args[0] in LOST_CONNECTION
        return False
    return True


def test_no_proxy(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(cluster_module, "SYSTEM_COMMANDS", str(tmp_path / "none"))
    with pytest.raises(LauncherError, match="apt-get install haproxy"):
        running_cluster(proxy=True).__enter__()


class TestStart:
    """Ports that are taken, and programs that do not start."""

    @pytest.fixture
    def temporary(self, monkeypatch, tmp_path):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        yield tmp_path
        assert list(tmp_path.iterdir()) == []

    def test_port_that_is_taken(
        self, cluster, cluster_binaries, temporary, monkeypatch
    ):
        # The first port that is chosen is that of PD.
        ports = iter([cluster.servers[0].port])
        monkeypatch.setattr(
            cluster_module, "free_port", lambda: next(ports, None) or free_port()
        )
        with running_cluster(cluster_binaries, servers=1) as second:
            assert second.pd.address != cluster.servers[0].address
            assert execute(second, "SELECT 1") == ((1,),)

    def test_early_exit(self, cluster_binaries, temporary, monkeypatch):
        monkeypatch.setattr(cluster_module, "PD_CONFIG", "lease = 'long'")
        with pytest.raises(LauncherError) as raised:
            running_cluster(cluster_binaries).__enter__()
        assert re.search(r"pd-server\S* exited with status \d+\.", str(raised.value))
        assert "toml: cannot load TOML value" in str(raised.value)

    def test_never_answers(self, cluster_binaries, temporary):
        with pytest.raises(LauncherError, match=r"did not answer within 0\.01 s"):
            running_cluster(cluster_binaries, timeout=0.01).__enter__()


class TestEnd:
    PROGRAM = """
import time
from tests.tidbserver.cluster import running_cluster
with running_cluster(proxy={proxy}) as cluster:
    processes = [cluster.pd, cluster.store, *cluster.servers, cluster.proxy]
    print(cluster.directory, *(p.pid for p in processes if p), flush=True)
    time.sleep(600)
"""

    @pytest.mark.parametrize("proxy", [False, True], ids=["alone", "proxy"])
    def test_by_kill(self, request, cluster_binaries, proxy):
        if proxy:
            request.getfixturevalue("haproxy")
        program = self.PROGRAM.format(proxy=proxy)
        with subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            directory, *pids = process.stdout.readline().split()
            assert len(pids) == 4 + proxy
            assert all(is_running(int(pid)) for pid in pids)
            process.kill()
        wait_until(lambda: not any(is_running(int(pid)) for pid in pids))
        wait_until(lambda: not Path(directory).exists())


class TestCommand:
    def test_environment_and_status(self, cluster_binaries):
        code = (
            "import os, sys; print(os.environ['TIDB_PORT'], os.environ['TIDB_SERVERS'])"
            "; sys.exit(7)"
        )
        status, output, errors = run_launcher(
            "cluster", "--servers", "3", "--", sys.executable, "-c", code
        )
        assert status == 7, errors
        port, servers = output.split()
        addresses = servers.split(",")
        assert len(set(addresses)) == 3
        assert addresses[0] == f"127.0.0.1:{port}"

    @pytest.mark.parametrize(
        "arguments", [["cluster"], ["cluster", "--"], ["cluster", "--servers", "2"]]
    )
    def test_no_command(self, arguments):
        status, _, errors = run_launcher(*arguments)
        assert status == 2
        assert "usage: " in errors
        assert "give the command to run after --" in errors

    @pytest.mark.parametrize("number", ["0", "-1", "two", "1.5"])
    def test_bad_number_of_servers(self, number):
        status, _, errors = run_launcher("cluster", f"--servers={number}", "--", "true")
        assert status == 2
        assert f"'{number}' must be a whole number from 1" in errors

    def test_termination_reaches_the_command(self, cluster_binaries):
        script = (
            "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
        )
        with launch("cluster", "--servers", "1", "--", "sh", "-c", script) as process:
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM
        assert output == "caught\n"

    def test_paths_of_the_programs(self, cluster_binaries):
        status, output, errors = run_launcher("build-cluster")
        assert status == 0, errors
        paths = [Path(line) for line in output.splitlines()]
        assert paths == [
            cluster_binaries.server.path,
            cluster_binaries.store,
            cluster_binaries.pd,
        ]
        assert all(os.access(path, os.X_OK) for path in paths)
