from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core import checks


class TiDBVectorConfig(AppConfig):
    name = "django_tidb_vector"
    verbose_name = "TiDB vector search"

    def ready(self) -> None:
        from .indexes import check_indexes

        checks.register(check_indexes, checks.Tags.models)
        _validate_constraints()
        if apps.is_installed("django.contrib.admin"):
            _display_in_admin()
        if apps.is_installed("rest_framework"):
            from . import rest

            rest.register()


def _validate_constraints() -> None:
    """
    Make Django's constraint validation work for models with vectors. From
    Django 5.0 on it evaluates field values as booleans, which raises an error
    for arrays.
    """
    import numpy as np
    from django.db.models import Model

    from .fields import VectorField
    from .functions import VectorValue

    expression_map = getattr(Model, "_get_field_expression_map", None)
    if expression_map is None or hasattr(expression_map, "with_vectors"):
        return

    def with_vectors(self: Any, *args: Any, **kwargs: Any) -> Any:
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


def _display_in_admin() -> None:
    """
    Make the admin show a preview of vectors in lists and read-only fields.
    Django has no hook for this, and evaluates values as booleans, which raises
    an error for arrays.
    """
    from django.contrib.admin import helpers, utils
    from django.contrib.admin.templatetags import admin_list

    from .codec import preview
    from .fields import VectorField

    display_for_field = utils.display_for_field
    if hasattr(display_for_field, "with_vectors"):
        return

    def with_vectors(value: Any, field: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(field, VectorField) and value is not None:
            return preview(value)
        return display_for_field(value, field, *args, **kwargs)

    with_vectors.with_vectors = True  # type: ignore[attr-defined]
    for module in (utils, helpers, admin_list):
        module.display_for_field = with_vectors
