"""Threads that transfer amounts between accounts while servers fail."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any

from django.core.management import call_command
from django.db import Error, close_old_connections, connections
from django.db.models import F

from chaos.checks import Move, violations
from django_tidb.errors import CommitOutcomeUnknown
from django_tidb.transaction import attempts

ACCOUNTS = 100
BALANCE = 1_000
THREADS = 8
#: Transfers in a second, of all threads.
RATE = 20
#: A transfer is repeated for this number of seconds. Afterwards it is refused.
DEADLINE = 120.0
#: The seconds after which a thread that does not go on has broken its promise.
PATIENCE = 300.0


class Stuck(Exception):
    """Something that should have happened by itself has not."""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition` holds. Raises Stuck after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise Stuck(f"STUCK: it took more than {PATIENCE:g} s until {what}.")
        time.sleep(0.05)


class Repetitions(logging.Handler):
    """Counts the transactions that were repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._logger = logging.getLogger("django_tidb.transaction")

    def emit(self, record: logging.LogRecord) -> None:
        # handle() holds a lock meanwhile.
        self.count += record.msg.startswith("Attempt ")

    def __enter__(self) -> Repetitions:
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)
        return self

    def __exit__(self, *args: object) -> None:
        self._logger.removeHandler(self)


class Teller(threading.Thread):
    """A thread that makes transfers until it is told to stop."""

    def __init__(self, number: int, alias: str, accounts: Sequence[int]) -> None:
        super().__init__(name=f"thread {number}", daemon=True)
        self.acknowledged: list[Move] = []
        self.unknown: list[Move] = []
        self.refused: list[tuple[Move, str]] = []
        #: The longest time in seconds between two acknowledged transfers.
        self.longest_pause = 0.0
        self.acknowledged_at = time.monotonic()
        self.error: BaseException | None = None
        self.stop_asked = threading.Event()
        self.alias = alias
        self._accounts = accounts
        self._random = random.Random(number)  # noqa: S311

    def run(self) -> None:
        try:
            while not self.stop_asked.is_set():
                begun = time.monotonic()
                # Django does this at the end of each request.
                close_old_connections()
                self._order(self._choose())
                self.stop_asked.wait(begun + THREADS / RATE - time.monotonic())
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()

    def _choose(self) -> Move:
        source, target = self._random.sample(self._accounts, 2)
        return Move(str(uuid.uuid4()), source, target, self._random.randint(1, 10))

    def _order(self, move: Move) -> None:
        """Have one transfer made, and note its outcome."""
        try:
            self._transfer(move)
        except CommitOutcomeUnknown:
            self.unknown.append(move)
        except Error as error:
            self.refused.append((move, f"{type(error).__name__}: {error}"))
        else:
            now = time.monotonic()
            self.longest_pause = max(self.longest_pause, now - self.acknowledged_at)
            self.acknowledged_at = now
            self.acknowledged.append(move)

    def _transfer(self, move: Move) -> None:
        from chaos.bank.models import Account, Transfer

        accounts = Account.objects.using(self.alias)
        for attempt in attempts(using=self.alias, times=10_000, deadline=DEADLINE):
            with attempt:
                Transfer.objects.using(self.alias).create(
                    key=move.key,
                    source_id=move.source,
                    target_id=move.target,
                    amount=move.amount,
                )
                for account, change in (
                    (move.source, -move.amount),
                    (move.target, move.amount),
                ):
                    accounts.filter(pk=account).update(balance=F("balance") + change)


