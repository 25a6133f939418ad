"""Migrations whose server is killed at chosen statements: see README.md."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import Error, connection

from chaos.ledger import LEDGER, SHOP, write_app
from chaos.scenario import Log, execute, set_up
from chaos.traffic import PATIENCE, wait_until
from django_tidb.alteration import Alteration, changes_to
from django_tidb.definition import TableDefinition
from tests.faults import Cut, Direction, How, Proxy
from tests.tidbserver.cluster import Cluster, ClusterServer, running_cluster

NAME = "chaos"
#: More bytes than a statement has.
ALL_OF_IT = 1 << 30
#: ``migrate`` is run so often for one fault at most.
RUNS = 4


class Moment(Enum):
    """The moment at which the server of a statement is killed."""

    SENT = "when the statement has been sent"
    RUNNING = "when its DDL job is in the queue"
    ANSWERED = "when it is answered"


@dataclass(frozen=True)
class Fault:
    """A signal that the server of a statement gets."""

    signum: signal.Signals
    moment: Moment

    def __str__(self) -> str:
        return f"{self.signum.name} {self.moment.value}"


FAULTS = [
    Fault(signum, moment)
    for moment in Moment
    for signum in (signal.SIGTERM, signal.SIGKILL)
]


class Target:
    """
    A cluster and its database, and a proxy in front of each server, through which
    ``migrate`` connects. A server is killed when a chosen statement goes through.
    """

    def __init__(
        self, cluster: Cluster, proxies: list[Proxy], app: str, log: Log
    ) -> None:
        self.cluster = cluster
        self.proxies = proxies
        self.log = log
        self.app = app
        self._restarting = ThreadPoolExecutor(1)
        self._restarted: Future[None] | None = None

    def execute(self, *statements: str) -> tuple[tuple[Any, ...], ...]:
        """Execute statements in the database, on a server that runs."""
        self.wait_for_restart()
        return execute(self.cluster.servers[0], f"USE {NAME}", *statements)

    def wait_for_restart(self) -> None:
        """Wait until the server that was killed last answers again."""
        if self._restarted is not None:
            self._restarted.result()

    @contextlib.contextmanager
    def fault(self, fault: Fault, statement: str, nth: int = 1) -> Iterator[Cut]:
        """
        Cause `fault` once during the block, at the nth statement that begins with
        `statement`. The value says whether that has happened: ``done.is_set()``.
        """
        cuts: list[Cut] = []

        def cause(number: int) -> Callable[[], None]:
            def kill() -> None:
                for cut in cuts:
                    cut.done.set()
                self._kill(number, fault, statement)

            return kill

        for number, proxy in enumerate(self.proxies):
            is_answer = fault.moment is Moment.ANSWERED
            # A server that is killed does not answer. One that gets SIGTERM may.
            is_killed = fault.signum is signal.SIGKILL
            cut = proxy.cut(
                statement,
                Direction.TO_CLIENT if is_answer else Direction.TO_SERVER,
                0 if is_answer else ALL_OF_IT,
                nth,
                How.CLOSE if is_killed else How.PASS,
                cause(number),
            )
            cuts.append(cut)
        yield cuts[0]
        for cut in cuts:
            cut.done.set()

    def _kill(self, number: int, fault: Fault, statement: str) -> None:
        self.wait_for_restart()
        server = self.cluster.servers[number]
        if fault.moment is Moment.RUNNING:
            other = self.cluster.servers[number - 1]
            self._wait_for_job(other, statement)
        self.log(f"{server.name} gets {fault}: {statement[:100]}")
        server.send_signal(fault.signum)
        if fault.signum is signal.SIGKILL:
            server.stop(fault.signum)
        self._restarted = self._restarting.submit(self._restart, server)

    def _wait_for_job(self, server: ClusterServer, statement: str) -> None:
        def has_job() -> bool:
            rows = execute(
                server,
                "SELECT query FROM information_schema.ddl_jobs "
                f"WHERE db_name = '{NAME}'",
            )
            return any(query.startswith(statement) for (query,) in rows)

        wait_until(has_job, f"there was a job of {statement}")

    @staticmethod
    def _restart(server: ClusterServer) -> None:
        server.stop(timeout=PATIENCE)
        server.start(PATIENCE)

    def migrate(self, *arguments: str) -> str | None:
        """Run ``migrate``. Return the error with which it has failed, or None."""
        try:
            call_command("migrate", *arguments, stdout=StringIO(), stderr=StringIO())
        except Error as error:
            return f"{type(error).__name__}: {error}"
        finally:
            # The next run is one of another process, so that it connects anew.
            connection.close()
        return None

    def applied(self) -> int:
        """Return the number of migrations that are recorded."""
        ((count,),) = self.execute("SELECT COUNT(*) FROM django_migrations")
        return int(count)

    def definitions(self) -> dict[str, str]:
        """Return the definition of each table of the app."""
        tables = [table for (table,) in self.execute("SHOW TABLES")]
        return {
            table: re.sub(
                r" AUTO_INCREMENT=\d+",
                "",
                self.execute(f"SHOW CREATE TABLE `{table}`")[0][1],
            )
            for table in tables
            if table.startswith(f"{self.app}_")
        }

    def rows(self) -> dict[str, Any]:
        """Return the rows of each table of the app, and the recorded migrations."""
        rows = {
            table: self.execute(f"SELECT * FROM `{table}` ORDER BY id")
            for table in self.definitions()
        }
        recorded = self.execute("SELECT app, name FROM django_migrations ORDER BY name")
        return rows | {"django_migrations": recorded}

    def new_database(self) -> None:
        self.execute(f"DROP DATABASE {NAME}", f"CREATE DATABASE {NAME}")

    def end(self) -> None:
        self.wait_for_restart()
        self._restarting.shutdown()

    def _undo(self, wanted: dict[str, str]) -> None:
        """Drop what the tables have beyond their `wanted` definitions, or rename it."""
        found = self.definitions()
        surplus, missing = [*(found.keys() - wanted)], [*(wanted.keys() - found)]
        if len(surplus) == len(missing) == 1:
            self.execute(f"RENAME TABLE `{surplus[0]}` TO `{missing[0]}`")
        for table, now in self.definitions().items():
            if table not in wanted:
                self.execute(f"DROP TABLE `{table}`")
            elif now != wanted[table]:
                definition = TableDefinition.parse(now)
                for change in changes_to(
                    definition, TableDefinition.parse(wanted[table])
                ):
                    self.execute(Alteration(definition.name, (change,)).sql)

    def finish(
        self, names: list[str], after: list[dict[str, str]]
    ) -> tuple[int, list[str], list[str]]:
        """
        Run ``migrate`` until it ends without an error. Return how often it was run,
        the migrations that could be continued only by hand, and violated promises.

        By hand, as docs/topics/migrations.md says: a migration that was executed and
        not recorded is recorded with ``--fake``, and one that was executed in part is
        undone.

        :param names: the migrations.
        :param after: the definitions of the tables after each of them.
        """
        by_hand: list[str] = []
        last: tuple[int, str] | None = None
        for runs in range(1, RUNS * len(names) + 1):
            error = self.migrate()
            self.wait_for_restart()
            if error is None:
                return runs, by_hand, []
            self.log(f"migrate has failed, and is run again: {error}")
            applied = self.applied()
            before, last = last, (applied, error)
            if last != before:
                continue
            # No further run helps.
            name = names[applied]
            if self.definitions() == after[applied]:
                self.log(f"{name} was executed, and is recorded by hand.")
                if (refused := self.migrate("--fake", self.app, name)) is not None:
                    return runs, by_hand, [f"FAKE: {name} is not recorded: {refused}"]
                by_hand.append(f"{name} (recorded): {error}")
                continue
            self.log(f"{name} was executed in part, and is undone by hand.")
            wanted = after[applied - 1] if applied else {}
            self._undo(wanted)
            if found := differences(wanted, self.definitions()):
                return runs, by_hand, [f"HALF: {name}: {error}", *found]
            by_hand.append(f"{name} (undone): {error}")
        return runs, by_hand, [f"STUCK: migrate does not end after {runs} runs."]


@contextlib.contextmanager
def target(
    app: str, operations: Mapping[str, str], log: Log
) -> Iterator[tuple[Target, list[str], list[dict[str, str]]]]:
    """
    Start a cluster with two servers for a project with one app. Give it with the names
    of the app's migrations, and the definitions of the tables after each of them. The
    migrations have been applied without a fault.
    """
    with (
        tempfile.TemporaryDirectory(prefix="django-tidb-chaos-") as folder,
        running_cluster(servers=2, timeout=PATIENCE) as cluster,
        contextlib.ExitStack() as stack,
    ):
        names = write_app(Path(folder), app, operations)
        proxies = [
            stack.enter_context(Proxy("127.0.0.1", server.port))
            for server in cluster.servers
        ]
        own = Target(cluster, proxies, app, log)
        stack.callback(own.end)
        execute(cluster.servers[0], f"CREATE DATABASE {NAME}")
        sys.path.insert(0, folder)
        hosts = ",".join(f"{proxy.host}:{proxy.port}" for proxy in proxies)
        set_up([app], {"default": {"HOST": hosts, "NAME": NAME}})
        after = []
        for name in names:
            if (error := own.migrate(app, name)) is not None:
                raise RuntimeError(error)
            after.append(own.definitions())
        yield own, names, after


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return a sentence for each table that differs."""
    return [
        f"DIFFERENT: {table} is {found.get(table)!r}, and should be "
        f"{expected.get(table)!r}."
        for table in sorted({*expected, *found})
        if found.get(table) != expected.get(table)
    ]


