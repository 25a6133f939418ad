from __future__ import annotations

import numpy as np
import pytest
from django.core.exceptions import FieldError
from django.db import connections

from django_tidb_vector import (
    CosineDistance,
    L1Distance,
    L2Distance,
    NegativeInnerProduct,
    VectorIndex,
)

from .models import Item

pytestmark = pytest.mark.works("vector")

TARGET = np.array([0.5, -1, 2])


@pytest.fixture
def norms(db):
    """Return the distances of 30 vectors from TARGET by their keys."""
    vectors = np.random.default_rng(3).normal(size=(30, 3)).astype(np.float32)
    Item.objects.bulk_create(
        Item(pk=pk, embedding=vector) for pk, vector in enumerate(vectors, 1)
    )
    Item.objects.create(pk=100)
    return dict(enumerate(np.linalg.norm(vectors - TARGET, axis=1), 1))


def near(norms, keys=None):
    return sorted(keys or norms, key=norms.__getitem__)


def test_nearest(norms):
    items = list(Item.objects.nearest("embedding", TARGET, k=5, metric=L2Distance))
    assert [item.pk for item in items] == near(norms)[:5]
    assert [item.distance for item in items] == pytest.approx(
        [norms[item.pk] for item in items], rel=1e-5
    )


def test_cosine_is_the_default_and_leaves_out_vectors_without_direction(norms):
    Item.objects.create(pk=101, embedding=[0, 0, 0])
    items = list(Item.objects.nearest("embedding", TARGET, k=100))
    assert len(items) == 30
    distances = [item.distance for item in items]
    assert distances == sorted(distances)


def test_maximum_distance(norms):
    found = Item.objects.nearest(
        "embedding", TARGET, k=100, metric=L2Distance, max_distance=2
    )
    expected = [pk for pk in near(norms) if norms[pk] <= 2]
    assert 0 < len(expected) < 30
    assert [item.pk for item in found] == expected


def test_filters_come_first(norms):
    found = Item.objects.filter(pk__gt=20).nearest(
        "embedding", TARGET, k=4, metric=L2Distance
    )
    assert [item.pk for item in found] == near(norms, range(21, 31))[:4]


@pytest.mark.parametrize("metric", [L2Distance, NegativeInnerProduct])
def test_filters_come_after_the_candidates(norms, metric):
    Item.objects.filter(pk=100).delete()
    candidates = [
        item.pk for item in Item.objects.nearest("embedding", TARGET, metric=metric)
    ]
    found = Item.objects.filter(pk__gt=15).nearest(
        "embedding", TARGET, k=4, metric=metric, candidates=10
    )
    assert [item.pk for item in found] == [pk for pk in candidates if pk > 15][:4]
    with_index = Item.objects.nearest(
        "embedding", TARGET, k=4, metric=metric, candidates=10
    )
    plan = with_index.explain()
    assert "TopN" in plan
    assert "count:10" in plan


@pytest.mark.parametrize(
    "metric", [CosineDistance, L1Distance, L2Distance, NegativeInnerProduct]
)
def test_rows_without_a_distance_are_no_candidates(norms, metric):
    # The server sorts NULL before all distances, so these rows must be left out.
    Item.objects.bulk_create(Item() for _ in range(20))
    arguments = {"metric": metric, "k": 3}
    found = Item.objects.nearest("embedding", TARGET, candidates=5, **arguments)
    exact = Item.objects.nearest("embedding", TARGET, **arguments)
    assert [item.pk for item in found] == [item.pk for item in exact]


def test_an_index_is_asked_for_nothing_but_the_nearest(monkeypatch):
    indexes = [VectorIndex(CosineDistance("embedding"), name="near")]
    monkeypatch.setattr(Item._meta, "indexes", indexes)

    def inner(metric):
        found = Item.objects.nearest("embedding", TARGET, metric=metric, candidates=10)
        return str(found.query).partition(" IN (")[2].rpartition(")")[0]

    assert " WHERE " not in inner(CosineDistance).partition(" LIMIT 10")[0]
    assert " WHERE " in inner(L2Distance).partition(" LIMIT 10")[0]
    options = {"skip_vector_indexes_without_tiflash": True}
    backend = type(connections["default"])
    monkeypatch.setattr(backend, "tidb_options", options)
    assert " WHERE " in inner(CosineDistance).partition(" LIMIT 10")[0]


def test_name_of_the_distance_and_hybrid(norms):
    found = Item.objects.nearest("embedding", TARGET, distance_name="score", k=3)
    assert all(hasattr(item, "score") for item in found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k is 0; it must be an integer of 1 or more"),
        ({"k": None}, "k is None; it must be an integer of 1 or more"),
        ({"candidates": True}, "candidates is True; it must be an integer of 1 or"),
        ({"candidates": 3}, "candidates is 3; it must be 10, as k is, or more"),
        ({"max_distance": float("nan")}, "max_distance is nan; it must be finite"),
    ],
)
def test_bad_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        Item.objects.nearest("embedding", TARGET, **arguments)


def test_bad_vector_and_field():
    with pytest.raises(ValueError, match=r"vector\.Item\.embedding with 3 dimensions"):
        Item.objects.nearest("embedding", [1, 2])
    with pytest.raises(FieldError, match=r"vector\.Item\.id is a BigAutoField"):
        Item.objects.nearest("id", [1, 2])
    with pytest.raises(ValueError, match="vector is None"):
        Item.objects.nearest("embedding", None)
    with pytest.raises(TypeError, match="metric is 'cosine'; it must be a class"):
        Item.objects.nearest("embedding", TARGET, metric="cosine")
