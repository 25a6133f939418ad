"""Transfers while programs of the cluster are killed: see README.md."""

from __future__ import annotations

import signal
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from chaos.scenario import Log, execute, set_up
from chaos.traffic import PATIENCE, RATE, Stuck, Traffic, wait_until
from tests.tidbserver.cluster import Cluster, running_cluster

#: The transfers, of all threads, that are made before each kill.
BETWEEN = 2 * RATE
#: How long PD or the store stays away, in seconds.
AWAY = 3.0
NAME = "chaos"
SIGNALS = (signal.SIGTERM, signal.SIGKILL)


def prepare(cluster: Cluster, *aliases: str) -> Traffic:
    """Create the database, and set up Django with an alias for each path to it."""
    execute(cluster.servers[0], f"CREATE DATABASE {NAME}")
    paths: dict[str, dict[str, Any]] = {
        "hosts": {"HOST": ",".join(server.address for server in cluster.servers)},
        "proxy": {"HOST": "127.0.0.1", "PORT": cluster.port},
    }
    set_up(["chaos.bank"], {alias: {"NAME": NAME, **paths[alias]} for alias in aliases})
    return Traffic(*aliases)


class Transfers:
    """Servers are killed while threads transfer amounts between accounts."""

    name = "transfers"

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        parser.add_argument("--kills", type=int, default=50)
        parser.add_argument("--servers", type=int, choices=range(2, 10), default=3)
        parser.add_argument(
            "--paths",
            nargs="+",
            choices=["hosts", "proxy"],
            default=["hosts", "proxy"],
            help="how the threads connect: several servers in HOST, HAProxy, or half "
            "of them in each way (default)",
        )
        parser.add_argument(
            "--lose-one-write",
            action="store_true",
            help="undo an acknowledged transfer before the check, which must notice",
        )

    @staticmethod
    def run(options: Namespace, log: Log) -> dict[str, Any]:
        """Run the scenario, and return its results with the violated promises."""
        with running_cluster(
            servers=options.servers, proxy="proxy" in options.paths, timeout=PATIENCE
        ) as cluster:
            traffic = prepare(cluster, *options.paths)

            def kill(number: int) -> None:
                server = cluster.servers[number % len(cluster.servers)]
                signum = SIGNALS[number % 2]

                def has_sessions() -> bool:
                    traffic.check_threads()
                    ((count,),) = execute(
                        server,
                        "SELECT COUNT(*) FROM information_schema.processlist "
                        f"WHERE db = '{NAME}'",
                    )
                    return bool(count)

                wait_until(has_sessions, f"a thread was connected to {server.name}")
                log(f"{number + 1}: {server.name} gets {signum.name}.")
                server.stop(signum, PATIENCE)
                server.start(PATIENCE)

            def faults() -> None:
                for number in range(options.kills):
                    traffic.wait_for_transfers(BETWEEN)
                    kill(number)

            return {
                "servers": options.servers,
                "kills": options.kills,
                **observe(traffic, faults, log, lose=options.lose_one_write),
            }


class Restarts:
    """PD and the store are restarted while threads transfer amounts."""

    name = "restarts"

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        parser.add_argument(
            "--rounds", type=int, default=5, help="for each program and signal"
        )

    @staticmethod
    def run(options: Namespace, log: Log) -> dict[str, Any]:
        """Run the scenario, and return its results with the violated promises."""
        with running_cluster(servers=2, durable=True, timeout=PATIENCE) as cluster:
            traffic = prepare(cluster, "hosts")

            def faults() -> None:
                for _ in range(options.rounds):
                    for process in (cluster.pd, cluster.store):
                        for signum in SIGNALS:
                            traffic.wait_for_transfers(BETWEEN)
                            log(f"{process.name} gets {signum.name}.")
                            process.stop(signum, PATIENCE)
                            time.sleep(AWAY)
                            process.start(PATIENCE)
                            traffic.wait_for_all()

            return {
                "restarts": 4 * options.rounds,
                "seconds away": AWAY,
                **observe(traffic, faults, log),
            }


def observe(
    traffic: Traffic, faults: Callable[[], None], log: Log, *, lose: bool = False
) -> dict[str, Any]:
    """Cause faults during the traffic, and return what has become of it."""
    begun = log.seconds
    stuck = []
    try:
        with traffic:
            faults()
            # Every thread goes on by itself.
            traffic.wait_for_all()
        traffic.check_threads()
    except Stuck as error:
        stuck.append(str(error))
    if lose:
        log(f"Undone on purpose: {traffic.lose_one_write()}.")
    result = traffic.result()
    result["violations"] = stuck + result["violations"]
    result["seconds"] = round(log.seconds - begun)
    for path, told in result["paths"].items():
        log(
            f"{path}: {sum(told['acknowledged by each thread'])} transfers were "
            f"acknowledged, {told['unknown']} have an unknown outcome (of these "
            f"{told['unknown, of which made']} were made), {told['refused']} were "
            f"refused. The longest pause of a thread was {told['longest pause']} s."
        )
    log(
        f"{result['repetitions']} attempts were repeated. {result['stored']} transfers "
        "are stored."
    )
    return result
