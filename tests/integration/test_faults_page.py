"""Tests that the page about faults quotes the results in chaos/results/."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from chaos.run import SCENARIOS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "chaos" / "results"


def test_the_page_quotes_the_results():
    script = runpy.run_path(str(ROOT / "scripts" / "faults.py"))
    assert script["PAGE"].read_text() == script["page"](), "Run hatch run docs:faults."


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_was_run_and_kept_its_promises(name):
    result = json.loads((RESULTS / f"{name}.json").read_text())
    assert result["scenario"] == name
    assert result["violations"] == []
