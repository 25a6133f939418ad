"""Vectors in forms: typed as JSON, [1, 2.5, -3]."""

from __future__ import annotations

from typing import Any

import numpy as np
from django import forms
from django.core import validators
from django.core.exceptions import ValidationError

from .codec import Vector, decode, encode, to_vector

__all__ = ["EMPTY_VALUES", "VectorFormField"]


class _EmptyValues(tuple[Any, ...]):
    # "array in empty_values", which Django asks everywhere, has no single
    # answer unless arrays are told apart first.
    def __contains__(self, value: object) -> bool:
        return not isinstance(value, np.ndarray) and super().__contains__(value)


#: Django's empty values; no array is one of them.
EMPTY_VALUES = _EmptyValues(validators.EMPTY_VALUES)


class VectorFormField(forms.CharField):
    """A vector as JSON text; its value is a float32 array, or None if empty."""

    widget = forms.Textarea
    empty_values = EMPTY_VALUES

    def __init__(self, *, dimensions: int | None = None, **kwargs: Any) -> None:
        self.dimensions = dimensions
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        return value if value is None or isinstance(value, str) else encode(value)

    def to_python(self, value: Any) -> Vector | None:
        text = super().to_python(value)
        if not text:
            return None
        try:
            return to_vector(decode(text), self.dimensions)
        except ValueError as error:
            raise ValidationError(
                f"Enter a valid vector: {error}.", code="invalid"
            ) from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            new = self.to_python(data)
            old = self.to_python(self.prepare_value(initial))
        except ValidationError:
            return True
        if old is None or new is None:
            return old is not new
        return not np.array_equal(old, new)
