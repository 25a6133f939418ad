"""Vectors in forms: typed as JSON, [1, 2.5, -3]."""

from __future__ import annotations

from typing import Any

import numpy as np
from django import forms
from django.core import validators
from django.core.exceptions import ValidationError
from django.utils.html import format_html
from django.utils.safestring import SafeString

from .codec import Vector, encode, parse, preview

__all__ = ["EMPTY_VALUES", "VectorFormField", "VectorWidget"]


class _EmptyValues(tuple[Any, ...]):
    # "array in empty_values", which Django asks everywhere, has no single
    # answer unless arrays are told apart first.
    def __contains__(self, value: object) -> bool:
        return not isinstance(value, np.ndarray) and super().__contains__(value)


#: Django's empty values; no array is one of them.
EMPTY_VALUES = _EmptyValues(validators.EMPTY_VALUES)


class VectorWidget(forms.Textarea):
    """
    A text area for JSON. One that holds a vector is folded away below the
    number of dimensions and the first few elements.
    """

    def render(
        self, name: str, value: Any, attrs: Any = None, renderer: Any = None
    ) -> SafeString:
        area = super().render(name, value, attrs, renderer)
        try:
            summary = preview(parse(self.format_value(value) or ""))
        except ValueError:
            # Nothing, or nothing that is right: to be filled in.
            return area
        return format_html("<details><summary>{}</summary>{}</details>", summary, area)


class VectorFormField(forms.CharField):
    """A vector as JSON text; its value is a float32 array, or None if empty."""

    widget = VectorWidget
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
            return parse(text, self.dimensions)
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
