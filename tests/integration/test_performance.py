"""Test that the figures in the documentation come from benchmarks/results/."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_quotes_the_results():
    script = runpy.run_path(str(ROOT / "scripts" / "performance.py"))
    assert script["PAGE"].read_text() == script["page"](), (
        "Run hatch run docs:performance."
    )
    for name, title in script["TITLES"].items():
        recorded = (script["RESULTS"] / f"{name}.json").exists()
        assert recorded == (title in script["figures"]())
