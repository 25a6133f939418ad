"""
Write the figures of docs/topics/performance.md from benchmarks/results/.

Run it with ``hatch run docs:performance`` after a benchmark.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "topics" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"
OURS = "django-tidb-core"
START, END = "<!-- figures -->\n", "<!-- end of figures -->\n"

TITLES = {
    "statements": "Single statements, from the driver",
    "migrate": "`migrate` of django.contrib and 100 models",
    "test_database": "The test database of the same project",
    "flush": "200 TransactionTestCases over 60 tables",
    "connect": "Connecting and `SELECT 1`",
    "get": "10,000 `get()` of one row",
    "bulk_create": "100,000 rows, beside the driver's `executemany`",
}


def duration(seconds: float) -> str:
    if seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def rows(result: dict[str, Any]) -> list[str]:
    """Return the lines of one benchmark's table."""
    contenders = result["contenders"]
    others = [contender for contender in contenders if contender != OURS]
    lines = [
        "| | " + " | ".join([OURS, *others]) + " |",
        "|---" * (len(others) + 2) + "|",
    ]
    for what, median in contenders[OURS]["medians"].items():
        cells = [what, duration(median)]
        for other in others:
            seconds = contenders[other]["medians"].get(what)
            ratio = result["ratios"][other].get(what)
            cells.append(f"{duration(seconds)}, {ratio} times" if ratio else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def figures() -> str:
    """Return the part of the page that quotes the results."""
    text = ""
    for name, title in TITLES.items():
        file = RESULTS / f"{name}.json"
        if not file.exists():
            continue
        result = json.loads(file.read_text())
        versions = result["contenders"][OURS]["versions"]
        text += (
            f"\n### {title}\n\n"
            + "\n".join(rows(result))
            + f"\n\nMedians of {result['rounds']} rounds on {result['date']}: "
            f"{result['server']}, Django {versions['django']}, Python "
            f"{versions['python']}, {result['machine']['processors']} processors "
            f"shared with others (load {result['machine']['load'][0]:.0f}).\n"
        )
    return text + "\n"


def page() -> str:
    """Return the text of the page."""
    before, _, rest = PAGE.read_text().partition(START)
    _, _, after = rest.partition(END)
    return before + START + figures() + END + after


if __name__ == "__main__":
    PAGE.write_text(page())
