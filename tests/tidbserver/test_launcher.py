from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.tidbserver import cluster, launcher
from tests.tidbserver.launcher import (
    DEFAULT_VERSION,
    RELEASES,
    GoMissing,
    LauncherError,
    find_binary,
    running_server,
)
from tests.tidbserver.supervisor import Process, Supervisor

LAUNCHER = Path(launcher.__file__)
ROOT = LAUNCHER.parents[2]
RELEASE = RELEASES[DEFAULT_VERSION]
VARIABLES = ("TIDB_HOST", "TIDB_PORT", "TIDB_USER", "TIDB_PASSWORD", "TIDB_VERSION")
DEADLINE = 300  # seconds within which something that is ending must have ended


def write_command(path, script):
    """Write a shell script as a command; it runs with the system's PATH."""
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}")
    path.chmod(0o755)
    return path


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # In a container there may be no init process that reaps zombies.
    status = Path(f"/proc/{pid}/status")
    return not (status.exists() and "State:\tZ" in status.read_text())


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "deadline passed"
        time.sleep(0.05)


def server_pid(server):
    return int((server.log.parent / "pid").read_text())


@pytest.fixture(scope="module")
def binary():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TIDB_VERSION", DEFAULT_VERSION)
        return find_binary()


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Return the only directory on PATH, which is empty; the cache is empty too."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "commands"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TIUP_HOME", str(tmp_path / "tiup"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return directory


@pytest.fixture
def on_path(commands, binary, monkeypatch, tmp_path):
    """Put the real server on PATH; return the folder for its temporary files."""
    (commands / "tidb-server").symlink_to(binary.path)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return temporary


@pytest.fixture(scope="module")
def server(binary, tmp_path_factory):
    directory = tmp_path_factory.mktemp("commands")
    (directory / "tidb-server").symlink_to(binary.path)
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name in VARIABLES:
                monkeypatch.delenv(name, raising=False)
            monkeypatch.setenv("PATH", str(directory))
            server = stack.enter_context(running_server())
        yield server


def launch(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, LAUNCHER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def run_launcher(*arguments):
    with launch(*arguments) as process:
        output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


# A shell command that waits for a signal.
CATCHING = "trap 'echo caught; exit 5' {}; echo ready; while :; do sleep 0.1; done"


class TestReleases:
    def test_one_for_each_module(self):
        modules = {path.parent.name for path in LAUNCHER.parent.glob("*/go.mod")}
        assert modules == {*RELEASES, cluster.PD.folder}

    def test_binary_name_follows_what_is_built(self, monkeypatch, tmp_path):
        monkeypatch.setattr(launcher, "HERE", tmp_path)
        RELEASE.module.mkdir()
        (RELEASE.module / "go.mod").write_text("module one")
        (RELEASE.module / "go.sum").write_text("")
        name = RELEASE.binary_name
        assert name == RELEASE.binary_name
        assert name.startswith("tidb-server-8.5.6-")
        (RELEASE.module / "go.mod").write_text("module two")
        assert RELEASE.binary_name != name

    def test_binary_name_follows_the_sources(self, monkeypatch, tmp_path):
        shutil.copytree(cluster.STORE.module, tmp_path / cluster.STORE.folder)
        monkeypatch.setattr(launcher, "HERE", tmp_path)
        name = cluster.STORE.binary_name
        with (cluster.STORE.module / "unistore-server" / "main.go").open("a") as source:
            source.write("// changed\n")
        assert cluster.STORE.binary_name != name

    def test_unknown_version(self, monkeypatch):
        monkeypatch.setenv("TIDB_VERSION", "4.0")
        with pytest.raises(LauncherError, match=r"no TiDB 4\.0 here\. Versions: 8\.5"):
            find_binary()


class TestDiscovery:
    """The order in which servers are looked for."""

    def fake_server(self, commands, version):
        return write_command(
            commands / "tidb-server", f"echo 'Release Version: {version}' >&2\n"
        )

    def test_path_comes_first(self, commands, capsys):
        path = self.fake_server(commands, "v7.1.0")
        write_command(commands / "tiup", "exit 1")
        assert find_binary().path == path
        assert capsys.readouterr().err == f"TiDB server: v7.1.0 on PATH, {path}\n"

    @pytest.mark.parametrize("by_variable", [True, False])
    def test_requested_version_on_path(self, commands, monkeypatch, by_variable):
        path = self.fake_server(commands, RELEASE.tag)
        if by_variable:
            monkeypatch.setenv("TIDB_VERSION", DEFAULT_VERSION)
        assert find_binary(None if by_variable else DEFAULT_VERSION).path == path

    def test_other_version_on_path_is_passed_over(
        self, commands, binary, tmp_path, capsys
    ):
        path = self.fake_server(commands, "v7.1.0")
        installed = tmp_path / "tiup/components/tidb" / RELEASE.tag / "tidb-server"
        write_command(
            commands / "tiup",
            f'[ "$*" = "install tidb:{RELEASE.tag}" ] || exit 1\n'
            f"mkdir -p {installed.parent} && ln -s {binary.path} {installed}\n",
        )
        assert find_binary(DEFAULT_VERSION).path == installed
        expected = (
            f"TiDB server: {RELEASE.tag} from tiup, {installed} "
            f"(passed over: {path} is v7.1.0, not {RELEASE.tag})\n"
        )
        assert capsys.readouterr().err == expected
        # A server that tiup has installed is not installed again.
        write_command(commands / "tiup", "exit 1")
        assert find_binary(DEFAULT_VERSION).path == installed

    def test_broken_server_on_path_is_passed_over(self, commands, capsys):
        write_command(commands / "tidb-server", "exit 1")
        write_command(commands / "go", FAKE_GO)
        assert find_binary().path.parent.name == "django-tidb"
        assert "-V names no release version)" in capsys.readouterr().err

    def test_failing_tiup_is_passed_over(self, commands, capfd):
        write_command(commands / "tiup", "echo no network; exit 1")
        write_command(commands / "go", FAKE_GO)
        assert find_binary().path.parent.name == "django-tidb"
        errors = capfd.readouterr().err
        assert f"(passed over: tiup install tidb:{RELEASE.tag} failed)" in errors
        assert "no network" in errors

    def test_environment_comes_before_path(self, commands, server, monkeypatch, capsys):
        self.fake_server(commands, "v7.1.0")
        monkeypatch.setenv("TIDB_HOST", "localhost")
        monkeypatch.setenv("TIDB_PORT", str(server.port))
        monkeypatch.setenv("TIDB_PASSWORD", "secret")
        with running_server() as external:
            assert external.environ == {
                "TIDB_HOST": "localhost",
                "TIDB_PORT": str(server.port),
                "TIDB_USER": "root",
                "TIDB_PASSWORD": "secret",
            }
            assert external.version == server.version
            assert external.log is None
        assert capsys.readouterr().err == (
            f"TiDB server: the one at localhost:{server.port}, from TIDB_HOST\n"
        )
        # A server that was not started here is not ended.
        assert is_running(server_pid(server))

    def test_unreachable_environment(self, monkeypatch):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            monkeypatch.setenv("TIDB_HOST", "127.0.0.1")
            monkeypatch.setenv("TIDB_PORT", str(port))
            status, _, errors = run_launcher("run", "--timeout", "0.2", "--", "true")
        assert status == 1
        assert f"127.0.0.1:{port} did not answer within 0.2 s" in errors
        assert "Traceback" not in errors

    def test_not_a_mysql_server(self, monkeypatch):
        monkeypatch.setenv("TIDB_HOST", "127.0.0.1")
        with socket.create_server(("127.0.0.1", 0)) as other:
            other.settimeout(DEADLINE)
            port = other.getsockname()[1]
            monkeypatch.setenv("TIDB_PORT", str(port))
            with launch("run", "--", "true") as process:
                connection, _ = other.accept()
                with connection:
                    connection.sendall(b"\4\0\0\0SSH-")
                _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 1
        assert f"127.0.0.1:{port} does not speak the MySQL protocol" in errors

    @pytest.mark.parametrize("port", ["mysql", "0", "65536"])
    def test_bad_port(self, monkeypatch, port):
        monkeypatch.setenv("TIDB_HOST", "127.0.0.1")
        monkeypatch.setenv("TIDB_PORT", port)
        with pytest.raises(LauncherError, match=f"TIDB_PORT is '{port}'"):
            running_server().__enter__()

    def test_config_for_an_external_server(self, monkeypatch):
        monkeypatch.setenv("TIDB_HOST", "db.example.com")
        with pytest.raises(LauncherError, match=r"TIDB_HOST is 'db\.example\.com'"):
            running_server(config="[security]\nauto-tls = true\n").__enter__()

    def test_nothing_works(self, commands):
        write_command(commands / "go", "echo go version go1.20.14 linux/amd64")
        status, output, errors = run_launcher("build")
        assert status == 1
        assert output == ""
        assert "Traceback" not in errors
        for way in (
            f"{launcher.GO_WHEEL} could not be installed",
            "1. A server that runs already",
            f"docker run --rm -p 127.0.0.1:4000:4000 pingcap/tidb:{RELEASE.tag}",
            "TiDB Cloud",
            "2. A tidb-server on PATH",
            "3. tiup",
            "4. Go 1.21 or newer",
        ):
            assert way in errors


# A fake go that appends its calls to the file `calls` and builds a copy of itself.
FAKE_GO = """
echo "$1" >>"$(dirname "$0")/calls"
case $1 in
version) echo go version go1.21.0 linux/amd64 ;;
list) echo go: downloading example.com/one v1.0.0 >&2; echo example.com/one ;;
build)
    sleep "${FAKE_GO_SLEEP:-0}"
    while [ "$1" != -o ]; do shift; done
    cp "$0" "$2" ;;
esac
"""


class TestBuild:
    def files(self, tmp_path):
        return sorted(path.name for path in (tmp_path / "cache/django-tidb").iterdir())

    def calls(self, commands):
        return (commands / "calls").read_text().split()

    def test_built_once(self, commands, tmp_path, capsys):
        write_command(commands / "go", FAKE_GO)
        built = find_binary()
        assert built.path == tmp_path / "cache/django-tidb" / RELEASE.binary_name
        assert os.access(built.path, os.X_OK)
        assert self.files(tmp_path) == ["build.lock", RELEASE.binary_name]
        assert self.calls(commands) == ["version", "list", "build"]
        progress, origin = capsys.readouterr().err.splitlines()
        assert progress == (
            f"Building TiDB {DEFAULT_VERSION}: 1 modules downloaded, 0:00"
        )
        assert origin == (
            f"TiDB server: {RELEASE.tag} built from tests/tidbserver/{DEFAULT_VERSION},"
            f" {built.path}"
        )
        assert find_binary() == built
        assert self.calls(commands) == ["version", "list", "build"]

    def test_programs_of_one_module(self, commands, tmp_path):
        copies = 'for name in tidb-server unistore-server; do cp "$0" "$2/$name"; done'
        write_command(commands / "go", FAKE_GO.replace('cp "$0" "$2"', copies))
        server = find_binary(DEFAULT_VERSION, along=[cluster.STORE])
        store = launcher.built(cluster.STORE)
        assert server.path.name == RELEASE.binary_name
        assert store.name == cluster.STORE.binary_name
        assert self.files(tmp_path) == [
            "build.lock",
            *sorted((server.path.name, store.name)),
        ]
        assert self.calls(commands) == ["version", "list", "build"]

    def test_program_without_go(self, commands):
        write_command(commands / "go", "echo go version go1.20.14 linux/amd64")
        with pytest.raises(GoMissing, match="pd-server cannot be built: no Go on PATH"):
            launcher.built(cluster.PD)

    def test_program_that_does_not_compile(self, commands):
        write_command(
            commands / "go",
            "case $1 in\n"
            "version) echo go version go1.26.1 linux/amd64 ;;\n"
            "build) echo undefined: x >&2; exit 1 ;;\n"
            "esac\n",
        )
        with pytest.raises(LauncherError) as raised:
            launcher.built(cluster.PD)
        assert not isinstance(raised.value, GoMissing)
        assert "go build failed in tests/tidbserver/pd:\nundefined: x" in str(
            raised.value
        )

    def test_two_at_once(self, commands, monkeypatch):
        write_command(commands / "go", FAKE_GO)
        monkeypatch.setenv("FAKE_GO_SLEEP", "1")
        with launch("build") as one, launch("build") as two:
            results = [process.communicate(timeout=DEADLINE) for process in (one, two)]
        assert [one.returncode, two.returncode] == [0, 0]
        assert results[0][0] == results[1][0]
        assert self.calls(commands) == ["version", "list", "build"]
        waiting = [errors for _, errors in results if "waiting for another" in errors]
        assert len(waiting) == 1

    def test_failure(self, commands, tmp_path):
        write_command(
            commands / "go",
            "case $1 in\n"
            "version) echo go version go1.26.1 linux/amd64 ;;\n"
            "build) seq -f 'line %g' 100; echo undefined: x >&2; exit 1 ;;\n"
            "esac\n",
        )
        with pytest.raises(LauncherError) as raised:
            find_binary()
        message = str(raised.value)
        assert f"go build failed in tests/tidbserver/{DEFAULT_VERSION}" in message
        assert "line 100\nundefined: x\n" in message
        assert "line 80\n" not in message
        assert self.files(tmp_path) == ["build.lock"]

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted(self, commands, tmp_path, signum):
        write_command(commands / "go", FAKE_GO.replace("    sleep", "    exec sleep"))
        with launch("build", env={**os.environ, "FAKE_GO_SLEEP": "60"}) as process:
            wait_until(
                lambda: (
                    (commands / "calls").exists() and "build" in self.calls(commands)
                )
            )
            process.send_signal(signum)
            _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 128 + signum
        assert "Traceback" not in errors
        assert self.files(tmp_path) == ["build.lock"]

    def test_leftovers_of_a_killed_build(self, commands, tmp_path):
        write_command(commands / "go", FAKE_GO)
        leftover = tmp_path / "cache/django-tidb/build-killed"
        leftover.mkdir(parents=True)
        find_binary()
        assert self.files(tmp_path) == ["build.lock", RELEASE.binary_name]

    def test_cache_that_cannot_be_written(self, commands, tmp_path):
        (tmp_path / "cache").write_text("a file")
        with pytest.raises(LauncherError, match="cache/django-tidb is not possible"):
            find_binary()

    def test_progress_on_a_terminal(self, commands):
        write_command(commands / "go", FAKE_GO)
        terminal, other_end = pty.openpty()
        with os.fdopen(terminal, "rb", buffering=0) as reader:
            subprocess.run(
                [sys.executable, LAUNCHER, "build"],
                stdout=subprocess.DEVNULL,
                stderr=other_end,
                check=True,
            )
            os.close(other_end)
            shown = b""
            # Linux reports the end of a pseudo-terminal as an error.
            with contextlib.suppress(OSError):
                while chunk := reader.read(4096):
                    shown += chunk
        *progress, last, end = shown.decode().split("\r")
        assert progress[1].startswith(f"Building TiDB {DEFAULT_VERSION}: ")
        assert last.startswith(f"\x1b[KTiDB server: {RELEASE.tag} built from ")
        assert end == "\n"


class TestRunningServer:
    def test_answers(self, server):
        assert server.version.endswith(f"-TiDB-{RELEASE.tag}")
        assert server.environ == {
            "TIDB_HOST": "127.0.0.1",
            "TIDB_PORT": str(server.port),
            "TIDB_USER": "root",
            "TIDB_PASSWORD": "",
        }

    def test_side_by_side_and_then_gone(self, server, on_path, monkeypatch, tmp_path):
        working_directory = tmp_path / "working"
        working_directory.mkdir()
        monkeypatch.chdir(working_directory)
        config = 'server-version = "8.0.11-TiDB-second"\n'
        with running_server(config=config) as second:
            assert second.version == "8.0.11-TiDB-second"
            assert second.port != server.port
            for each in (server, second):
                answer = launcher.read_handshake(each.host, each.port)
                assert answer == each.version
            assert second.log.parent.parent == on_path
            pid = server_pid(second)
            assert is_running(pid)
        assert not is_running(pid)
        assert list(on_path.iterdir()) == []
        assert list(working_directory.iterdir()) == []

    def test_port_that_is_taken(self, server, on_path, monkeypatch):
        free_port = launcher.free_port
        ports = iter([server.port])
        monkeypatch.setattr(
            launcher, "free_port", lambda: next(ports, None) or free_port()
        )
        # A handshake with the port that is taken would succeed, but with the server
        # that has taken it and not with the server that was started.
        handshake = launcher.read_handshake

        def of_ours_only(host, port):
            if port == server.port:
                raise ConnectionRefusedError
            return handshake(host, port)

        monkeypatch.setattr(launcher, "read_handshake", of_ours_only)
        with running_server() as second:
            assert second.port != server.port
        assert list(on_path.iterdir()) == []

    def test_no_free_port(self, on_path, commands, tmp_path):
        (commands / "tidb-server").unlink()
        write_command(
            commands / "tidb-server",
            'case $1 in -V) echo "Release Version: v1"; exit;; -help) exit;; esac\n'
            f"echo start >>{tmp_path}/starts\n"
            "echo listen tcp: bind: address already in use; exit 1\n",
        )
        with pytest.raises(LauncherError, match="No free port was found in 5 attempts"):
            running_server().__enter__()
        assert (tmp_path / "starts").read_text() == "start\n" * 5
        assert list(on_path.iterdir()) == []

    def test_early_exit(self, on_path, commands):
        (commands / "tidb-server").unlink()
        write_command(
            commands / "tidb-server",
            'case $1 in -V) echo "Release Version: v1"; exit;; -help) exit;; esac\n'
            'while [ "$1" != -log-file ]; do shift; done\n'
            'echo "the last line of the log" >"$2"; echo "bad flag" >&2; exit 3\n',
        )
        with pytest.raises(LauncherError) as raised:
            running_server().__enter__()
        message = str(raised.value)
        assert "tidb-server exited with status 3." in message
        assert "The end of its tidb.log:\nthe last line of the log" in message
        assert "The end of its output:\nbad flag" in message
        assert list(on_path.iterdir()) == []

    def test_never_answers(self, on_path, commands):
        (commands / "tidb-server").unlink()
        write_command(
            commands / "tidb-server",
            'case $1 in -V) echo "Release Version: v1"; exit;; -help) exit;; esac\n'
            "echo thinking; exec sleep 60\n",
        )
        with pytest.raises(LauncherError) as raised:
            running_server(timeout=0.5).__enter__()
        assert "did not answer within 0.5 s" in str(raised.value)
        assert "thinking" in str(raised.value)
        assert list(on_path.iterdir()) == []

    def test_free_ports_are_not_given_twice(self):
        ports = [launcher.free_port() for _ in range(50)]
        assert len(set(ports)) == 50


class TestEnd:
    """The server ends with the process that started it, even if it is killed."""

    PROGRAM = """
import os, sys, time
from tests.tidbserver.launcher import running_server
with running_server() as server:
    child = os.fork() if sys.argv[1] == "fork" else 1
    if not child:
        time.sleep(60)
    print(server.log.parent, child, flush=True)
    if sys.argv[1] == "raise":
        raise LookupError
    if sys.argv[1] == "return":
        sys.exit(0)
    time.sleep(60)
"""

    def start(self, ending):
        """Start PROGRAM; return it, the server's pid and that of its child."""
        process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, ending],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        directory, child = process.stdout.readline().split()
        return process, Path(directory), int(child)

    @pytest.mark.parametrize(
        ("ending", "status"), [("return", 0), ("raise", 1)], ids=["return", "raise"]
    )
    def test_of_the_block(self, on_path, ending, status):
        with self.start(ending)[0] as process:
            process.wait(timeout=DEADLINE)
        assert process.returncode == status
        assert list(on_path.iterdir()) == []

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_by_signal(self, on_path, signum):
        process, directory, _ = self.start("wait")
        with process:
            pid = int((directory / "pid").read_text())
            assert is_running(pid)
            process.send_signal(signum)
        wait_until(lambda: not is_running(pid))
        wait_until(lambda: not any(on_path.iterdir()))

    def test_by_kill_while_a_forked_child_lives(self, on_path):
        process, directory, child = self.start("fork")
        try:
            with process:
                pid = int((directory / "pid").read_text())
                process.kill()
                process.stdout.close()
            wait_until(lambda: not is_running(pid))
            wait_until(lambda: not any(on_path.iterdir()))
            assert is_running(child)
        finally:
            os.kill(child, signal.SIGKILL)

    @pytest.mark.skipif(
        sys.platform != "linux",
        reason="Only Linux ends a process with its parent: prctl(2), PR_SET_PDEATHSIG",
    )
    def test_of_the_supervisor(self, on_path):
        with running_server() as server:
            pid = server_pid(server)
            status = Path(f"/proc/{pid}/status").read_text()
            supervisor = int(re.search(r"^PPid:\t(\d+)$", status, re.MULTILINE)[1])
            assert supervisor != os.getpid()
            os.kill(supervisor, signal.SIGKILL)
            wait_until(lambda: not is_running(pid))
        assert list(on_path.iterdir()) == []


class TestRun:
    @pytest.fixture(autouse=True)
    def external(self, server, monkeypatch):
        """Use the running server, since these tests do not depend on who started it."""
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)

    def test_status_and_environment(self, server):
        code = "import os, sys; print(os.environ['TIDB_PORT']); sys.exit(7)"
        status, output, _ = run_launcher("run", "--", sys.executable, "-c", code)
        assert (status, output) == (7, f"{server.port}\n")

    def test_arguments_are_left_alone(self):
        code = "import sys; print(sys.argv[1:])"
        arguments = ["--version", "--", "a 'b' \"c\" $d", ""]
        status, output, _ = run_launcher(
            "run", "--", sys.executable, "-c", code, *arguments
        )
        assert (status, output) == (0, f"{arguments}\n")

    def test_status_of_a_signal(self):
        status, _, _ = run_launcher("run", "--", "sh", "-c", "kill -9 $$")
        assert status == 137

    def test_unknown_command(self):
        status, _, errors = run_launcher("run", "--", "no-such-command")
        assert status == 127
        assert "no-such-command cannot be found" in errors

    @pytest.mark.parametrize("arguments", [["run"], ["run", "--"], ["run", "true"]])
    def test_no_command(self, arguments):
        status, _, errors = run_launcher(*arguments)
        assert status == 2
        assert "usage: " in errors

    def test_interrupt_waits_for_the_command(self):
        script = CATCHING.format("INT")
        with launch("run", "--", "sh", "-c", script, start_new_session=True) as process:
            assert process.stdout.readline() == "ready\n"
            os.killpg(process.pid, signal.SIGINT)
            output, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 5
        assert output == "caught\n"
        assert "Traceback" not in errors

    def test_termination_reaches_the_command(self):
        script = CATCHING.format("TERM")
        with launch("run", "--", "sh", "-c", script) as process:
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            output, _ = process.communicate(timeout=DEADLINE)
        assert process.returncode == 128 + signal.SIGTERM
        assert output == "caught\n"


