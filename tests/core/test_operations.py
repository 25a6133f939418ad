from __future__ import annotations

import json

import pytest
from django.db import NotSupportedError, connections, transaction
from django.db.models import CharField, F, Value
from django.db.models.functions import Chr

from django_tidb.version import TiDBVersion

from .models import Author, Book

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "format", [None, "text", "row", "traditional", "brief", "verbose", "DOT"]
)
def test_explain(format):
    assert "Point_Get" in Author.objects.filter(name="x").explain(format=format)


@pytest.mark.parametrize(
    "format",
    [
        None,
        "text",
        "row",
        pytest.param("brief", marks=pytest.mark.works("explain-analyze-brief")),
        pytest.param("verbose", marks=pytest.mark.works("explain-analyze-format")),
        pytest.param("DOT", marks=pytest.mark.works("explain-analyze-format")),
    ],
)
def test_explain_analyze(format):
    authors = Author.objects.filter(name="x")
    assert "Point_Get" in authors.explain(format=format, analyze=True)


def test_explain_analyze_in_a_format_that_the_server_lacks():
    # Take a separate connection, because a connection caches its feature flags.
    other = connections["default"].copy()
    other.tidb_version = TiDBVersion.parse("5.7.25-TiDB-v5.1.0")
    assert other.ops.explain_query_prefix(analyze=True) == "EXPLAIN ANALYZE"
    with pytest.raises(ValueError, match=r"TiDB 5\.1\.0 has .* ROW only, not BRIEF"):
        other.ops.explain_query_prefix("brief", analyze=True)


@pytest.mark.works("explain-tidb-json")
def test_explain_tidb_json():
    plan = json.loads(Author.objects.all().explain(format="tidb_json"))
    assert plan[0]["id"].startswith("TableReader")


@pytest.mark.parametrize("format", ["tree", "json", "nonsense"])
def test_explain_unknown_format(format):
    with pytest.raises(ValueError) as error:
        Author.objects.all().explain(format=format)
    assert f"{format.upper()} is not a recognized format" in str(error.value)
    assert "Allowed formats: BRIEF, DOT, ROW, " in str(error.value)


def test_explain_unknown_option():
    with pytest.raises(ValueError, match="Unknown options: verbose"):
        Author.objects.all().explain(verbose=True)


def test_upsert():
    Author.objects.create(name="Ann", bio="old")
    Author.objects.bulk_create(
        [Author(name="Ann", bio="new"), Author(name="Bob", bio="his")],
        update_conflicts=True,
        update_fields=["bio"],
    )
    assert dict(Author.objects.values_list("name", "bio")) == {
        "Ann": "new",
        "Bob": "his",
    }


def test_ignore_conflicts():
    Author.objects.create(name="Ann", bio="old")
    Author.objects.bulk_create([Author(name="Ann", bio="new")], ignore_conflicts=True)
    assert Author.objects.get().bio == "old"


def test_regex():
    Author.objects.create(name="Ann")
    assert Author.objects.filter(name__regex="^A").exists()
    assert not Author.objects.filter(name__regex="^a").exists()


@pytest.mark.parametrize(
    "code", [0, 65, 127, 128, 233, 2047, 2048, 8364, 65535, 65536, 128512, 1114111]
)
def test_chr(code):
    author = Author.objects.create(name="x")
    # Django 4.2 does not know that the result of Chr is a text.
    char = Chr(Value(code), output_field=CharField())
    found = Author.objects.annotate(char=char).get(pk=author.pk)
    assert found.char == chr(code)


def test_update_may_read_its_own_table():
    author = Author.objects.create(name="Ann")
    Book.objects.create(author=author, title="A", pages=1)
    Book.objects.filter(pk__in=Book.objects.filter(pages=1)).update(
        pages=F("pages") + 1
    )
    assert Book.objects.get().pages == 2


def test_subquery_with_a_limit():
    authors = [Author.objects.create(name=name) for name in "abc"]
    first = Author.objects.order_by("name").values("pk")[:2]
    assert set(Author.objects.filter(pk__in=first)) == set(authors[:2])


def test_delete_may_read_its_own_table():
    for name in "abc":
        Author.objects.create(name=name)
    last = Author.objects.order_by("-name").values("pk")[:1]
    Author.objects.filter(pk__in=last).delete()
    assert [author.name for author in Author.objects.order_by("name")] == ["a", "b"]


def test_intersection_and_difference():
    for name in "abc":
        Author.objects.create(name=name)
    authors = Author.objects.values_list("name", flat=True)
    low, high = authors.filter(name__lte="b"), authors.filter(name__gte="b")
    assert list(low.intersection(high)) == ["b"]
    assert list(low.difference(high)) == ["a"]


def test_select_for_update():
    Author.objects.create(name="Ann")
    with transaction.atomic():
        assert Author.objects.select_for_update(nowait=True).get().name == "Ann"
    with transaction.atomic(), pytest.raises(NotSupportedError, match="SKIP LOCKED"):
        Author.objects.select_for_update(skip_locked=True).get()


@pytest.mark.works("savepoint")
def test_savepoints():
    assert connections["default"].features.uses_savepoints
    with transaction.atomic():
        Author.objects.create(name="kept")
        with pytest.raises(RuntimeError), transaction.atomic():
            Author.objects.create(name="rolled back")
            raise RuntimeError
    assert Author.objects.get().name == "kept"
