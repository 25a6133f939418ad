"""Test lookups that ignore case: they also work in TiDB's default collation."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.models import F, Value
from django.db.models.functions import Collate

from .models import Word

pytestmark = pytest.mark.django_db

TEXT = "Élan VITAL 50%_off\\ Привет 😀"


@pytest.fixture(autouse=True)
def words():
    Word.objects.create(text=TEXT, insensitive=TEXT, data={"key": TEXT})
    Word.objects.create(text="other 😁", insensitive="other", data={"key": "other"})


def test_the_database_has_the_default_collation():
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@collation_database")
        assert cursor.fetchone() == ("utf8mb4_bin",)


@pytest.mark.parametrize("field", ["text", "insensitive", "data__key"])
@pytest.mark.parametrize("change", [str.lower, str.upper, str])
@pytest.mark.parametrize(
    ("lookup", "part"),
    [
        ("iexact", TEXT),
        ("icontains", "vital 50%_off\\ Прив"),
        ("icontains", "😀"),
        ("istartswith", "élan"),
        ("iendswith", "ПРИВЕТ 😀"),
    ],
)
def test_ignores_case(field, change, lookup, part):
    assert Word.objects.filter(**{f"{field}__{lookup}": change(part)}).count() == 1


@pytest.mark.parametrize("pattern", ["^élan", "ПРИВЕТ", "vital\\s\\d+"])
def test_iregex(pattern):
    assert Word.objects.filter(text__iregex=pattern).get().text == TEXT


@pytest.mark.parametrize("lookup", ["exact", "contains", "startswith", "regex"])
def test_others_are_case_sensitive(lookup):
    assert Word.objects.filter(**{f"text__{lookup}": "Other 😁"}).count() == 0
    assert Word.objects.filter(**{f"text__{lookup}": "other 😁"}).count() == 1


@pytest.mark.parametrize("lookup", ["iexact", "icontains", "istartswith", "iendswith"])
def test_between_columns(lookup):
    Word.objects.update(insensitive=Value("OTHER 😁"))
    found = Word.objects.filter(**{f"text__{lookup}": F("insensitive")})
    assert [word.text for word in found] == ["other 😁"]


def test_wildcards_are_escaped():
    assert not Word.objects.filter(text__icontains="50__off").exists()
    assert not Word.objects.filter(text__iexact="%").exists()


def test_with_an_explicit_collation():
    words = Word.objects.annotate(as_bin=Collate("text", "utf8mb4_bin"))
    assert words.filter(as_bin__icontains="VITAL").count() == 1


def test_numbers():
    pk = Word.objects.first().pk
    assert Word.objects.filter(pk__icontains=str(pk)).exists()