class Migration:
    """A server is killed at each of 20 operations of ``migrate``."""

    name = "migration"

    #: The statements without a tag, of RunPython, and the ones that are not the first.
    STATEMENTS = {
        "fill": ("INSERT INTO `ledger_order`", 10),
        "mark": ("UPDATE `ledger_order` SET `note`", 10),
    }
    SECOND = ("add_product", "add_code")

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        parser.add_argument(
            "--operations",
            type=int,
            default=len(LEDGER),
            help="the first so many (default: %(default)s)",
        )

    @classmethod
    def run(cls, options: Namespace, log: Log) -> dict[str, Any]:
        """Run the scenario, and return its results with the violated promises."""
        operations = dict(list(LEDGER.items())[: options.operations])
        with target("ledger", operations, log) as (own, names, after):
            log(f"{len(names)} migrations were applied without a fault.")
            rows = own.rows()
            own.new_database()
            begun = log.seconds
            with contextlib.ExitStack() as stack:
                cuts = {}
                for number, (operation, name) in enumerate(
                    zip(operations, names, strict=True)
                ):
                    fault = FAULTS[number % len(FAULTS)]
                    if operation in cls.STATEMENTS:
                        statement, nth = cls.STATEMENTS[operation]
                        fault = Fault(fault.signum, Moment.SENT)
                    else:
                        statement = f"/* django-tidb migrate ledger.{name} */"
                        nth = 2 if operation in cls.SECOND else 1
                    cut = stack.enter_context(own.fault(fault, statement, nth))
                    cuts[f"{name}: {fault}"] = cut
                runs, by_hand, found = own.finish(names, after)
                missed = [text for text, cut in cuts.items() if not cut.done.is_set()]
            if not found:
                found = differences(after[-1], own.definitions())
                found += differences(rows, own.rows())
                found += [f"MISSED: {text}" for text in missed]
                own.execute(f"ADMIN CHECK TABLE {', '.join(after[-1])}")
            log(
                f"migrate was run {runs} times; {len(by_hand)} migrations were "
                "continued by hand."
            )
            return {
                "operations": len(names),
                "faults": list(cuts),
                "runs": runs,
                "by hand": by_hand,
                "seconds": round(log.seconds - begun),
                "violations": found,
            }


