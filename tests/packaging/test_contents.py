from __future__ import annotations

import re
import sys
import tarfile

import pytest
from packaging.metadata import Metadata
from packaging.specifiers import SpecifierSet

from tests.packaging.distributions import (
    AUTORANDOM,
    CORE,
    MODULES,
    PACKAGES,
    VECTOR,
    hashes,
    in_wheel,
    run,
)

pytestmark = pytest.mark.packaging

every_distribution = pytest.mark.parametrize("name", MODULES)
every_plugin = pytest.mark.parametrize("name", [AUTORANDOM, VECTOR])


def sources(name):
    """The paths of the package's Python files, relative to its folder."""
    folder = PACKAGES / name
    return {
        path.relative_to(folder).as_posix()
        for path in (folder / "src" / MODULES[name]).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def metadata_of(wheel):
    return Metadata.from_email(wheel.read_text("METADATA"))


def requirements(wheel):
    """Return the unconditional requirements: names and specifiers."""
    return {
        requirement.name: requirement.specifier
        for requirement in metadata_of(wheel).requires_dist or ()
        if requirement.marker is None
    }


def test_a_build_leaves_nothing_behind(build):
    built, left_behind = build

    assert left_behind == set()
    assert len(list(built.directory.iterdir())) == 2 * len(MODULES)


@every_distribution
def test_wheel_has_the_import_package_and_nothing_else(built, name):
    wheel = built.wheel(name)
    prefix = f"{name.replace('-', '_')}-{wheel.version}.dist-info"
    about = {"METADATA", "WHEEL", "licenses/LICENSE"}
    if name != CORE:
        about.add("entry_points.txt")

    files = hashes(wheel).keys()

    assert files == {path.removeprefix("src/") for path in sources(name)} | {
        f"{prefix}/{path}" for path in about
    }
    assert f"{MODULES[name]}/py.typed" in files
    assert wheel.read_text("licenses/LICENSE") == (
        PACKAGES.parent / "LICENSE"
    ).read_text(encoding="utf-8")


@every_distribution
def test_sdist_builds_the_same_wheel(built, name, tmp_path):
    sdist = built.sdist(name)
    with tarfile.open(sdist) as archive:
        files = {member.name for member in archive if member.isfile()}
        # The first releases of Python 3.10 and 3.11 have no extraction filters.
        filters = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path, **filters)  # noqa: S202
    top = sdist.name.removesuffix(".tar.gz")
    # Hatchling adds .gitignore, which lists the patterns of files that it left out.
    about = {".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md"}

    assert files == {
        f"{top}/{path}" for path in sources(name) | about | {"pyproject.toml"}
    }

    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation"),
        *("--outdir", tmp_path, tmp_path / top),
        cwd=tmp_path,
    )
    [wheel] = tmp_path.glob("*.whl")
    assert hashes(in_wheel(wheel)) == hashes(built.wheel(name))


@every_distribution
def test_metadata(built, name):
    wheel = built.wheel(name)
    metadata = metadata_of(wheel)
    init = wheel.locate_file(f"{MODULES[name]}/__init__.py").read_text()

    assert metadata.name == name
    assert re.findall(r'^__version__ = "(.+)"$', init, re.M) == [str(metadata.version)]
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.license_files == ["LICENSE"]
    assert metadata.requires_python == SpecifierSet(">=3.10")
    assert metadata.description_content_type == "text/markdown"
    readme = (PACKAGES / name / "README.md").read_text(encoding="utf-8")
    assert metadata.description.strip() == readme.strip()
    assert metadata.project_urls.keys() == {"Homepage", "Changelog", "Issues"}
    assert all(url.startswith("https://") for url in metadata.project_urls.values())


def test_every_distribution_has_its_own_version(built):
    assert len({built.wheel(name).version for name in MODULES}) == len(MODULES)


def test_core_stands_alone(built):
    core = built.wheel(CORE)

    # PyMySQL is the default driver, because it needs no compiler.
    assert requirements(core).keys() == {"django", "pymysql"}
    assert metadata_of(core).provides_extra == ["mysqlclient", "pymysql"]
    assert not core.entry_points


@every_plugin
def test_plugin_requires_a_range_of_core(built, name):
    required = requirements(built.wheel(name))

    assert required.keys() & MODULES.keys() == {CORE}
    # The plugins accept a range of versions of core, so they need no new release for
    # each release of core.
    assert {specifier.operator for specifier in required[CORE]} == {">=", "<"}
    assert built.wheel(CORE).version in required[CORE]


@every_plugin
def test_plugin_has_one_entry_point(built, name):
    [entry_point] = built.wheel(name).entry_points

    assert entry_point.group == "django_tidb.plugins"
    assert entry_point.name == name.removeprefix("django-tidb-")
    assert entry_point.value == f"{MODULES[name]}.plugin:plugin"


def test_twine_has_nothing_to_complain_about(built):
    files = sorted(built.directory.iterdir())

    output = run(
        *(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *files),
        cwd=built.directory,
    )

    # twine folds long lines.
    assert "".join(output.split()).count(":PASSED") == len(files)
