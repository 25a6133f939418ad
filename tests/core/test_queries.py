"""Test queries for which TiDB refuses MySQL's form, or gives a wrong answer to it."""

from __future__ import annotations

import cProfile
import datetime
import pstats
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import django
import pytest
from django.db import connections, models
from django.db.models import Count, Exists, F, Max, OuterRef, Subquery, Value
from django.db.models.functions import (
    Coalesce,
    ExtractYear,
    Greatest,
    Least,
    Now,
    Round,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from .models import Author, Book, Word

connection = connections["default"]
pytestmark = pytest.mark.django_db

examples = settings(max_examples=50)


@pytest.fixture
def authors():
    Author.objects.bulk_create(Author(name=name) for name in ("none", "one", "two"))
    one, two = Author.objects.get(name="one"), Author.objects.get(name="two")
    Book.objects.create(author=one, title="a", pages=100)
    Book.objects.create(author=two, title="b", pages=50)
    Book.objects.create(author=two, title="c", pages=500)


@examples
@given(
    number=st.integers(-(2**62), 2**62),
    precision=st.integers(-17, 2),
)
def test_round_of_an_integer(authors, number, precision):
    rounded = Author.objects.filter(name="one").values_list(
        Round(Value(number, models.BigIntegerField()), precision), flat=True
    )
    unit = Decimal(10) ** -precision
    expected = (Decimal(number) / unit).quantize(Decimal(1), ROUND_HALF_UP) * unit
    assert rounded.get() == expected
    assert isinstance(rounded.get(), int)


def test_round_of_an_unsigned_integer(authors):
    largest = Value(2**64 - 1, models.PositiveBigIntegerField())
    assert Author.objects.values_list(Round(largest), flat=True)[0] == 2**64 - 1


def test_round_of_another_number(authors):
    rounded = Round(Value(2.5, models.FloatField()) + F("pages"), 0)
    assert set(Book.objects.values_list(rounded, flat=True)) == {102, 52, 502}


@examples
@given(
    keys=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
        min_size=1,
        max_size=3,
    ).filter(lambda keys: not any(map(is_number, keys)))
)
def test_json_keys_of_any_characters(keys):
    value = "found"
    for key in reversed(keys):
        value = {key: value}
    word = Word.objects.create(text="json", data=value)
    words = Word.objects.filter(pk=word.pk)
    assert words.filter(data__has_key=keys[0]).exists()
    assert words.filter(data__has_keys=[keys[0], keys[0]]).exists()
    assert words.filter(data__has_any_keys=["no such key", keys[0]]).exists()
    transform = F("data")
    for key in keys:
        transform = models.fields.json.KeyTransform(key, transform)
    assert words.annotate(found=transform).values_list("found").get() == ("found",)


def is_number(key):
    try:
        int(key)
    except ValueError:
        return False
    return True


def latest():
    books = Book.objects.filter(author=OuterRef("pk")).order_by()
    return books.values("author").annotate(most=Max("pages")).values("most")


@pytest.mark.parametrize(
    ("order", "names"),
    [
        (F("most").asc(nulls_first=True), ["none", "one", "two"]),
        (F("most").asc(nulls_last=True), ["one", "two", "none"]),
        (F("most").desc(nulls_first=True), ["none", "two", "one"]),
        ("-most", ["two", "one", "none"]),
    ],
)
def test_distinct_and_ordered_by_a_subquery(authors, order, names):
    found = Author.objects.annotate(most=Subquery(latest())).order_by(order).distinct()
    assert [author.name for author in found] == names
    # Use the query as a subquery of another query.
    assert Author.objects.filter(pk__in=found.values("pk")).count() == 3
    assert found.count() == 3


def test_distinct_and_ordered_by_subqueries_that_are_not_selected(authors):
    books = Exists(Book.objects.filter(author=OuterRef("pk")))
    found = Author.objects.order_by(books.desc(), Subquery(latest()).desc())
    assert list(found.values_list("name", flat=True).distinct()) == [
        "two",
        "one",
        "none",
    ]


def test_having_a_subquery_that_refers_to_a_group(authors):
    long = Book.objects.filter(author=OuterRef("pk"), pages__gt=60).order_by()
    number = long.values("author").annotate(n=Count("pk")).values("n")
    found = Author.objects.annotate(all=Count("books")).filter(all=Subquery(number[:1]))
    assert list(found.values_list("name", flat=True)) == ["one"]