class Rebuild:
    """A server is killed at each step of the rebuild of a table."""

    name = "rebuild"
    ROWS = 2_000
    STEPS = re.compile(
        r"(?:/\*.*?\*/ )?(CREATE TABLE|ALTER TABLE|RENAME TABLE|DROP TABLE|INSERT INTO"
        r"|COMMIT|SELECT COUNT\(\*\), BIT_XOR)"
    )

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        parser.add_argument(
            "--steps", type=int, default=100, help="the first so many (default: all)"
        )

    @classmethod
    def run(cls, options: Namespace, log: Log) -> dict[str, Any]:
        """Run the scenario, and return its results with the violated promises."""
        with target("shop", SHOP, log) as (own, names, after):
            own.new_database()
            cls._prepare(own, names)
            before = {proxy: len(proxy.exchanges) for proxy in own.proxies}
            if (error := own.migrate()) is not None:
                return {"violations": [f"FAILED: {error}"]}
            (statements,) = filter(
                None,
                ([e.statement for e in p.exchanges[n:]] for p, n in before.items()),
            )
            expected = own.rows()
            steps = cls._steps(statements)[: options.steps]
            log(f"The rebuild has {len(steps)} steps.")
            begun = log.seconds
            results = []
            found = []
            for number, (statement, nth) in enumerate(steps):
                cls._undo(own, names)
                fault = FAULTS[(number * 5) % len(FAULTS)]
                if fault.moment is Moment.RUNNING:
                    fault = Fault(fault.signum, Moment.SENT)
                with own.fault(fault, statement, nth) as cut:
                    runs, by_hand, problems = own.finish(names, after)
                if not problems:
                    problems = differences(after[-1], own.definitions())
                    problems += differences(expected, own.rows())
                    own.execute(f"ADMIN CHECK TABLE {', '.join(after[-1])}")
                # An interrupted rebuild is continued by the next migrate.
                problems += [f"HALF: {text}" for text in by_hand if "(undone)" in text]
                if not cut.done.is_set():
                    problems.append("MISSED: the server was not killed.")
                about = f"{statement[:120]}: {fault}"
                found += [f"{about}: {problem}" for problem in problems]
                results.append({"step": about, "runs": runs, "by hand": by_hand})
                if problems:
                    break
            return {
                "rows": cls.ROWS,
                "steps": results,
                "seconds": round(log.seconds - begun),
                "violations": found,
            }

    @classmethod
    def _prepare(cls, own: Target, names: list[str]) -> None:
        """Make the tables and rows as they are before the rebuild."""
        if (error := own.migrate("shop", names[-2])) is not None:
            raise RuntimeError(error)
        own.execute(
            # A row with the key 0, and rows that refer to later ones.
            "SET sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO'), "
            f"foreign_key_checks = 0, cte_max_recursion_depth = {cls.ROWS}",
            "INSERT INTO shop_shop (id, name, price, parent_id) "
            "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM "
            f"numbers WHERE n < {cls.ROWS - 1}) "
            f"SELECT n, CONCAT('shop ', n), n, {cls.ROWS - 1} - n FROM numbers",
            "INSERT INTO shop_item (shop_id) SELECT id FROM shop_shop WHERE id < 100",
        )

    @staticmethod
    def _undo(own: Target, names: list[str]) -> None:
        own.execute(
            "ALTER TABLE shop_shop DROP COLUMN `double`",
            f"DELETE FROM django_migrations WHERE name = '{names[-1]}'",
        )

    @classmethod
    def _steps(cls, statements: list[str]) -> list[tuple[str, int]]:
        """Return the statement of each step, and how many times it has occurred."""
        places = [
            place
            for place, text in enumerate(statements)
            if "__rebuild_" in text and cls.STEPS.match(text)
        ]
        steps = []
        for place in range(places[0], places[-1] + 1):
            text = statements[place]
            if cls.STEPS.match(text):
                earlier = statements[: place + 1]
                nth = sum(s.upper().startswith(text.upper()) for s in earlier)
                steps.append((text, nth))
        return steps
