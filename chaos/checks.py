"""The promises about transfers, compared with what is stored in the end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tests.markers import problems


@dataclass(frozen=True)
class Move:
    """An amount that is transferred from one account to another."""

    key: str
    source: int
    target: int
    amount: int


def violations(
    start: Mapping[int, int],
    acknowledged: Collection[Move],
    unknown: Collection[Move],
    stored: Iterable[Move],
    balances: Mapping[int, int],
) -> list[str]:
    """
    Return a sentence for each promise that does not hold.

    Every acknowledged transfer must be stored once, one of unknown outcome once or not
    at all, and no other one. The sum of the `balances` must be that of `start`, and
    each balance must be the one that the stored transfers give.

    :param start: the balance of each account at first.
    :param stored: a transfer for each marker row.
    :param balances: the balance of each account in the end.
    """
    rows = list(stored)
    found = problems(
        [move.key for move in acknowledged],
        [move.key for move in unknown],
        [move.key for move in rows],
    )
    ordered = {move.key: move for move in (*acknowledged, *unknown)}
    found += [
        f"CHANGED: {row} is stored in place of {ordered[row.key]}."
        for row in rows
        if row != ordered.get(row.key, row)
    ]
    if sum(balances.values()) != sum(start.values()):
        found.append(
            f"SUM: the balances were {sum(start.values())} in all at first, and are "
            f"{sum(balances.values())} now."
        )
    expected = dict(start)
    for row in rows:
        expected[row.source] -= row.amount
        expected[row.target] += row.amount
    found += [
        f"BALANCE: account {account} has {balances.get(account)}, and its transfers "
        f"give {balance}."
        for account, balance in expected.items()
        if balances.get(account) != balance
    ]
    return found