@pytest.mark.skipif(
    not hasattr(models, "AnyValue"),
    reason="New in Django 6.0: https://docs.djangoproject.com/en/6.0/releases/6.0/",
)
def test_any_value_in_a_larger_expression(authors):
    more = models.AnyValue("pages") + 1
    found = Book.objects.order_by().values("title").annotate(more=more)
    assert {row["title"]: row["more"] for row in found} == {"a": 101, "b": 51, "c": 501}


@pytest.mark.parametrize("scalar", [2, 3.2, Decimal("0.5"), F("pages")])
def test_durations_are_multiplied_and_divided(authors, scalar):
    duration = Value(datetime.timedelta(hours=1), models.DurationField())
    book = Book.objects.annotate(
        multiplied=models.ExpressionWrapper(duration * scalar, models.DurationField()),
        divided=models.ExpressionWrapper(duration / scalar, models.DurationField()),
    ).get(title="a")
    number = 100 if isinstance(scalar, F) else float(scalar)
    assert book.multiplied == datetime.timedelta(hours=number)
    assert book.divided == datetime.timedelta(hours=1) / number


def test_greatest_and_least_of_times_and_parameters(authors):
    then = datetime.datetime(2026, 11, 21, 12, 30, 5, 6, tzinfo=datetime.timezone.utc)
    later = then + datetime.timedelta(microseconds=1)
    Book.objects.filter(title="a").update(published=then)
    past = Value(datetime.datetime(1, 1, 1, tzinfo=datetime.timezone.utc))
    published = Coalesce("published", past)
    values = Book.objects.values_list(
        Greatest(published, Value(later)), Least(published, Value(later))
    )
    assert values.get(title="a") == (later, then)


def test_update_ordered_by_what_is_not_in_the_table(authors):
    books = Book.objects.annotate(letters=F("author__name")).order_by("letters")
    assert books.update(pages=1) == 3


@pytest.mark.works("expression-index")
def test_introspection_of_an_index_on_an_expression():
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE part (a INT, b VARCHAR(9), KEY lower_b (a, (LOWER(b))))"
        )
        try:
            constraints = connection.introspection.get_constraints(cursor, "part")
        finally:
            cursor.execute("DROP TABLE part")
    assert constraints["lower_b"]["columns"] == ["a", None]


@pytest.mark.skipif(
    django.VERSION < (5, 0),
    reason="New in Django 5.0: https://docs.djangoproject.com/en/5.0/releases/5.0/",
)
@pytest.mark.django_db(transaction=True)
def test_a_db_default_that_was_left_out_is_inserted(create_tables, monkeypatch):
    class Event(models.Model):
        name = models.CharField(max_length=9)
        year = models.IntegerField(db_default=ExtractYear(Now()))
        notes = models.TextField(db_default="none")
        level = models.IntegerField(db_default=3)

    monkeypatch.setitem(
        connection.settings_dict["OPTIONS"], "drop_unsupported_db_defaults", True
    )
    with pytest.warns(UserWarning, match="Dropped"):
        create_tables(Event)
    Event.objects.bulk_create([Event(name="bulk"), Event(name="set", year=1)])
    Event.objects.create(name="one")
    rows = Event.objects.values_list("name", "year", "notes", "level")
    this_year = datetime.datetime.now(datetime.timezone.utc).year
    assert set(rows) == {
        ("bulk", this_year, "none", 3),
        ("set", 1, "none", 3),
        ("one", this_year, "none", 3),
    }


def test_names_are_not_searched_for_percent_signs_each_time(authors):
    # The first query fills Django's caches.
    Book.objects.filter(author__name="one").get()
    with cProfile.Profile() as profile:
        Book.objects.filter(author__name="one").get()
    calls = {
        ("/".join(Path(file).parts[-2:]), name): count
        for (file, _, name), (_, count, *_) in pstats.Stats(profile).stats.items()
    }
    quote = "quote_name" if django.VERSION >= (6, 1) else "quote_name_unless_alias"
    # Each column is quoted, but only the first occurrence of a name calls in_format().
    # No name has a percent sign, so none is searched with a regular expression.
    asked = calls["django_tidb/compiler.py", quote]
    assert calls["django_tidb/names.py", "in_format"] < asked
    assert ("~", "<method 'sub' of 're.Pattern' objects>") not in calls
