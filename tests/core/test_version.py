from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_tidb.version import TiDBVersion

DETAILS = """\
Release Version: {release}
Edition: {edition}
Git Commit Hash: None
Store: {store}"""


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("8.0.11-TiDB-v8.5.5", (8, 5, 5)),
        ("5.7.25-TiDB-v7.0.0", (7, 0, 0)),
        ("8.0.11-TiDB-v7.2.0-alpha-69-g96e9e68daa", (7, 2, 0)),
        ("5.7.25-TiDB-v5.1.0-64-gfb0eaf7b4", (5, 1, 0)),
        ("8.0.11-TiDB-v9.0.0-beta.1.pre-640-g24903d6b24-dirty", (9, 0, 0)),
        ("8.0.11-TiDB-v8.5.3-serverless", (8, 5, 3)),
        ("5.7.28-TiDB-v7.1.1-serverless", (7, 1, 1)),
        ("8.0.11-TiDB-CLOUD.202603.9", (26, 3, 9)),
        ("8.0.11-TiDB-CLOUD.202603.0-a1b2c3d", (26, 3, 0)),
        ("8.0.11-TiDB-v8.4.0-this-is-a-placeholder", (8, 4, 0)),
    ],
)
def test_release(text, release):
    version = TiDBVersion.parse(text)
    assert version.release == release
    assert version.text == text


def test_unnumbered_build_counts_as_the_newest_known():
    assert TiDBVersion.parse("8.0.11-TiDB-None").release == (8, 5, 0)
    details = DETAILS.format(release="None", edition="Community", store="unistore")
    assert TiDBVersion.parse("8.0.28", details).release == (8, 5, 0)


def test_replaced_version_string_falls_back_to_the_details():
    details = DETAILS.format(release="v7.5.0", edition="Enterprise", store="tikv")
    version = TiDBVersion.parse("8.4.0", details)
    assert version.release == (7, 5, 0)
    assert version.edition == "Enterprise"
    assert version.store == "tikv"


@pytest.mark.parametrize(
    ("text", "edition"),
    [
        ("8.0.11-TiDB-v8.5.3-serverless", "Serverless"),
        ("8.0.11-TiDB-CLOUD.202603.9", "Cloud"),
        ("8.0.11-TiDB-v8.5.6", ""),
    ],
)
def test_edition_from_the_version_string(text, edition):
    assert TiDBVersion.parse(text).edition == edition


@pytest.mark.parametrize("text", ["8.0.36", "10.11.6-MariaDB-0+deb12u1", "", "TiDB"])
def test_other_servers(text):
    assert TiDBVersion.parse(text) is None


def test_order():
    texts = [
        "5.7.25-TiDB-v5.1.0",
        "5.7.25-TiDB-v5.1.0-64-gfb0eaf7b4",
        "8.0.11-TiDB-v7.2.0-alpha-69-g96e9e68daa",
        "8.0.11-TiDB-v7.2.0-alpha-70-g96e9e68daa",
        "8.0.11-TiDB-v7.2.0-beta",
        "8.0.11-TiDB-v7.2.0-beta.1.pre-640-g24903d6b24-dirty",
        "8.0.11-TiDB-v7.2.0-rc.1",
        "8.0.11-TiDB-v7.2.0",
        "8.0.11-TiDB-v8.5.3-serverless",
        "8.0.11-TiDB-v8.5.6",
        "8.0.11-TiDB-v8.10.0",
        "8.0.11-TiDB-CLOUD.202603.9",
        "8.0.11-TiDB-CLOUD.202609.1",
    ]
    versions = [TiDBVersion.parse(text) for text in texts]
    assert sorted(versions) == versions
    assert len(set(versions)) == len(versions)


def test_comparison_with_tuples():
    version = TiDBVersion.parse("8.0.11-TiDB-v8.5.6")
    assert version >= (8,)
    assert version >= (8, 5)
    assert version >= (8, 5, 6)
    assert version == (8, 5, 6)
    assert hash(version) == hash((8, 5, 6))
    assert version < (8, 5, 7)
    assert version < (9,)
    assert version != (8, 5)


def test_prerelease_is_less_than_its_release():
    version = TiDBVersion.parse("8.0.11-TiDB-v7.2.0-alpha")
    assert version < (7, 2)
    assert version < (7, 2, 0)
    assert version != (7, 2, 0)
    assert version > (7, 1, 9)


def test_is_immutable():
    version = TiDBVersion.parse("8.0.11-TiDB-v8.5.6")
    with pytest.raises(AttributeError):
        version.release = (9, 0, 0)


@given(st.text(), st.text())
def test_never_raises(text, details):
    assert isinstance(TiDBVersion.parse(text, details), TiDBVersion | None)
    version = TiDBVersion.parse(f"8.0.11-TiDB-{text}", details)
    assert version >= (0,)
    TiDBVersion.parse(text, f"Release Version: {details}\nEdition: {text}")


@given(
    st.tuples(st.integers(0, 999), st.integers(0, 99), st.integers(0, 99)),
    st.tuples(st.integers(0, 999), st.integers(0, 99), st.integers(0, 99)),
)
def test_releases_order_like_tuples(first, second):
    versions = [
        TiDBVersion.parse("8.0.11-TiDB-v{}.{}.{}".format(*release))
        for release in (first, second)
    ]
    assert (versions[0] < versions[1]) == (first < second)
    assert (versions[0] == versions[1]) == (first == second)
