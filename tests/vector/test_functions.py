from __future__ import annotations

import numpy as np
import pytest
from django.db.models import F, Min

from django_tidb_vector import (
    CosineDistance,
    L1Distance,
    L2Distance,
    NegativeInnerProduct,
)

from .models import Item

pytestmark = pytest.mark.works("vector")

DISTANCES = {
    L1Distance: lambda a, b: np.abs(a - b).sum(),
    L2Distance: lambda a, b: np.linalg.norm(a - b),
    CosineDistance: lambda a, b: 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b),
    NegativeInnerProduct: lambda a, b: -(a @ b),
}


@pytest.fixture
def vectors(db):
    vectors = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    Item.objects.bulk_create(
        Item(embedding=vector, other=vector[::-1]) for vector in vectors
    )
    return vectors.astype(np.float64)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("kind", [list, np.array])
def test_annotate_and_order_by(vectors, distance, kind):
    target = np.array([0.5, -1, 2])
    found = list(
        Item.objects.annotate(distance=distance("embedding", kind(target.tolist())))
        .order_by("distance")
        .values_list("distance", flat=True)
    )
    expected = sorted(DISTANCES[distance](vector, target) for vector in vectors)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_between_columns(vectors, distance):
    found = list(
        Item.objects.order_by("pk").values_list(
            distance("embedding", F("other")), flat=True
        )
    )
    expected = [DISTANCES[distance](vector, vector[::-1]) for vector in vectors]
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_alias_and_filter(vectors):
    near = Item.objects.alias(distance=L2Distance("embedding", [0, 0, 0])).filter(
        distance__lt=1
    )
    assert near.count() == (np.linalg.norm(vectors, axis=1) < 1).sum() > 0


def test_order_by_without_annotation(vectors):
    first = Item.objects.order_by(L2Distance("embedding", [0, 0, 0])).first()
    nearest = vectors[np.linalg.norm(vectors, axis=1).argmin()]
    assert first.embedding.tolist() == nearest.tolist()


def test_aggregate(vectors):
    result = Item.objects.aggregate(least=Min(L2Distance("embedding", [0, 0, 0])))
    assert result["least"] == pytest.approx(np.linalg.norm(vectors, axis=1).min())


@pytest.mark.django_db
def test_null():
    Item.objects.create()
    assert (
        Item.objects.values_list(L2Distance("embedding", [1, 2, 3]), flat=True).get()
        is None
    )


def test_distance_from_nothing(vectors):
    distances = Item.objects.values_list(L2Distance("embedding", None), flat=True)
    assert set(distances) == {None}


def test_expressions_are_hashable_and_comparable():
    first = L2Distance("embedding", [1, 2, 3])
    assert hash(first) == hash(L2Distance("embedding", np.array([1.0, 2, 3])))
    assert first == L2Distance("embedding", (1, 2, 3))
    assert first != L2Distance("embedding", [1, 2, 4])
    assert first != L1Distance("embedding", [1, 2, 3])


def test_bad_vector():
    with pytest.raises(ValueError, match="element 1 is nan"):
        L2Distance("embedding", [1, float("nan")])
