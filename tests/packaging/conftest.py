from __future__ import annotations

import functools
import sys

import pytest

from tests.packaging.distributions import MODULES, PACKAGES, Built, Environment, run


def source_files():
    """Every file below packages/ but Python's own caches."""
    return {p for p in PACKAGES.rglob("*") if "__pycache__" not in p.parts}


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """What was built from the checkout, and the files that this added to it."""
    before = source_files()
    directory = tmp_path_factory.mktemp("built")
    for name in MODULES:
        # What a release runs as well: both from the tree.
        run(
            *(sys.executable, "-m", "hatchling", "build", "-d", directory),
            cwd=PACKAGES / name,
        )
    return Built(directory), source_files() - before


@pytest.fixture(scope="session")
def built(build):
    return build[0]


@pytest.fixture(scope="session")
def installed(built, tmp_path_factory):
    """
    Return an environment that differs from an empty one by `uv pip install`
    with the given arguments. Tests share it and leave it as it is.
    """

    @functools.cache
    def environment(*arguments):
        environment = Environment(tmp_path_factory.mktemp("environment"), built)
        environment.install(*arguments)
        return environment

    return environment
