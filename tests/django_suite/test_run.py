"""Test the parts of the runner that need no server; .ci/run runs the rest."""

from __future__ import annotations

import unittest

import pytest

from .run import DJANGOS, _report, _requirements, main
from .suite_runner import _outcome

COUNTS = dict.fromkeys(
    [
        *("run", "passed", "failed", "errors", "skipped"),
        *("expected_failures", "unexpected_successes"),
    ],
    0,
)


class Cases(unittest.TestCase):
    def test_passes(self):
        pass

    def test_fails(self):
        self.fail("the reason")

    def test_raises(self):
        raise ValueError

    def test_subtests(self):
        for number in (1, 2):
            with self.subTest(number=number):
                self.fail("in a subtest")

    @unittest.skip("not today")
    def test_skipped(self):
        pass

    @unittest.expectedFailure
    def test_expected(self):
        self.fail("as always")

    @unittest.expectedFailure
    def test_unexpected(self):
        pass


# pytest must not collect these tests.
Cases.__test__ = False


def test_outcome():
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Cases).run(result)
    outcome = _outcome(result)
    assert {name: outcome[name] for name in COUNTS} == {
        "run": 7,
        "passed": 1,
        "failed": 3,
        "errors": 1,
        "skipped": 1,
        "expected_failures": 1,
        "unexpected_successes": 1,
    }
    assert outcome["skips_by_reason"] == {"not today": 1}
    assert outcome["expected_failing_tests"] == [
        f"{Cases.__module__}.Cases.test_expected"
    ]
    kinds = {
        entry["test"].rpartition("Cases.")[2]: entry["kind"]
        for entry in outcome["unexpected"]
    }
    assert kinds == {
        "test_fails": "failure",
        "test_raises": "error",
        "test_subtests (number=1)": "failure",
        "test_subtests (number=2)": "failure",
        "test_unexpected": "unexpected success",
    }
    (fails,) = (e for e in outcome["unexpected"] if e["test"].endswith("fails"))
    assert fails["last_lines"][-1] == "AssertionError: the reason"


@pytest.mark.parametrize("unexpected", [[], [{"test": "t"}]])
def test_exit_status(tmp_path, capsys, unexpected):
    summary = {**COUNTS, "run": 7, "unexpected": unexpected}
    assert _report(summary, tmp_path / "s.json") == (1 if unexpected else 0)
    assert "run 7" in capsys.readouterr().out


def test_requirements(tmp_path):
    folder = tmp_path / "tests" / "requirements"
    folder.mkdir(parents=True)
    (folder / "py3.txt").write_text(
        "asgiref >= 3.8.1\n# A comment\npylibmc; sys_platform != 'win32'\n"
        "colorama; sys.platform == 'win32'\n\ngeoip2\n"
    )
    assert _requirements(tmp_path) == [
        "asgiref >= 3.8.1",
        "colorama; sys_platform == 'win32'",
    ]


def test_unknown_django(capsys):
    with pytest.raises(SystemExit):
        main(["--django", "3.2"])
    said = capsys.readouterr().err
    assert all(line in said for line in DJANGOS)