def test_serve(on_path, commands):
    command = commands / "tidb-server"
    with launch("serve") as process:
        address = process.stdout.readline()
        port = int(re.search(r" listens on 127\.0\.0\.1:(\d+)$", address)[1])
        assert RELEASE.tag in launcher.read_handshake("127.0.0.1", port)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 128 + signal.SIGINT
    assert errors == f"TiDB server: {RELEASE.tag} on PATH, {command}\n"
    assert list(on_path.iterdir()) == []


def test_serve_when_the_server_ends(on_path):
    with launch("serve") as process:
        process.stdout.readline()
        (pid,) = (int(path.read_text()) for path in on_path.glob("*/pid"))
        os.kill(pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "tidb-server exited with status -9." in errors
    assert "Traceback" not in errors
    assert list(on_path.iterdir()) == []


class TestSupervisor:
    @pytest.fixture
    def supervisor(self, tmp_path):
        directory = tmp_path / "supervised"
        directory.mkdir()
        supervisor = Supervisor(directory)
        yield supervisor
        supervisor.end()
        assert not directory.exists()

    def process(self, supervisor, *command):
        def ask():
            raise ConnectionRefusedError("nobody listens")

        return Process(
            supervisor,
            "program",
            supervisor.directory,
            command,
            address="the address",
            ask=ask,
        )

    def test_start_again(self, supervisor):
        process = self.process(supervisor, "sleep", "60")
        assert not process.is_running
        process.launch()
        first = process.pid
        with pytest.raises(LauncherError, match=f"program: it runs .* process {first}"):
            process.launch()
        process.kill()
        assert not process.is_running
        process.launch()
        assert process.is_running
        assert process.pid != first

    def test_command_that_is_not_there(self, supervisor):
        with pytest.raises(LauncherError, match=r"program: .*no-such-command"):
            self.process(supervisor, "no-such-command").launch()

    def test_signal_before_the_start(self, supervisor):
        with pytest.raises(LauncherError, match="program has not been started"):
            self.process(supervisor, "true").stop()

    def test_stop_that_is_ignored(self, supervisor):
        script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
        process = self.process(supervisor, "sh", "-c", script)
        process.launch()
        output = supervisor.directory / "output"
        wait_until(lambda: output.read_text() == "ready\n")
        with pytest.raises(
            LauncherError,
            match=r"program at the address did not end within 0\.2 s of SIGTERM",
        ):
            process.stop(timeout=0.2)
        assert process.is_running

    def test_supervisor_that_was_killed(self, supervisor):
        process = self.process(supervisor, "sleep", "60")
        process.launch()
        supervisor._process.kill()
        supervisor._process.wait()
        with pytest.raises(
            LauncherError, match=r"The supervisor of program in .* ended"
        ):
            process.send_signal(signal.SIGTERM)
