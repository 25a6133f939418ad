"""Form fields for vectors, which users enter as JSON: [1, 2.5, -3]."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from django import forms
from django.core import validators
from django.core.exceptions import ValidationError
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from .codec import Vector, encode, parse, preview, to_vector

__all__ = ["EMPTY_VALUES", "VectorFormField", "VectorWidget"]


class _EmptyValues(tuple[Any, ...]):
    # Django evaluates "value in empty_values" in many places. The comparison of an
    # array is ambiguous as a boolean, so this container never compares arrays.
    def __contains__(self, value: object) -> bool:
        return not isinstance(value, np.ndarray) and super().__contains__(value)


#: Django's empty values, in a container for which "array in EMPTY_VALUES" works.
EMPTY_VALUES = _EmptyValues(validators.EMPTY_VALUES)

# The largest number of dimensions for which a form shows all elements.
_IN_FULL = 16


class _Typed(str):
    """The text that a user has entered, with the existing vector as base64."""

    current: str


class VectorWidget(forms.Textarea):
    """
    A text area for a vector as JSON.

    For an existing vector of more than 16 dimensions it shows the first
    elements and the size, and keeps the vector in a hidden input. The vector is
    kept if the text area is left empty. A check box clears it if the field is
    not required.
    """

    def render(
        self, name: str, value: Any, attrs: Any = None, renderer: Any = None
    ) -> SafeString:
        text = ""
        try:
            vector = parse(self.format_value(value) or "")
        except ValueError:
            # The text area is empty or invalid, so it is shown to the user again.
            vector = None
        if (vector is None or vector.size <= _IN_FULL) and isinstance(value, _Typed):
            # The existing vector is kept if the text area is left empty.
            text = str(value)
            try:
                vector = _from_base64(value.current)
            except ValueError:
                vector = None
        if vector is None or vector.size <= _IN_FULL:
            return super().render(name, value, attrs, renderer)
        attrs = {**(attrs or {})}
        attrs.pop("required", None)
        clear = format_html(
            '<label><input type="checkbox" name="{}-clear"> {}</label>',
            name,
            gettext("Clear"),
        )
        return format_html(
            '<div>{} <input type="hidden" name="{}-current" value="{}">{}</div>{}',
            preview(vector),
            name,
            base64.b64encode(vector.astype("<f4").tobytes()).decode(),
            "" if self.is_required else clear,
            super().render(name, text, attrs, renderer),
        )

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        text = super().value_from_datadict(data, files, name)
        current = data.get(f"{name}-current")
        if not current or f"{name}-clear" in data:
            return text
        if text:
            typed = _Typed(text)
            typed.current = current
            return typed
        try:
            return encode(_from_base64(current))
        except ValueError:
            # Invalid base64 is returned as it is, so that the form field reports an
            # error.
            return current

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return f"{name}-current" not in data and super().value_omitted_from_data(
            data, files, name
        )


def _from_base64(text: str) -> Vector:
    return to_vector(np.frombuffer(base64.b64decode(text), "<f4"))


class VectorFormField(forms.CharField):
    """
    A form field for a vector as JSON. Its value is a float32 array, or None if
    empty.
    """

    widget = VectorWidget
    empty_values = EMPTY_VALUES

    def __init__(self, *, dimensions: int | None = None, **kwargs: Any) -> None:
        self.dimensions = dimensions
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        if hasattr(value, "resolve_expression"):
            # The value is a db_default, which the server has not computed yet.
            return None
        return value if value is None or isinstance(value, str) else encode(value)

    def to_python(self, value: Any) -> Vector | None:
        # The value of a disabled field is its initial value, which may be a vector.
        text = super().to_python(self.prepare_value(value))
        if not text:
            return None
        try:
            return parse(text, self.dimensions)
        except ValueError as error:
            raise ValidationError(
                f"Enter a valid vector: {error}.", code="invalid"
            ) from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        if self.disabled:
            return False
        try:
            new = self.to_python(data)
            old = self.to_python(self.prepare_value(initial))
        except ValidationError:
            return True
        if old is None or new is None:
            return old is not new
        return not np.array_equal(old, new)
