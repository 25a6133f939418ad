"""hatch run chaos:run: its check of the transfers, and a short run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chaos.checks import Move, violations

ROOT = Path(__file__).parents[2]

START = {1: 100, 2: 100, 3: 100}
A, B, C = Move("a", 1, 2, 5), Move("b", 2, 3, 7), Move("c", 3, 1, 1)


def balances(*moves, **changes):
    """Return the balances after these transfers, and with these changes."""
    result = dict(START)
    for move in moves:
        result[move.source] -= move.amount
        result[move.target] += move.amount
    return result | {int(account[1:]): value for account, value in changes.items()}


@pytest.mark.parametrize("stored", [[A, B], [B, C, A]])
def test_transfers_that_are_as_promised(stored):
    assert violations(START, [A, B], [C], stored, balances(*stored)) == []


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ([A], ["LOST: 'b' was acknowledged and is not stored."]),
        ([A, B, B], ["DOUBLED: 'b' is stored 2 times."]),
        ([A, B, C, C], ["DOUBLED: 'c' is stored 2 times."]),
        (
            [A, B, replace(C, key="d")],
            ["STRAY: 'd' is stored and was never acknowledged."],
        ),
        ([A, replace(B, amount=6)], [f"CHANGED: {replace(B, amount=6)} is stored in "]),
    ],
    ids=["lost", "doubled", "unknown doubled", "stray", "changed"],
)
def test_rows_that_break_a_promise(stored, found):
    """The balances agree with the rows, so that only the markers tell."""
    result = violations(START, [A, B], [C], stored, balances(*stored))
    assert [text[: len(found[0])] for text in result] == found


def test_half_a_transfer():
    result = violations(START, [A], [], [A], balances(A, _2=100))
    assert result == [
        "SUM: the balances were 300 in all at first, and are 295 now.",
        "BALANCE: account 2 has 100, and its transfers give 105.",
    ]


def test_balance_that_is_moved_without_a_row():
    result = violations(START, [A], [], [A], balances(A, B))
    assert [text.partition(":")[0] for text in result] == ["BALANCE", "BALANCE"]


def run(results, *arguments):
    """Run the command; return its exit status, output and results."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TIDB_", "DJANGO_"))
    }
    result = subprocess.run(
        [sys.executable, "-m", "chaos.run", *arguments, "--results", results],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
    )
    assert [*results.iterdir()], result.stdout
    (file,) = results.iterdir()
    return result.returncode, result.stdout, json.loads(file.read_text())


@pytest.mark.long
def test_short_run(cluster_binaries, tmp_path):
    status, output, result = run(
        tmp_path, "transfers", "--kills", "3", "--servers", "2", "--paths", "hosts"
    )
    assert status == 0, output
    assert "All promises were kept." in output
    assert result["violations"] == []
    path = result["paths"]["hosts"]
    acknowledged = path["acknowledged by each thread"]
    assert len(acknowledged) == 8
    assert min(acknowledged) >= 3
    assert result["stored"] == sum(acknowledged) + path["unknown, of which made"]
    assert output.count(" gets SIGTERM.") == 2
    assert output.count(" gets SIGKILL.") == 1


@pytest.mark.long
def test_a_lost_write_is_noticed(cluster_binaries, tmp_path):
    status, output, result = run(
        tmp_path,
        *("transfers", "--kills", "0", "--servers", "2", "--paths", "hosts"),
        "--lose-one-write",
    )
    assert status == 1, output
    assert "1 violations." in output
    # The write is undone as a whole, so that the balances agree with the rows.
    (violation,) = result["violations"]
    assert violation.startswith("LOST: ")
