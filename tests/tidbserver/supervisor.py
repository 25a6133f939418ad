"""
Run programs that end with the process that started them, even if this process is
killed.

A Supervisor is a separate process, so it survives the end of the process for which it
works. It executes this file without the rest of the project, so this module needs only
the standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

# The interval in seconds at which programs are asked whether they answer or have
# ended.
POLL_INTERVAL = 0.05
# Timeouts in seconds. On an idle machine a tidb-server takes two to three seconds
# to start, and two to stop; on two cores with a load of 50 it took more than 60.
START_TIMEOUT = 300.0
STOP_TIMEOUT = 300.0


class LauncherError(Exception):
    """A program could not be found, built, started or reached."""


class NoAnswer(LauncherError):
    """A program did not answer in time."""


class PortTaken(LauncherError):
    """Another process has begun to listen on a port that we chose."""


def tail(text: str, lines: int = 20, width: int = 400) -> str:
    """Return the last `lines` lines of `text`, each cut to `width` characters."""
    return "\n".join(line[:width] for line in text.rstrip().splitlines()[-lines:])


def wait_for(
    ask: Callable[[], T],
    address: str,
    timeout: float,
    check: Callable[[], None] = lambda: None,
) -> T:
    """
    Return the result of `ask` as soon as `ask` raises no OSError.

    `check` is called before each attempt, and raises an error if waiting is useless.
    Raises NoAnswer, which names `address`, after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        check()
        try:
            return ask()
        except OSError as error:
            if time.monotonic() > deadline:
                raise NoAnswer(
                    f"{address} did not answer within {timeout:g} s: {error}"
                ) from error
        time.sleep(POLL_INTERVAL)


class Supervisor:
    """
    A child process that runs programs, and kills them when its parent process ends.

    The supervisor does so even if the parent is ended by kill -9. `directory` belongs
    to the supervisor, which removes the directory when it ends. All threads of the
    parent may send requests to the supervisor.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._errors = directory / "supervisor"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", str(Path(__file__).resolve())),
                    *(str(self._owner), str(directory)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=directory,
                # Ctrl-C must reach only the parent, which then ends the supervisor.
                start_new_session=True,
            )

    def request(self, action: str, name: str, **arguments: Any) -> Any:
        """Have the supervisor do `action`, and return its answer.

        `action` is the name of a method of _Programs. Raises LauncherError if
        the action fails or the supervisor has ended.
        """
        line = json.dumps({"action": action, "name": name, **arguments})
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            try:
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()
                answer = self._process.stdout.readline()
            except OSError:
                answer = b""
        if not answer:
            said = ""
            with contextlib.suppress(OSError):
                said = "\n" + tail(self._errors.read_text(errors="replace"))
            raise LauncherError(
                f"The supervisor of {name} in {self.directory} has ended.{said}"
            )
        result, error = json.loads(answer)
        if error is not None:
            raise LauncherError(error)
        return result

    def end(self) -> None:
        """Kill the programs and remove the directory."""
        # A forked child must not end the programs of its parent.
        if os.getpid() != self._owner:
            return
        assert self._process.stdin is not None and self._process.stdout is not None
        # close() flushes the buffer, in which an unwritten request may be left.
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        # The directory is still there if the supervisor was killed.
        shutil.rmtree(self.directory, ignore_errors=True)


class Process:
    """A program under a supervisor, which can be started again.

    `directory` must exist and is its working directory. The files `output` and
    `pid` are written there. `ask` makes one attempt to reach the program at
    `address`, and raises OSError as long as there is no answer. `logs` are the
    files that are quoted, with the output, when something goes wrong.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        name: str,
        directory: Path,
        command: Iterable[str | Path],
        *,
        address: str,
        ask: Callable[[], Any],
        logs: Sequence[Path] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self._supervisor = supervisor
        self._directory = directory
        self._command = [str(word) for word in command]
        self._ask = ask
        self._logs = [*logs, directory / "output"]
        self._environ = dict(environ or {})

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        return int((self._directory / "pid").read_text())

    @property
    def is_running(self) -> bool:
        running: bool = self._supervisor.request("is_running", self.name)
        return running

    def start(self, timeout: float = START_TIMEOUT) -> Any:
        """Start the program, and return its answer: launch() and wait()."""
        self.launch()
        return self.wait(timeout)

    def launch(self) -> None:
        """Start the program; do not wait until it answers."""
        self._supervisor.request(
            "start",
            self.name,
            command=self._command,
            directory=str(self._directory),
            environ=self._environ,
        )

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless the program has ended."""
        self._supervisor.request("send_signal", self.name, signum=int(signum))

    def stop(self, signum: int = signal.SIGTERM, timeout: float = STOP_TIMEOUT) -> None:
        """Send `signum` and wait until the program has ended.

        Raises LauncherError if it has not after `timeout` seconds.
        """
        self.send_signal(signum)
        deadline = time.monotonic() + timeout
        while self.is_running:
            if time.monotonic() > deadline:
                raise LauncherError(
                    f"{self.name} at {self.address} did not end within {timeout:g} s "
                    f"of {signal.Signals(signum).name}."
                )
            time.sleep(POLL_INTERVAL)

    def kill(self) -> None:
        """Kill the program as kill -9 does, and wait until it has ended."""
        self.stop(signal.SIGKILL)

    def wait(self, timeout: float = START_TIMEOUT) -> Any:
        """Return the answer of the program as soon as there is one.

        Raises PortTaken if it has ended because its port is taken, and
        LauncherError if it has ended for another reason, or does not answer
        within `timeout` seconds.
        """
        try:
            return wait_for(self._ask, self.address, timeout, self.check)
        except NoAnswer as error:
            raise LauncherError(f"{error}\n{self._said()}") from error

    def check(self) -> None:
        """Raise PortTaken or another LauncherError if the program has ended."""
        status = self._supervisor.request("poll", self.name)
        if status is None:
            return
        ending = f"{self._command[0]} exited with status {status}.\n{self._said()}"
        if "address already in use" in ending.lower():
            raise PortTaken(ending)
        raise LauncherError(ending)

    def _said(self) -> str:
        texts = []
        for path in self._logs:
            if path.exists():
                text = tail(path.read_text(errors="replace"))
                texts.append(f"The end of its {path.name}:\n{text}")
        return "\n".join(texts)


# The code that runs in the process of a supervisor


class _Programs:
    """The programs of one supervisor; the public methods are the requests."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, command: list[str], directory: str, environ: dict[str, str]
    ) -> None:
        if self.is_running(name):
            pid = self._running[name].pid
            raise ValueError(f"it runs already, as process {pid}.")
        folder = Path(directory)
        with (folder / "output").open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                # Programs keep temporary files, and some all their data, in TMPDIR.
                env={**os.environ, "TMPDIR": directory, **environ},
                preexec_fn=_die_with_parent(),
            )
        self._running[name] = process
        # Replace the file atomically, because another process may read it at the same
        # time.
        new = folder / "pid.new"
        new.write_text(str(process.pid))
        new.replace(folder / "pid")

    def is_running(self, name: str) -> bool:
        return name in self._running and self._running[name].poll() is None

    def poll(self, name: str) -> int | None:
        return self._running[name].poll()

    def send_signal(self, name: str, signum: int) -> None:
        self._running[name].send_signal(signum)

    def _kill_all(self) -> None:
        # Kill the programs: a graceful shutdown takes much longer, and the data are
        # removed anyway.
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.wait()


