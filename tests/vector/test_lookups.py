from __future__ import annotations

import numpy as np
import pytest
from django.core.exceptions import FieldError
from django.db.models import F

from django_tidb_vector import VectorValue

from .models import Item

pytestmark = pytest.mark.works("vector")


@pytest.fixture
def items(db):
    Item.objects.bulk_create(
        [
            Item(pk=1, embedding=[1, 2, 3], other=[1]),
            Item(pk=2, embedding=[1, 2, 4], other=[3, 4]),
            Item(pk=3, embedding=[0.1, 0.2, 0.3]),
            Item(pk=4),
        ]
    )


def found(**lookup):
    rows = Item.objects.filter(**lookup).order_by("pk")
    return list(rows.values_list("pk", flat=True))


@pytest.mark.parametrize(
    ("lookup", "value", "expected"),
    [
        ("embedding", [1, 2, 3], [1]),
        ("embedding", np.array([1, 2, 3]), [1]),
        ("embedding", np.float32([0.1, 0.2, 0.3]), [3]),
        ("embedding__exact", "[1, 2, 3]", [1]),
        ("embedding__exact", VectorValue([1, 2, 3]), [1]),
        ("embedding__exact", F("embedding"), [1, 2, 3]),
        ("embedding__in", [[1, 2, 3], np.array([1, 2, 4]), None], [1, 2]),
        ("embedding__in", [VectorValue([1, 2, 3]), [1, 2, 4]], [1, 2]),
        ("embedding__gt", [1, 2, 3], [2]),
        ("embedding__gte", [1, 2, 3], [1, 2]),
        ("embedding__lt", [1, 2, 3], [3]),
        ("embedding__lte", [1, 2, 3], [1, 3]),
        ("embedding__range", ([0, 9, 9], [1, 2, 3]), [1, 3]),
        ("embedding__isnull", True, [4]),
        ("embedding", None, [4]),
        ("other__dims", 2, [2]),
        ("other__dims__lte", 2, [1, 2]),
        ("other__norm", 5, [2]),
        ("other__norm__lt", 5, [1]),
    ],
)
def test_lookup(items, lookup, value, expected):
    assert found(**{lookup: value}) == expected


def test_exclude(items):
    rows = Item.objects.exclude(embedding=np.array([1, 2, 3])).order_by("pk")
    assert [item.pk for item in rows] == [2, 3, 4]


def test_subquery(items):
    inner = Item.objects.filter(pk__lte=2).values("embedding")
    assert found(embedding__in=inner) == [1, 2]


def test_dimensions_that_do_not_fit_are_refused_before_any_sql():
    with pytest.raises(ValueError, match="expected 3 dimensions, not 2"):
        Item.objects.filter(embedding=[1, 2])


@pytest.mark.parametrize("lookup", ["contains", "startswith", "iexact", "regex"])
def test_no_lookups_of_texts(lookup):
    with pytest.raises(FieldError, match=f"Unsupported lookup '{lookup}'"):
        Item.objects.filter(**{f"embedding__{lookup}": "1"})
