"""Run a TiDB cluster for as long as it is needed.

The cluster consists of PD, one store that speaks TiKV's protocol, any number of
tidb-servers and optionally HAProxy in front of them, all on 127.0.0.1. See
README.md beside this file.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.tidbserver.launcher import (
    DEFAULT_VERSION,
    LOOPBACK,
    RELEASES,
    START_ATTEMPTS,
    Binary,
    Program,
    Server,
    built,
    find_binary,
    free_port,
    no_free_port,
    read_handshake,
    server_command,
)
from tests.tidbserver.supervisor import (
    START_TIMEOUT,
    LauncherError,
    PortTaken,
    Process,
    Supervisor,
)

# Debian installs HAProxy in this folder, which is only on root's PATH.
SYSTEM_COMMANDS = "/usr/sbin"
# The release of the whole cluster.
RELEASE = RELEASES[DEFAULT_VERSION]
# The store is compiled from packages of TiDB, so it shares the server's Go module.
STORE = Program(
    name="unistore-server",
    version=RELEASE.version,
    folder=RELEASE.folder,
    package="django-tidb.invalid/tidbserver/unistore-server",
    toolchain=RELEASE.toolchain,
    tag=RELEASE.tag,
    tag_variable=RELEASE.tag_variable,
    sources=("unistore-server/main.go",),
)
# PD has its own Go module, because its etcd is older than the server's.
PD = Program(
    name="pd-server",
    version=RELEASE.version,
    folder="pd",
    package="github.com/tikv/pd/cmd/pd-server",
    toolchain=RELEASE.toolchain,
    tag=RELEASE.tag,
    tag_variable="github.com/tikv/pd/pkg/versioninfo.PDReleaseVersion",
    tags="without_dashboard",
)

# With only one store there is nothing to schedule. The intervals are short, because
# the only member of a PD cluster need not wait for others.
PD_CONFIG = """\
lease = 3
tick-interval = "100ms"
election-interval = "500ms"

[replication]
max-replicas = 1

[schedule]
leader-schedule-limit = 0
region-schedule-limit = 0
replica-schedule-limit = 0
merge-schedule-limit = 0
hot-region-schedule-limit = 0
"""

# A tidb-server locks its folder for temporary data. Each server has its own folder, so
# that it does not find the lock of another server that is still ending. Batched
# commands are off (max-batch-size = 0), because the store does not answer them and the
# server would wait for the answers for ever.
SERVER_CONFIG = """\
split-table = false
skip-register-to-dashboard = true
tmp-storage-path = "{directory}/tmp-storage"

[tikv-client]
max-batch-size = 0
"""

# The first server runs these statements when it sets up the cluster. The store does
# not ingest files of index entries, so the fast ADD INDEX would be retried for ever.
# With async commit and one-phase commit, concurrent reads would see half a
# transaction.
INITIAL_SQL = """\
SET GLOBAL tidb_enable_dist_task = OFF;
SET GLOBAL tidb_ddl_enable_fast_reorg = OFF;
SET GLOBAL tidb_enable_async_commit = OFF;
SET GLOBAL tidb_enable_1pc = OFF;
"""

# A killed server refuses connections at once, and HAProxy then chooses another server
# (redispatch). The checks detect a server that is shutting down or does not answer.
# Their timeouts allow for a machine under heavy load, because a server that is marked
# as down by mistake gets no new connections.
PROXY_CONFIG = """\
global
    maxconn 1000

defaults
    mode tcp
    timeout connect 5s
    timeout check 10s
    timeout client 1h
    timeout server 1h
    retries 3
    option redispatch

listen tidb
    bind {address}
    balance leastconn
    option httpchk GET /status
    default-server check inter 2s fastinter 1s fall 3 rise 1
{servers}
"""


@dataclass(frozen=True)
class Binaries:
    """The programs of a cluster, except for HAProxy."""

    server: Binary
    store: Path
    pd: Path


def find_binaries() -> Binaries:
    """Return the programs of a cluster. Missing programs are built.

    find_binary() finds the tidb-server. Raises GoMissing if a program has to
    be built and there is no Go, and LauncherError if a build fails.
    """
    server = find_binary(RELEASE.version, along=[STORE])
    return Binaries(server, built(STORE), built(PD))


def find_proxy() -> Path:
    """Return HAProxy. Raises LauncherError if it is not installed."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), SYSTEM_COMMANDS])
    found = shutil.which("haproxy", path=path)
    if found is None:
        raise LauncherError(
            f"HAProxy was found neither on PATH nor in {SYSTEM_COMMANDS}. On Debian "
            "and Ubuntu: sudo apt-get install haproxy"
        )
    return Path(found)