def _answer(programs: _Programs, line: bytes) -> bytes:
    request = json.loads(line)
    action, name = request.pop("action"), request.pop("name")
    result, error = None, None
    try:
        result = getattr(programs, action)(name, **request)
    except (OSError, ValueError) as exception:
        error = f"{name}: {exception}"
    except KeyError:
        error = f"{name} has not been started."
    return json.dumps([result, error]).encode() + b"\n"


def _supervise(parent: int, directory: Path) -> None:
    """Take requests until `parent` ends or closes our stdin; then clean up."""

    def stop(signum: int, frame: object) -> None:
        sys.exit(128 + signum)

    signals = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    for signum in signals:
        signal.signal(signum, stop)
    programs = _Programs()
    requests = sys.stdin.fileno()
    received = b""
    try:
        # Forked children of the parent may hold the other end of the pipe
        # open, hence the second condition.
        while True:
            readable = select.select([requests], [], [], 0.2)[0]
            if os.getppid() != parent:
                break
            if not readable:
                continue
            chunk = os.read(requests, 1 << 16)
            if not chunk:
                break
            *lines, received = (received + chunk).split(b"\n")
            for line in lines:
                sys.stdout.buffer.write(_answer(programs, line))
                sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The parent has ended while it waited for the answer.
        return
    finally:
        for signum in signals:
            signal.signal(signum, signal.SIG_IGN)
        programs._kill_all()
        shutil.rmtree(directory, ignore_errors=True)


def _die_with_parent() -> Callable[[], None] | None:
    """Return a preexec_fn that makes a process die with its parent, or None."""
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
        if os.getppid() != parent:  # the parent died before the call
            os._exit(1)

    return arrange


if __name__ == "__main__":
    _supervise(int(sys.argv[1]), Path(sys.argv[2]))
