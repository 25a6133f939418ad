"""
Write the figures of docs/ref/faults.md from chaos/results/.

Run it with ``hatch run docs:faults`` after ``hatch run chaos:run``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ref" / "faults.md"
RESULTS = ROOT / "chaos" / "results"
START, END = "<!-- figures -->\n", "<!-- end of figures -->\n"

# The comment that migrate puts in front of its statements.
TAG = re.compile(r"/\*.*?\*/ ")
PATHS = {"hosts": "several servers in `HOST`", "proxy": "HAProxy"}


def counts(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a table about transfers, with a column for each path."""
    parts = result["paths"].values()

    def row(name: str, key: str) -> tuple[Any, ...]:
        return (name, *(part[key] for part in parts))

    return [
        ("through", *(PATHS[path] for path in result["paths"])),
        (
            "transfers acknowledged",
            *(sum(part["acknowledged by each thread"]) for part in parts),
        ),
        row("with an unknown outcome", "unknown"),
        row("of these made", "unknown, of which made"),
        row("refused", "refused"),
        (
            "longest pause of a thread",
            *(f"{part['longest pause']:.0f} s" for part in parts),
        ),
    ]


def table(rows: Iterable[tuple[Any, ...]]) -> str:
    """Return a table of Markdown; the first row is its head."""
    head, *rest = [
        "| "
        + " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in row)
        + " |\n"
        for row in rows
    ]
    return head + "|---" * (head.count("|") - 1) + "|\n" + "".join(rest)


def broken(result: dict[str, Any]) -> str:
    return f"Promises broken: {len(result['violations'])}."


def about_transfers(title: str, result: dict[str, Any]) -> str:
    refused = {e for part in result["paths"].values() for e in part["refused with"]}
    errors = "; ".join(f"`{error}`" for error in sorted(refused))
    return (
        f"### {title}\n\n{table(counts(result))}\n"
        f"{result['stored']:,} transfers are stored. {result['repetitions']:,} "
        f"attempts were repeated. {broken(result)}\n\n"
        + (f"Refused with: {errors}.\n\n" if errors else "")
    )


def transfers(result: dict[str, Any]) -> str:
    title = f"{result['kills']} kills of {result['servers']} servers"
    return about_transfers(title, result)


def restarts(result: dict[str, Any]) -> str:
    title = f"{result['restarts']} restarts of PD and the store, half of each"
    return about_transfers(title, result)


def migration(result: dict[str, Any]) -> str:
    by_hand = "".join(
        f"- `{migration}`: `` {error} ``\n"
        for migration, _, error in (text.partition(": ") for text in result["by hand"])
    )
    count = len(result["by hand"]) or "None"
    about = f"{count} of the migrations had to be continued by hand"
    return (
        f"### A migration with a kill at each of {result['operations']} operations\n\n"
        f"`migrate` was run {result['runs']} times in {result['seconds']} seconds "
        f"until it ended without an error. {broken(result)} {about}"
        f"{':' if by_hand else '.'}\n\n{by_hand}{chr(10) if by_hand else ''}"
    )


def rebuild(result: dict[str, Any]) -> str:
    rows: list[tuple[Any, ...]] = [
        ("statement, its beginning", "the server gets", "runs of `migrate`", "by hand")
    ]
    for step in result["steps"]:
        sql, _, fault = step["step"].rpartition(": ")
        sql = " ".join(TAG.sub("", sql).split())
        rows.append(
            (f"`` {sql[:50]} ``", fault, step["runs"], len(step["by hand"]) or "")
        )
    return (
        f"### A rebuild with a kill at each of {len(result['steps'])} steps\n\n"
        f"{table(rows)}\n{broken(result)}\n\n"
    )


def source(result: dict[str, Any]) -> str:
    """Return the line that names the date, the machine and the versions."""
    versions = ", ".join(
        f"{name} {version}" for name, version in result["versions"].items()
    )
    machine = result["machine"]
    return (
        f"{result['date']}: TiDB {result['server']}, {versions}, "
        f"{machine['processors']} processors shared with others (load "
        f"{machine['load'][0]:.0f}).\n\n"
    )


def figures() -> str:
    """Return the part of the page that quotes the results."""
    text = "\n"
    for section in (transfers, restarts, migration, rebuild):
        file = RESULTS / f"{section.__name__}.json"
        if file.exists():
            result = json.loads(file.read_text())
            text += section(result) + source(result)
    return text


def page() -> str:
    """Return the text of the page."""
    before, _, rest = PAGE.read_text().partition(START)
    _, _, after = rest.partition(END)
    return before + START + figures() + END + after


if __name__ == "__main__":
    PAGE.write_text(page())
