"""
Vectors in Django REST framework, for the extra ``rest``.

If INSTALLED_APPS contains rest_framework and django_tidb_vector, a ModelSerializer
uses the field of this module for each VectorField.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from rest_framework import serializers

from .codec import Vector, numbers
from .fields import VectorField

__all__ = ["VectorSerializerField"]


class VectorSerializerField(serializers.ModelField):
    """
    A vector as a JSON array of numbers; its validated value is a float32
    array. Takes `dimensions`, or the model's field.
    """

    def __init__(
        self,
        model_field: VectorField | None = None,
        *,
        dimensions: int | None = None,
        **kwargs: Any,
    ) -> None:
        field = model_field or VectorField(dimensions=dimensions)
        super().__init__(model_field=field, **kwargs)

    def get_attribute(self, instance: Any) -> Any:
        # ModelField would pass the whole instance to to_representation().
        return serializers.Field.get_attribute(self, instance)

    def to_internal_value(self, data: Any) -> Vector | None:
        try:
            return self.model_field.to_python(data)
        except ValidationError as error:
            raise serializers.ValidationError(error.messages, code="invalid") from error

    def to_representation(self, value: Any) -> list[float] | None:
        # The value of a db_default is unknown until the row has been read from the
        # database.
        return None if hasattr(value, "resolve_expression") else numbers(value)


def register() -> None:
    """Register the field with ModelSerializer."""
    mapping = serializers.ModelSerializer.serializer_field_mapping
    mapping[VectorField] = VectorSerializerField
