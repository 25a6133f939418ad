"""Test rows that are inserted with explicit ids."""

from __future__ import annotations

import pytest
from django.db import connections, models
from django.db.models import Value

connection = connections["default"]


class UnsignedAutoField(models.BigAutoField):
    """BIGINT UNSIGNED AUTO_INCREMENT, as a third-party package defines it."""

    def get_internal_type(self):
        return "PositiveBigIntegerField"

    def db_type(self, connection):
        return "bigint UNSIGNED AUTO_INCREMENT"


class TextualAutoField(models.BigAutoField):
    """An AUTO_INCREMENT key whose values are strings in Python."""

    def from_db_value(self, value, expression, connection):
        return f"number {value}"

    def to_python(self, value):
        return value

    def get_prep_value(self, value):
        return int(str(value).removeprefix("number "))


@pytest.fixture
def make_hit(make_model, create_tables):
    """
    Return a function that makes a model with the given key, and creates its table.
    """

    def make(key):
        Hit = make_model("Hit", id=key, name=models.CharField(max_length=20))
        create_tables(Hit)
        return Hit

    return make


def save(model, **values):
    row = model(**values)
    row.save()
    return row


def get_or_create(model, **values):
    row, created = model.objects.get_or_create(**values)
    assert created
    return row


def update_or_create(model, **values):
    row, created = model.objects.update_or_create(
        id=values.pop("id"), defaults={"name": "new"}
    )
    assert created
    return row


def bulk_create(model, **values):
    (row,) = model.objects.bulk_create([model(**values)])
    return row


WAYS = [
    save,
    lambda model, **values: model.objects.create(**values),
    get_or_create,
    update_or_create,
    bulk_create,
]


@pytest.mark.parametrize(
    ("field", "smallest"),
    [
        (models.SmallAutoField, -(2**15)),
        (models.AutoField, -(2**31)),
        (models.BigAutoField, -(2**63)),
    ],
)
def test_negative_ids_are_kept(make_hit, field, smallest):
    Hit = make_hit(field(primary_key=True))
    for insert in WAYS:
        Hit.objects.all().delete()
        for id in (-5, 7, -1, smallest):
            row = insert(Hit, id=id)
            assert row.pk == id
            row.name = "again"
            row.save()
            assert Hit.objects.get(pk=id).name == "again"
        drawn = Hit.objects.create().pk
        assert drawn > 7
        # The server converts a string to a number, as it does for positive ids.
        assert insert(Hit, id="-6").pk in (-6, "-6")
        ids = Hit.objects.order_by("pk").values_list("pk", flat=True)
        assert list(ids) == [smallest, -6, -5, -1, 7, drawn]


def test_negative_id_that_the_server_computes_is_read_back(make_hit):
    Hit = make_hit(models.BigAutoField(primary_key=True))
    row = Hit(id=Value(2) - Value(7))
    row.save(force_insert=True)
    assert row.pk == Hit.objects.get().pk == -5


def test_child_and_parent_have_the_same_negative_id(
    make_hit, make_model, create_tables
):
    Hit = make_hit(models.BigAutoField(primary_key=True))
    Child = make_model("ChildHit", Hit)
    create_tables(Child)
    assert Child._meta.pk.name == "hit_ptr"
    for insert in (save, get_or_create):
        Child.objects.all().delete()
        row = insert(Child, id=-5)
        assert (row.id, row.hit_ptr_id) == (-5, -5)
        row.name = "again"
        row.save()
        assert Child.objects.get().hit_ptr_id == Hit.objects.get().pk == -5


def test_unsigned_ids_are_kept(make_hit, make_model):
    Hit = make_hit(UnsignedAutoField(primary_key=True))
    # inspectdb writes a BigAutoField for such a column.
    Inspected = make_model(
        "InspectedHit",
        id=models.BigAutoField(primary_key=True),
        name=models.CharField(max_length=20),
        meta={"managed": False, "db_table": Hit._meta.db_table},
    )
    for hit in (Hit, Inspected):
        Hit.objects.all().delete()
        for id in (2**63 + 5, 2**64 - 5, 2**63 - 1):
            assert save(hit, id=id).pk == id
        ids = Hit.objects.order_by("pk").values_list("pk", flat=True)
        assert list(ids) == [2**63 - 1, 2**63 + 5, 2**64 - 5]


def test_unsigned_ids_that_the_server_draws_are_read_back(make_hit):
    Hit = make_hit(UnsignedAutoField(primary_key=True))
    with connection.cursor() as cursor:
        cursor.execute(
            f"ALTER TABLE {Hit._meta.db_table} AUTO_INCREMENT = {2**63 + 5:d}"
        )
    assert Hit.objects.create().pk == Hit.objects.get().pk >= 2**63
    row = Hit(id=Value(2**63 + 1))
    row.save(force_insert=True)
    assert row.pk == 2**63 + 1


def test_ids_of_an_unsigned_key_that_is_no_auto_field_are_kept(make_hit):
    Hit = make_hit(models.PositiveBigIntegerField(primary_key=True))
    assert save(Hit, id=2**64 - 5).pk == Hit.objects.get().pk == 2**64 - 5


def test_negative_ids_pass_through_converters(make_hit):
    Hit = make_hit(TextualAutoField(primary_key=True))
    assert save(Hit, id=-5).pk == "number -5"
    assert save(Hit, id="number -6").pk == "number -6"
    drawn = Hit.objects.create()
    assert Hit.objects.get(pk=drawn.pk).pk == drawn.pk
