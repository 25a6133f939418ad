"""
Replacements of internals of Django, each with the ticket that would make it
unnecessary. For models and fields without vectors they call the original.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from django.db.models import Field, Model

from .codec import preview
from .fields import VectorField
from .functions import VectorValue

__all__ = ["display_in_admin", "validate_constraints"]

# -- Model._get_field_expression_map, which evaluates values of fields as booleans
# -- https://code.djangoproject.com/ticket/35638


def validate_constraints() -> None:
    """
    Make Django's constraint validation work for models with vectors. From
    Django 5.0 on it evaluates field values as booleans, which raises an error
    for arrays.
    """
    expression_map = getattr(Model, "_get_field_expression_map", None)
    if expression_map is None or hasattr(expression_map, "with_vectors"):
        return

    def with_vectors(self: Model, *args: Any, **kwargs: Any) -> Any:
        vectors = {
            field: value
            for field in self._meta.concrete_fields
            if isinstance(field, VectorField)
            and isinstance(value := self.__dict__.get(field.attname), np.ndarray)
        }
        try:
            for field, value in vectors.items():
                self.__dict__[field.attname] = VectorValue(value, field)
            return expression_map(self, *args, **kwargs)
        finally:
            for field, value in vectors.items():
                self.__dict__[field.attname] = value

    with_vectors.with_vectors = True  # type: ignore[attr-defined]
    Model._get_field_expression_map = with_vectors


# -- display_for_field() of the admin, which fields cannot extend
# -- https://code.djangoproject.com/ticket/30577


def display_in_admin() -> None:
    """
    Make the admin show a preview of vectors in lists and read-only fields.
    Django has no hook for this, and evaluates values as booleans, which raises
    an error for arrays.
    """
    # The modules can be imported only if the admin is installed.
    from django.contrib.admin import helpers, utils
    from django.contrib.admin.templatetags import admin_list

    display_for_field = utils.display_for_field
    if hasattr(display_for_field, "with_vectors"):
        return

    def with_vectors(value: Any, field: Field, *args: Any, **kwargs: Any) -> Any:
        if isinstance(field, VectorField) and value is not None:
            return preview(value)
        return display_for_field(value, field, *args, **kwargs)

    with_vectors.with_vectors = True  # type: ignore[attr-defined]
    for module in (utils, helpers, admin_list):
        module.display_for_field = with_vectors
