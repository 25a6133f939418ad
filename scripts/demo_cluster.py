#!/usr/bin/env python3
"""Kill one of two TiDB servers while the demo searches and writes.

This script starts the cluster and ends it. The clients connect through HAProxy.
The answer to each search is compared with the answer to the same search at the
beginning. Each write inserts a row with a unique marker. At the end, the rows are
compared with the writes that the servers acknowledged.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples" / "semantic_search")]

import django  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import InterfaceError, OperationalError, connection  # noqa: E402
from django.db.transaction import atomic  # noqa: E402

from tests.markers import problems  # noqa: E402
from tests.tidbserver.cluster import Cluster, running_cluster  # noqa: E402
from tests.tidbserver.launcher import LauncherError  # noqa: E402

if TYPE_CHECKING:
    from search.models import Document

QUESTIONS = (
    "how do I run a migration backwards",
    "show a 404 page when the object does not exist",
    "only logged in users may see this view",
    "cache the output of a view",
)
# The rounds, each of one search and one write, that a client makes in each phase.
ROUNDS = 15
# The seconds within which each phase must have ended.
DEADLINE = 300.0
# The error numbers of a lost connection, from MySQL's client and from PyMySQL: the
# connection was refused, the server has gone away, the connection broke, or the
# connection was closed before.
LOST_CONNECTION = (2003, 2006, 2013, 0)


class DemoError(Exception):
    """A phase of the demo took too long."""


class Log:
    """Lines with the seconds since the start, from all threads."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, text: str) -> None:
        with self._lock:
            print(f"{time.monotonic() - self._start:6.1f} s  {text}", flush=True)


class Client(threading.Thread):
    """A thread that searches and writes until it is told to stop."""

    def __init__(self, number: int, vector: Any, names: dict[int, str], log: Log):
        super().__init__(name=f"client {number}", daemon=True)
        self.question = QUESTIONS[number - 1]
        self.error: BaseException | None = None
        self.rounds = 0
        self.answers: list[list[str]] = []
        self.acknowledged: list[str] = []
        self.unknown: list[str] = []
        self.used: Counter[str] = Counter()  # rounds by server
        self.server: str | None = None  # the server of the connection
        self.longest_pause = 0.0
        self.renew = threading.Event()
        self._stop_asked = threading.Event()
        self._vector = vector
        self._names = names
        self._log = log

    def run(self) -> None:
        try:
            while not self._stop_asked.is_set():
                start = time.monotonic()
                self._round()
                self.longest_pause = max(self.longest_pause, time.monotonic() - start)
                self.rounds += 1
                if self.renew.is_set():
                    # Close the connection, as Django does after CONN_MAX_AGE.
                    self._disconnect()
                    self.renew.clear()
        except BaseException as error:
            self.error = error
        finally:
            connection.close()

    def finish(self) -> None:
        self._stop_asked.set()
        self.join()

    def _round(self) -> None:
        hits = self._repeat("a search", self._search)
        self.answers.append([hit.name for hit in hits])
        marker = f"{self.question} ({self.name}, search {self.rounds + 1})"
        self._repeat("a write", lambda: self._write(marker, hits[0]))
        if self.server is not None:  # the connection may be lost at the end
            self.used[self.server] += 1

    def _search(self) -> list[Document]:
        from search.models import Document

        self._connect()
        return list(Document.objects.nearest(self._vector)[:3])

    def _write(self, marker: str, hit: Document) -> None:
        from search.models import SearchLog

        self._connect()
        inserted = False
        try:
            with atomic():
                SearchLog.objects.create(question=marker, best_hit=hit, milliseconds=0)
                inserted = True
        except (OperationalError, InterfaceError) as error:
            if not inserted or not is_lost_connection(error):
                raise
            # COMMIT was sent, and its outcome is unknown. Another attempt
            # could insert the row twice.
            self.unknown.append(marker)
            self._log(
                f"{self.name}: COMMIT on {self.server} was cut off ({error}). Whether "
                "the row is stored is unknown, so it is not written again."
            )
            self._disconnect()
        else:
            self.acknowledged.append(marker)

    def _repeat(self, what: str, do: Callable[[], Any]) -> Any:
        """Return the result of `do`, which is repeated if the connection is lost."""
        while True:
            try:
                return do()
            except (OperationalError, InterfaceError) as error:
                if not is_lost_connection(error):
                    raise
                self._log(
                    f"{self.name}: {what} on {self.server or 'no server'} was cut off "
                    f"({error}). Nothing is committed, so it is done again."
                )
                self._disconnect()

    def _connect(self) -> None:
        if self.server is None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT @@port")
                self.server = self._names[cursor.fetchone()[0]]

    def _disconnect(self) -> None:
        connection.close()
        self.server = None


