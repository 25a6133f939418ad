"""
Test scripts/demo --cluster: a server is killed while the demo searches and writes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.markers import problems

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "demo_cluster.py"


@pytest.fixture(scope="module")
def lines(cluster_binaries, haproxy):
    """Return the lines of the demo's log, without the times."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TIDB_")
    }
    result = subprocess.run(
        [sys.executable, SCRIPT],
        env=environ,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return re.findall(r"^ *\d+\.\d s  (.*)$", result.stdout, re.MULTILINE)


def one(lines, pattern):
    """Return the groups of the one line that `pattern` matches."""
    (match,) = filter(None, (re.fullmatch(pattern, line) for line in lines))
    return match.groups()


def test_searches_and_writes_go_on(lines):
    rounds = [
        {name: int(count) for count, name in re.findall(r"(\d+) on (tidb-\d)", line)}
        for line in lines
        if line.startswith("The clients have searched and written: ")
    ]
    both, without, again = rounds
    assert both.keys() == again.keys() == {"tidb-1", "tidb-2"}
    # A client may count one more round for the killed server, hence one less here.
    assert without["tidb-1"] >= 4 * 14


def test_order_of_events(lines):
    killed = lines.index("tidb-2 is killed (kill -9).")
    started = lines.index("tidb-2 is started again.")
    answers = lines.index("tidb-2 answers.")
    assert killed < started < answers
    cut_off = [i for i, line in enumerate(lines) if "on tidb-2 was cut off (" in line]
    assert cut_off
    assert all(killed < index < started for index in cut_off)
    assert not any("on tidb-1 was cut off" in line for line in lines)


def test_nothing_was_lost(lines):
    assert lines[-1] == (
        "Nothing was lost: every acknowledged write is stored, exactly once."
    )
    acknowledged, stored = one(
        lines, r"(\d+) writes were acknowledged, (\d+) rows are stored\."
    )
    unknown = [
        line for line in lines if line.startswith("The write of unknown outcome")
    ]
    known_later = [line for line in unknown if line.endswith(", is stored.")]
    assert int(stored) == int(acknowledged) + len(known_later)
    assert len(unknown) == sum(": COMMIT on tidb-2 was cut off" in x for x in lines)
    assert int(acknowledged) >= 3 * 4 * 15 - len(unknown)


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (["a", "b"], []),
        (["a", "b", "u"], []),
        (["a"], ["LOST: 'b' was acknowledged and is not stored."]),
        (["a", "b", "b"], ["DOUBLED: 'b' is stored 2 times."]),
        (["a", "b", "u", "u"], ["DOUBLED: 'u' is stored 2 times."]),
        (["a", "b", "c"], ["STRAY: 'c' is stored and was never acknowledged."]),
    ],
)
def test_check_of_the_rows(stored, found):
    assert problems(["a", "b"], ["u"], stored) == found


def test_no_haproxy(cluster_binaries, tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.tidbserver import cluster\n"
        f"cluster.SYSTEM_COMMANDS = {str(tmp_path)!r}\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("demo: HAProxy was found neither on PATH nor in ")
