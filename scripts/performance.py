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
    "drivers": "The processor time of the client with mysqlclient, and with PyMySQL",
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


def vectors(file: Path) -> str:
    """Return the section about vectors, all of whose figures are ratios."""
    result = json.loads(file.read_text())
    tables = {
        "How many times as long as ours others take, to make the text of a float32 "
        "array, and to read it": ("upstream / ours", "pgvector / ours"),
        "How many times as long as mysqlclient with ready-made text we take": (
            "ours / raw",
            "upstream / raw",
        ),
    }
    text = "\n### Vectors\n"
    for title, columns in tables.items():
        names = list(
            dict.fromkeys(
                name.partition(":")[0]
                for name in result["ratios"]
                if name.endswith(columns)
            )
        )
        text += f"\n{title}:\n\n| | {' | '.join(columns)} |\n|---|---|---|\n"
        for name in names:
            cells = (result["ratios"][f"{name}: {column}"] for column in columns)
            text += f"| {name} | {' | '.join(map(str, cells))} |\n"
    text += (
        f"\nWhat a search for the 10 nearest of {result['rows']:,} rows takes outside "
        "of the server and the driver, and the same query with a function of "
        "Django's own, `Power`, in place of the distance:\n\n"
        "| | after waiting for the server | only built, in a loop |\n|---|---|---|\n"
    )
    for name, contender, query in (
        ("search", "django-tidb-vector", "query"),
        ("search, django-tidb 6.0.1", "django-tidb 6.0.1", "query"),
        ("Django's function", "django-tidb-vector", "query with Power()"),
    ):
        taken = result["medians"][f"rows, {contender}"]
        rest = f"{query}, without the server"
        text += (
            f"| {name} | {taken[rest] * 1000:.2f} ms "
            f"| {taken[f'{rest}, warm'] * 1000:.2f} ms |\n"
        )
    return f"{text}\n{source(result, result['versions']['django-tidb-vector'])}"


def source(result: dict[str, Any], versions: dict[str, str]) -> str:
    """Return the line that names the rounds, date and versions of a measurement."""
    return (
        f"Medians of {result['rounds']} rounds on {result['date']}: "
        f"{result['server']}, Django {versions['django']}, Python "
        f"{versions['python']}, {result['machine']['processors']} processors "
        f"shared with others (load {result['machine']['load'][0]:.0f}).\n"
    )


def figures() -> str:
    """Return the part of the page that quotes the results."""
    text = ""
    for name, title in TITLES.items():
        file = RESULTS / f"{name}.json"
        if not file.exists():
            continue
        result = json.loads(file.read_text())
        versions = result["contenders"][OURS]["versions"]
        text += f"\n### {title}\n\n" + "\n".join(rows(result))
        text += f"\n\n{source(result, versions)}"
    vector = RESULTS / "vector.json"
    if vector.exists():
        text += vectors(vector)
    return text + "\n"


def page() -> str:
    """Return the text of the page."""
    before, _, rest = PAGE.read_text().partition(START)
    _, _, after = rest.partition(END)
    return before + START + figures() + END + after


if __name__ == "__main__":
    PAGE.write_text(page())