def is_lost_connection(error: Exception) -> bool:
    return bool(error.args) and error.args[0] in LOST_CONNECTION


def wait_for_clients(
    clients: list[Client], condition: Callable[[], bool], purpose: str
) -> None:
    """Wait until `condition` holds; raise the error of a client that has ended."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        for client in clients:
            if client.error is not None:
                raise client.error
        if time.monotonic() > deadline:
            raise DemoError(f"It took more than {DEADLINE:g} s until {purpose}.")
        time.sleep(0.02)


def let_run(clients: list[Client], log: Log) -> None:
    """Wait until each client has made its rounds, and log the servers used."""
    target = {client: client.rounds + ROUNDS for client in clients}
    before = sum((client.used for client in clients), Counter())
    wait_for_clients(
        clients,
        lambda: all(client.rounds >= target[client] for client in clients),
        f"each client had made {ROUNDS} rounds",
    )
    used = sum((client.used for client in clients), Counter()) - before
    where = ", ".join(f"{n} on {name}" for name, n in sorted(used.items()))
    log(f"The clients have searched and written: {where}.")


def spread(clients: list[Client], names: Iterable[str]) -> None:
    """Let clients reconnect until every server of `names` is in use."""
    names = set(names)

    def is_spread() -> bool:
        servers = {client.server for client in clients}
        if None in servers or any(client.renew.is_set() for client in clients):
            return False  # some clients are reconnecting
        if names <= servers:
            return True
        for client in clients:
            client.renew.set()
        return False

    wait_for_clients(clients, is_spread, f"{' and '.join(sorted(names))} were in use")


def show(cluster: Cluster, log: Log) -> list[str]:
    """Run the demo on `cluster`; return the problems that were found."""
    from search.embedding import Embedder
    from search.models import DIMENSIONS, Document, SearchLog

    names = {server.port: server.name for server in cluster.servers}
    addresses = ", ".join(f"{s.name} at {s.address}" for s in cluster.servers)
    log(f"The servers: {addresses}. HAProxy in front of them: port {cluster.port}.")
    documents = sorted(Document.objects.values_list("name", "text"))
    embedder = Embedder(documents, DIMENSIONS)
    before = list(SearchLog.objects.values_list("pk", flat=True))
    clients = [
        Client(number, embedder.embed(question), names, log)
        for number, question in enumerate(QUESTIONS, 1)
    ]
    for client in clients:
        client.start()
    try:
        spread(clients, names.values())
        let_run(clients, log)

        victim = cluster.servers[-1]
        log(f"{victim.name} is killed (kill -9).")
        victim.kill()
        let_run(clients, log)

        log(f"{victim.name} is started again.")
        victim.start()
        log(f"{victim.name} answers.")
        spread(clients, names.values())
        let_run(clients, log)
    finally:
        for client in clients:
            client.finish()
    for client in clients:
        if client.error is not None:
            raise client.error

    acknowledged = [marker for client in clients for marker in client.acknowledged]
    unknown = [marker for client in clients for marker in client.unknown]
    new = SearchLog.objects.exclude(pk__in=before)
    stored = list(new.values_list("question", flat=True))
    found = problems(acknowledged, unknown, stored)
    for client in clients:
        other = [answer for answer in client.answers if answer != client.answers[0]]
        if other:
            found.append(
                f"DIFFERENT: {len(other)} of {len(client.answers)} answers to "
                f"{client.question!r} differ from the first."
            )
    searches = sum(len(client.answers) for client in clients)
    log(f"{searches} searches were answered.")
    log(f"{len(acknowledged)} writes were acknowledged, {len(stored)} rows are stored.")
    for marker in unknown:
        state = "is" if marker in stored else "is not"
        log(f"The write of unknown outcome, {marker!r}, {state} stored.")
    pause = max(client.longest_pause for client in clients)
    log(
        f"The longest that a search and its write took was {pause:.1f} s. A server "
        "that is killed leaves locks: see docs/topics/several-servers.md."
    )
    return found


def main() -> int:
    os.environ["DJANGO_SETTINGS_MODULE"] = "semantic_search.settings"
    try:
        with running_cluster(proxy=True) as cluster:
            os.environ.update(cluster.environ)
            django.setup()
            call_command("demo", QUESTIONS[0])
            print()
            log = Log()
            found = show(cluster, log)
            connection.close()
    except (LauncherError, DemoError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    for problem in found:
        log(problem)
    if not found:
        log("Nothing was lost: every acknowledged write is stored, exactly once.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