class ClusterServer(Process):
    """A tidb-server of a cluster."""

    def __init__(
        self,
        supervisor: Supervisor,
        name: str,
        folder: Path,
        binary: Path,
        flags: Mapping[str, str],
        config: str,
    ) -> None:
        config_file = folder / "config.toml"
        config_file.write_text(SERVER_CONFIG.format(directory=folder) + config)
        self.port = free_port()
        self.status_port = free_port()
        super().__init__(
            supervisor,
            name,
            folder,
            server_command(
                binary,
                folder,
                self.port,
                {"-store": "tikv", "-advertise-address": LOOPBACK, **flags},
                status_port=self.status_port,
                config=config_file,
            ),
            address=f"{LOOPBACK}:{self.port}",
            ask=self._ask_for_version,
            logs=[folder / "tidb.log"],
        )

    @property
    def environ(self) -> dict[str, str]:
        """The variables with which another process connects to this server."""
        return _environ(self.port)

    def _ask_for_version(self) -> str:
        _get(self.status_port, "/status")
        return read_handshake(LOOPBACK, self.port)


class Cluster:
    """A running cluster, which running_cluster() starts.

    The programs `pd`, `store`, `servers` and `proxy` (None if there is no
    proxy) can be stopped, killed and started again under the same address. If
    `durable` is true, the store keeps its data when it is stopped. All data
    are removed when the cluster ends.
    """

    def __init__(
        self,
        binaries: Binaries,
        *,
        servers: int,
        proxy: bool,
        durable: bool,
        config: str,
    ) -> None:
        # This raises if HAProxy is missing, before any program is started.
        proxy_binary = find_proxy() if proxy else None
        self._binaries = binaries
        self._config = config
        self.directory = Path(tempfile.mkdtemp(prefix="django-tidb-cluster-"))
        try:
            (self.directory / "initial.sql").write_text(INITIAL_SQL)
            self._supervisor = Supervisor(self.directory)
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        try:
            self.pd = self._pd()
            self.store = self._store(durable)
            self.servers: list[ClusterServer] = []
            for _ in range(servers):
                self._new_server()
            self._proxy_port = free_port()
            self.proxy = self._proxy(proxy_binary) if proxy_binary else None
        except BaseException:
            self.end()
            raise

    @property
    def port(self) -> int:
        """The port of the proxy, or of the first server if there is no proxy."""
        return self._proxy_port if self.proxy else self.servers[0].port

    @property
    def environ(self) -> dict[str, str]:
        """The variables that point another process at this cluster.

        TIDB_SERVERS has the addresses of all servers, separated by commas.
        """
        servers = ",".join(server.address for server in self.servers)
        return {**_environ(self.port), "TIDB_SERVERS": servers}

    def as_server(self) -> Server:
        """Return the first server in the form that running_server() yields."""
        first = self.servers[0]
        return Server(
            host=LOOPBACK,
            port=first.port,
            user="root",
            password="",
            version=read_handshake(LOOPBACK, first.port),
            origin=self._binaries.server.origin,
            log=self.directory / first.name / "tidb.log",
            process=first,
        )

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start everything that does not run, and wait until it answers.

        Raises LauncherError if a program has not answered after `timeout`
        seconds.
        """
        for process in (self.pd, self.store):
            if not process.is_running:
                process.start(timeout)
        stopped = [server for server in self.servers if not server.is_running]
        # Servers that initialize the cluster together slow each other down: 27 seconds
        # instead of 3. So start one server alone at first.
        for server in stopped[:1]:
            server.start(timeout)
        for server in stopped[1:]:
            server.launch()
        for server in stopped[1:]:
            server.wait(timeout)
        if self.proxy is not None and not self.proxy.is_running:
            self.proxy.start(timeout)

    def add_server(self, timeout: float = START_TIMEOUT) -> ClusterServer:
        """Start one more server.

        If there is a proxy, it is restarted with a configuration that contains the
        new server, and loses its connections.
        """
        server = self._new_server()
        server.start(timeout)
        if self.proxy is not None:
            self._write_proxy_config()
            self.proxy.kill()
            self.proxy.start(timeout)
        return server

    def stop(self) -> None:
        """Stop everything with SIGTERM; start() starts it again."""
        for server in self.servers:
            if server.is_running:
                server.send_signal(signal.SIGTERM)
        for process in (*self.servers, self.proxy, self.store, self.pd):
            if process is not None and process.is_running:
                process.stop()

    def end(self) -> None:
        """Kill everything and remove the data."""
        self._supervisor.end()

    def _folder(self, name: str) -> Path:
        folder = self.directory / name
        folder.mkdir()
        return folder

    def _pd(self) -> Process:
        folder = self._folder("pd")
        config = folder / "config.toml"
        config.write_text(PD_CONFIG)
        client, peer = free_port(), free_port()
        self._pd_address = f"{LOOPBACK}:{client}"
        log = folder / "pd.log"
        return Process(
            self._supervisor,
            "pd",
            folder,
            [
                *(self._binaries.pd, "--name", "pd", "--config", config),
                *("--data-dir", folder / "data"),
                *("--client-urls", f"http://{self._pd_address}"),
                *("--peer-urls", f"http://{LOOPBACK}:{peer}"),
                *("--log-file", log, "-L", "error"),
            ],
            address=self._pd_address,
            ask=lambda: _get(client, "/pd/api/v1/health"),
            logs=[log],
        )

    def _store(self, durable: bool) -> Process:
        folder = self._folder("store")
        (folder / "data").mkdir()
        port, status = free_port(), free_port()
        return Process(
            self._supervisor,
            "store",
            folder,
            [
                *(self._binaries.store, "-pd", self._pd_address),
                *("-addr", f"{LOOPBACK}:{port}"),
                *("-status-addr", f"{LOOPBACK}:{status}"),
                *("-data-dir", folder / "data"),
                *(["-durable"] if durable else []),
            ],
            address=f"{LOOPBACK}:{port}",
            ask=lambda: _get(status, "/"),
        )

    def _new_server(self) -> ClusterServer:
        name = f"tidb-{len(self.servers) + 1}"
        folder = self._folder(name)
        server = ClusterServer(
            self._supervisor,
            name,
            folder,
            self._binaries.server.path,
            {
                "-path": self._pd_address,
                "-initialize-sql-file": str(self.directory / "initial.sql"),
            },
            self._config,
        )
        self.servers.append(server)
        return server

    def _proxy(self, binary: Path) -> Process:
        folder = self._folder("proxy")
        self._write_proxy_config()
        return Process(
            self._supervisor,
            "haproxy",
            folder,
            [binary, "-db", "-f", folder / "haproxy.cfg"],
            address=f"{LOOPBACK}:{self._proxy_port}",
            ask=lambda: read_handshake(LOOPBACK, self._proxy_port),
        )

    def _write_proxy_config(self) -> None:
        lines = (
            f"    server {server.name} {server.address} port {server.status_port}"
            for server in self.servers
        )
        text = PROXY_CONFIG.format(
            address=f"{LOOPBACK}:{self._proxy_port}", servers="\n".join(lines)
        )
        (self.directory / "proxy" / "haproxy.cfg").write_text(text)


@contextlib.contextmanager
def running_cluster(
    binaries: Binaries | None = None,
    *,
    servers: int = 2,
    proxy: bool = False,
    durable: bool = False,
    config: str = "",
    timeout: float = START_TIMEOUT,
) -> Iterator[Cluster]:
    """Yield a cluster whose programs answer. The cluster ends with the block.

    The cluster also ends if this process ends in another way, even by kill -9.

    `binaries` is the result of find_binaries(), which is called if `binaries`
    is None. `timeout` is the number of seconds that each program may take to
    answer. Cluster describes `durable`. `config` is the text of a TiDB
    configuration file (TOML) for the servers, without [tikv-client]. Raises
    LauncherError, of which GoMissing is a subclass.
    """
    if servers < 1:
        raise ValueError(f"servers is {servers!r}; a cluster has at least one.")
    if proxy:
        find_proxy()  # before a build, which takes minutes
    binaries = binaries or find_binaries()
    for attempt in range(1, START_ATTEMPTS + 1):
        cluster = Cluster(
            binaries, servers=servers, proxy=proxy, durable=durable, config=config
        )
        try:
            try:
                cluster.start(timeout)
            except PortTaken as error:
                if attempt == START_ATTEMPTS:
                    raise no_free_port(error) from error
                continue
            yield cluster
            return
        finally:
            cluster.end()


def _environ(port: int) -> dict[str, str]:
    return {
        "TIDB_HOST": LOOPBACK,
        "TIDB_PORT": str(port),
        "TIDB_USER": "root",
        "TIDB_PASSWORD": "",
    }


def _get(port: int, path: str) -> None:
    """GET a page. Raises OSError if there is no such page."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except http.client.HTTPException as error:
        raise ConnectionError(f"GET {path}: {error!r}") from error
    finally:
        connection.close()
    if status != 200:
        raise ConnectionError(f"GET {path} answered {status}")
