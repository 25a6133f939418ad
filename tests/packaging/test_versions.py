"""Test that the documents name the versions that the test matrix contains."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.tidbserver.launcher import RELEASES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
HATCH = tomllib.loads((ROOT / "hatch.toml").read_text())
MATRIX = HATCH["envs"]["hatch-test"]["matrix"]
PACKAGES = sorted((ROOT / "packages").iterdir())


def axis_values(axis):
    values = {value for cells in MATRIX for value in cells[axis]}
    return sorted(values, key=lambda value: [*map(int, re.findall(r"\d+", value))])


def cells_of_ci():
    text = (ROOT / ".ci/run").read_text()
    cells = re.findall(r"^cell (\S+) (\S+) (\S+) ", text, re.MULTILINE)
    # The first run uses the newest Django that supports Debian's Python.
    python = re.search(r"bare Debian with\n# Python (\S+)\. ", text)[1]
    newest = max(max(c["django"]) for c in MATRIX if python in c["python"])
    pattern = r"^step env TIDB_VERSION=(\S+) scripts/test "
    (server,) = re.findall(pattern, text, re.MULTILINE)
    return [(server, newest, "mysqlclient"), *cells]


def table(path):
    """Return the rows of the table of versions in a README."""
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \|$", path.read_text(), re.MULTILINE)
    return {name: value.strip() for name, value in rows}


@pytest.mark.parametrize(
    "readme",
    [ROOT / "README.md", *(package / "README.md" for package in PACKAGES)],
    ids=lambda path: path.parent.name,
)
def test_readme(readme):
    versions = table(readme)
    assert versions["Django"] == ", ".join(axis_values("django"))
    assert versions["Python"] == ", ".join(axis_values("python"))
    servers = [
        version
        for version in RELEASES
        if "vector" not in readme.parent.name or version.startswith("8")
    ]
    assert versions["TiDB"] == ", ".join(servers)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_classifiers(package):
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    for axis, prefix in {
        "django": "Framework :: Django :: ",
        "python": "Programming Language :: Python :: 3.",
    }.items():
        found = [c for c in project["classifiers"] if c.startswith(prefix)]
        start = prefix.rpartition(" ")[0] + " "
        assert found == [start + version for version in axis_values(axis)]
    assert project["requires-python"] == f">={axis_values('python')[0]}"


def test_ci_runs_every_django_and_every_server():
    cells = cells_of_ci()
    assert {django for _, django, _ in cells} == set(axis_values("django"))
    assert {server for server, _, _ in cells} == set(RELEASES)
    assert {driver for _, _, driver in cells} == set(axis_values("driver"))
    newest = axis_values("django")[-1]
    for server in RELEASES:
        assert {django for s, django, _ in cells if s == server} >= {"5.2", newest}


def test_ci_names_files_that_exist():
    paths = re.findall(r"tests/[\w/]+\.py", (ROOT / ".ci/run").read_text())
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_known_issues_page_names_the_servers():
    page = (ROOT / "docs/ref/known-issues.md").read_text()
    assert "8.5.6, 7.5.0, 6.1.1 and 5.1" in page
    assert list(RELEASES) == ["8.5.6", "7.5.0", "6.1.1", "5.1"]