class Traffic:
    """
    All threads, and the accounts. The threads take turns with the `aliases`, which are
    different paths to the same database.
    """

    def __init__(self, *aliases: str) -> None:
        from chaos.bank.models import Account

        self.aliases = aliases
        # The one with which the rows are written at first, and are read in the end.
        self.alias = alias = aliases[0]
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
        Account.objects.using(alias).bulk_create(
            [Account(pk=pk, balance=BALANCE) for pk in range(1, ACCOUNTS + 1)]
        )
        self.start_balances = self.balances()
        self.tellers = [
            Teller(number, aliases[number % len(aliases)], list(self.start_balances))
            for number in range(THREADS)
        ]
        self._repetitions = Repetitions()

    def balances(self) -> dict[int, int]:
        from chaos.bank.models import Account

        return dict(Account.objects.using(self.alias).values_list("pk", "balance"))

    def __enter__(self) -> Traffic:
        self._repetitions.__enter__()
        now = time.monotonic()
        for teller in self.tellers:
            teller.acknowledged_at = now
            teller.start()
        return self

    def __exit__(self, *args: object) -> None:
        for teller in self.tellers:
            teller.stop_asked.set()
        for teller in self.tellers:
            # An attempt may begin until the deadline, and wait for a lock then.
            teller.join(DEADLINE + PATIENCE)
        self._repetitions.__exit__()

    def total(self) -> int:
        """Return the number of acknowledged transfers."""
        return sum(len(teller.acknowledged) for teller in self.tellers)

    def check_threads(self) -> None:
        """Raise Stuck if a thread has ended with an error, or does not end."""
        for teller in self.tellers:
            if teller.stop_asked.is_set() and teller.is_alive():
                raise Stuck(f"STUCK: {teller.name} does not end.")
            if teller.error is not None:
                raise Stuck(
                    f"ENDED: {teller.name} has ended with {teller.error!r}."
                ) from teller.error

    def wait_for_transfers(self, count: int) -> None:
        """Wait until `count` more transfers have been acknowledged."""
        target = self.total() + count

        def reached() -> bool:
            self.check_threads()
            return self.total() >= target

        wait_until(reached, f"{count} more transfers were acknowledged")

    def wait_for_all(self, count: int = 3) -> None:
        """Wait until each thread has made `count` more transfers."""
        targets = {t: len(t.acknowledged) + count for t in self.tellers}

        def reached() -> bool:
            self.check_threads()
            return all(len(t.acknowledged) >= n for t, n in targets.items())

        wait_until(reached, f"every thread had made {count} more transfers")

    def lose_one_write(self) -> Move:
        """Undo one transfer that was acknowledged, as if the server had lost it."""
        from chaos.bank.models import Account, Transfer

        move = next(m for teller in self.tellers for m in teller.acknowledged)
        accounts = Account.objects.using(self.alias)
        for attempt in attempts(using=self.alias):
            with attempt:
                Transfer.objects.using(self.alias).filter(key=move.key).delete()
                for account, change in (
                    (move.source, move.amount),
                    (move.target, -move.amount),
                ):
                    accounts.filter(pk=account).update(balance=F("balance") + change)
        return move

    def result(self) -> dict[str, Any]:
        """Compare what is stored with what the threads were told, and count it."""
        from chaos.bank.models import Transfer

        with connections[self.alias].cursor() as cursor:
            # An error is raised if an index does not have the entries of the rows.
            cursor.execute("ADMIN CHECK TABLE bank_account, bank_transfer")
        rows = Transfer.objects.using(self.alias).values_list(
            "key", "source_id", "target_id", "amount"
        )
        stored = [Move(str(key), *rest) for key, *rest in rows]
        keys = {move.key for move in stored}
        return {
            "threads": THREADS,
            "transfers in a second": RATE,
            "paths": {alias: self._path(alias, keys) for alias in self.aliases},
            "repetitions": self._repetitions.count,
            "stored": len(stored),
            "violations": violations(
                self.start_balances,
                [move for teller in self.tellers for move in teller.acknowledged],
                [move for teller in self.tellers for move in teller.unknown],
                stored,
                self.balances(),
            ),
        }

    def _path(self, alias: str, stored: Collection[str]) -> dict[str, Any]:
        """Return what the threads of one path were told."""
        tellers = [teller for teller in self.tellers if teller.alias == alias]
        unknown = [move.key for teller in tellers for move in teller.unknown]
        refused = [error for teller in tellers for _, error in teller.refused]
        return {
            "acknowledged by each thread": [len(t.acknowledged) for t in tellers],
            "unknown": len(unknown),
            "unknown, of which made": sum(key in stored for key in unknown),
            "refused": len(refused),
            "refused with": sorted(set(refused)),
            "longest pause": round(max(t.longest_pause for t in tellers), 2),
        }
