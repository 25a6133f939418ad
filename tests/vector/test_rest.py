from __future__ import annotations

import json

import django
import numpy as np
import pytest
from django.db.models import Value
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer

from django_tidb_vector.rest import VectorSerializerField

from .models import Item


class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["embedding", "other"]


class SearchSerializer(serializers.Serializer):
    vector = VectorSerializerField(dimensions=2)


def test_model_serializer_writes_short_numbers():
    item = Item(embedding=np.float32([0.1, -2.5, 3]))
    serializer = ItemSerializer(item)
    assert isinstance(serializer.fields["embedding"], VectorSerializerField)
    assert json.loads(JSONRenderer().render(serializer.data)) == {
        "embedding": [0.1, -2.5, 3.0],
        "other": None,
    }


@pytest.mark.works("vector")
@pytest.mark.django_db
def test_model_serializer_saves():
    serializer = ItemSerializer(data={"embedding": [1, 2.5, 3]})
    assert serializer.is_valid(), serializer.errors
    pk = serializer.save().pk
    assert Item.objects.get(pk=pk).embedding.tolist() == [1, 2.5, 3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], "Not a valid vector: expected 3 dimensions, not 2."),
        (
            [1, True, 3],
            "Not a valid vector: element 1 is True, which is not a real number.",
        ),
        ("x", "Not a valid vector: 'x' is not a vector, as in [1, 2.5, -3]."),
    ],
)
def test_model_serializer_refuses(data, message):
    serializer = ItemSerializer(data={"embedding": data})
    assert not serializer.is_valid()
    assert serializer.errors == {"embedding": [message]}


def test_field_of_a_plain_serializer():
    serializer = SearchSerializer(data={"vector": [3, 4]})
    assert serializer.is_valid()
    vector = serializer.validated_data["vector"]
    assert vector.dtype == np.float32
    assert vector.tolist() == [3, 4]
    assert SearchSerializer({"vector": vector}).data == {"vector": [3.0, 4.0]}
    assert not SearchSerializer(data={"vector": None}).is_valid()


@pytest.mark.skipif(django.VERSION < (5, 0), reason="db_default is new in Django 5.0")
def test_a_db_default_that_is_not_known_yet():
    default = Value("[1,2]")
    assert VectorSerializerField().to_representation(default) is None
