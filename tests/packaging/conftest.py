from __future__ import annotations

import functools
import sys

import pytest

from tests.packaging.distributions import MODULES, PACKAGES, Built, Environment, run


def source_files():
    """Return all files below packages/, except for Python's caches."""
    return {p for p in PACKAGES.rglob("*") if "__pycache__" not in p.parts}


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """
    Build the distributions; return them and the files that the build added to the
    checkout.
    """
    before = source_files()
    directory = tmp_path_factory.mktemp("built")
    for name in MODULES:
        # A release also builds the wheel and the sdist from the checkout.
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
    Return a function that makes an environment with `uv pip install` and the given
    arguments. Tests share the environment and must not change it.
    """

    @functools.cache
    def environment(*arguments):
        environment = Environment(tmp_path_factory.mktemp("environment"), built)
        environment.install(*arguments)
        return environment

    return environment
