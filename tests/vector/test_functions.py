from __future__ import annotations

import numpy as np
import pytest
from django.db.models import (
    Avg,
    Case,
    CharField,
    Count,
    F,
    Max,
    Min,
    OuterRef,
    Q,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce

from django_tidb_vector import (
    CosineDistance,
    L1Distance,
    L2Distance,
    NegativeInnerProduct,
    VectorAsText,
    VectorDims,
    VectorField,
    VectorFromText,
    VectorNorm,
    VectorValue,
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


def test_between_values():
    distance = L2Distance([0, 3], [4, 0])
    assert distance == L2Distance(np.array([0, 3]), (4, 0))


@pytest.mark.parametrize("distance", DISTANCES)
def test_wrong_dimensions_are_refused_before_any_sql(distance):
    with pytest.raises(ValueError) as error:
        Item.objects.annotate(distance=distance("embedding", [1, 2]))
    assert str(error.value) == (
        f"{distance.__name__} is for vectors of the same number of dimensions, not "
        "for vector.Item.embedding with 3 dimensions and a vector with 2 dimensions."
    )


def test_dims_norm_and_text(vectors):
    found = list(
        Item.objects.order_by("pk").values_list(
            VectorDims("embedding"), VectorNorm("embedding"), VectorAsText("embedding")
        )
    )
    assert [dims for dims, _, _ in found] == [3] * len(vectors)
    assert [norm for _, norm, _ in found] == pytest.approx(
        np.linalg.norm(vectors, axis=1)
    )
    texts = [text for _, _, text in found]
    assert [np.float32(text[1:-1].split(",")).tolist() for text in texts] == (
        vectors.tolist()
    )


def test_from_text(vectors):
    text = Value("[1, 2, 3]", CharField())
    item = Item.objects.annotate(
        vector=VectorFromText(text), dims=VectorDims([1, 2])
    ).first()
    assert item.vector.dtype == np.float32
    assert item.vector.tolist() == [1, 2, 3]
    assert item.dims == 2


def test_addition_and_subtraction(vectors):
    found = Item.objects.order_by("pk").values_list(
        F("embedding") + F("other"), F("embedding") - VectorValue([1, 2, 3])
    )
    for vector, (total, difference) in zip(vectors, found, strict=True):
        assert total == pytest.approx(vector + vector[::-1], rel=1e-5)
        assert difference == pytest.approx(vector - [1, 2, 3], rel=1e-5)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value", [VectorValue([7, 8.5, 9]), Value(np.array([7, 8.5, 9]), VectorField())]
)
def test_case_and_coalesce(value):
    Item.objects.create(pk=1, embedding=[1, 2, 3])
    Item.objects.create(pk=2)
    rows = Item.objects.order_by("pk").values_list(
        Coalesce("embedding", value),
        Case(When(pk=1, then=value), default="embedding"),
    )
    (first, changed), (filled, nothing) = rows
    assert first.tolist() == [1, 2, 3]
    assert filled.tolist() == changed.tolist() == [7, 8.5, 9]
    assert nothing is None


def test_in_the_condition_of_case(vectors):
    near = L2Distance("embedding", [0, 0, 0])
    count = Item.objects.aggregate(
        near=Count(Case(When(Q(pk__gt=0), then=near))),
        average=Avg(near),
        most=Max(near),
    )
    norms = np.linalg.norm(vectors, axis=1)
    assert count["near"] == len(vectors)
    assert count["average"] == pytest.approx(norms.mean())
    assert count["most"] == pytest.approx(norms.max())


def test_subquery(vectors):
    nearest = (
        Item.objects.exclude(pk=OuterRef("pk"))
        .annotate(distance=L2Distance("embedding", OuterRef("embedding")))
        .order_by("distance")
        .values("embedding")[:1]
    )
    first = Item.objects.order_by("pk").annotate(nearest=Subquery(nearest)).first()
    distances = np.linalg.norm(vectors - vectors[0], axis=1)
    expected = vectors[distances.argsort()[1]]
    assert first.nearest.tolist() == expected.tolist()


@pytest.mark.django_db
def test_group_by():
    Item.objects.bulk_create(
        Item(embedding=vector) for vector in [[1, 2, 3], [1, 2, 3], [3, 2, 1]]
    )
    by_vector = Item.objects.values("embedding").annotate(n=Count("pk")).order_by("n")
    assert [(row["embedding"].tolist(), row["n"]) for row in by_vector] == [
        ([3, 2, 1], 1),
        ([1, 2, 3], 2),
    ]
    by_distance = (
        Item.objects.values(distance=L2Distance("embedding", [1, 2, 3]))
        .annotate(n=Count("pk"))
        .order_by("distance")
    )
    assert [row["n"] for row in by_distance] == [2, 1]


@pytest.mark.django_db
def test_greatest_and_least_vectors():
    Item.objects.bulk_create(
        Item(embedding=vector) for vector in [[1, 2, 3], [1, 2, 4], [0, 9, 9]]
    )
    result = Item.objects.aggregate(least=Min("embedding"), most=Max("embedding"))
    assert result["least"].tolist() == [0, 9, 9]
    assert result["most"].tolist() == [1, 2, 4]


def test_a_column_as_second_argument_is_an_f():
    with pytest.raises(ValueError, match=r"'other' is not a v.*write F\('other'\)"):
        L2Distance("embedding", "other")
