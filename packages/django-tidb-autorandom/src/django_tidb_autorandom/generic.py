"""
A system check for generic foreign keys whose object id is too small for
AUTO_RANDOM ids.

https://docs.djangoproject.com/en/stable/ref/contrib/contenttypes/#generic-relations
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Warning
from django.core.exceptions import FieldDoesNotExist
from django.db import connections, models, router
from django.db.backends.mysql.operations import DatabaseOperations
from django.db.models import Field, Model, Q

from django_tidb import is_tidb

from .fields import BigAutoRandomField

__all__ = ["check_generic_foreign_keys"]

# The number of models that a message names.
_NAMED = 3


def check_generic_foreign_keys(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """
    Warn of each GenericForeignKey that can refer to a model with an AUTO_RANDOM key,
    but whose object id cannot hold the ids of that model.

    If models declare a relation to the generic foreign key, by a GenericRelation or by
    a field such as django-taggit's TaggableManager, only these models are considered.
    Otherwise, all models are considered that ``limit_choices_to`` of the content type
    allows.
    """
    if not apps.is_installed("django.contrib.contenttypes"):
        return []
    return [
        issue
        for model in apps.get_models()
        if app_configs is None or model._meta.app_config in app_configs
        for issue in check_model(model, apps.get_models())
    ]


def check_model(
    model: type[Model], everything: Iterable[type[Model]]
) -> Iterator[CheckMessage]:
    """
    Yield a warning for each generic foreign key of `model` that is too small.
    `everything` contains all models of the project.
    """
    # This import fails if django.contrib.contenttypes is not installed.
    from django.contrib.contenttypes.fields import GenericForeignKey

    for key in model._meta.private_fields:
        if not isinstance(key, GenericForeignKey):
            continue
        try:
            object_id = model._meta.get_field(key.fk_field)
            content_type = model._meta.get_field(key.ct_field)
        except FieldDoesNotExist:
            # Django's own check reports the missing field.
            continue
        # Proxies and child models inherit the field, which is checked once.
        if object_id.model is not model:
            continue
        too_large = [
            target._meta.label
            for target in _targets(key, content_type, everything)
            if (field := _auto_random_key(target)) is not None
            and not _fits(2 ** (field.range - 1) - 1, object_id)
            and any(
                is_tidb(connections[alias])
                and router.allow_migrate_model(alias, model)
                and router.allow_migrate_model(alias, target)
                for alias in connections
            )
        ]
        if too_large:
            named = ", ".join(sorted(too_large)[:_NAMED])
            more = len(too_large) - _NAMED
            yield Warning(
                f"{object_id}, of type {_describe(object_id)}, cannot hold the ids of "
                f"{named}{f' and {more} more' if more > 0 else ''}: these have "
                "AUTO_RANDOM keys, and the GenericForeignKey "
                f"{key.name!r} can refer to them.",
                hint=(
                    "Make the object id a BigIntegerField, which may take a model of "
                    "your own, or give new tables BigAutoRandomField(range=32, "
                    "shard_bits=4). The documentation shows both: "
                    "https://github.com/pingcap/django-tidb/blob/main/docs/topics/"
                    "ids.md#generic-foreign-keys"
                ),
                obj=object_id,
                id="tidb_autorandom.W006",
            )


def _auto_random_key(model: type[Model]) -> BigAutoRandomField | None:
    """
    Return the AUTO_RANDOM field at the root of the primary key of `model`, or None if
    the primary key is not derived from such a field.
    """
    field = model._meta.pk
    while field.remote_field:
        field = field.target_field
    # A range of a wrong type is reported by the check of the field itself.
    if isinstance(field, BigAutoRandomField) and type(field.range) is int:
        return field
    return None


def _describe(field: Field) -> str:
    if isinstance(field, models.CharField):
        return f"{type(field).__name__}(max_length={field.max_length})"
    return type(field).__name__


def _fits(number: int, field: Field) -> bool:
    """
    Return whether `field` can store `number`. Fields other than integer and
    text fields are meant for other types of keys, so the result is True for
    them.
    """
    if isinstance(field, models.CharField):
        return field.max_length is None or len(str(number)) <= field.max_length
    if not isinstance(field, models.IntegerField):
        return True
    ranges = DatabaseOperations.integer_field_ranges
    _, largest = ranges.get(field.get_internal_type(), (None, number))
    return number <= largest


def _targets(
    key: Any, content_type: Field, everything: Iterable[type[Model]]
) -> list[type[Model]]:
    """Return the models that a generic foreign key can refer to."""
    model = key.model
    declared, by_own_field = set(), False
    for source in everything:
        for field, target in _relations(source):
            if target is model and key.fk_field == getattr(
                field, "object_id_field_name", key.fk_field
            ):
                declared.add(source._meta.concrete_model)
            # If the app of the generic foreign key itself defines such a field,
            # projects declare all of their relations by this field.
            by_own_field |= _package(type(field)) == _package(model)
    if by_own_field or declared:
        return list(declared)
    limit = getattr(content_type.remote_field, "limit_choices_to", None)
    return [
        target
        for target in everything
        if not target._meta.proxy and _allows(limit, target) is not False
    ]


def _relations(model: type[Model]) -> Iterator[tuple[Any, Any]]:
    """
    Yield each field of `model` that declares a generic relation, with the model
    that the relation leads to.
    """
    from django.contrib.contenttypes.fields import GenericRelation

    for field in model._meta.private_fields:
        if isinstance(field, GenericRelation):
            yield field, field.remote_field.model
    for field in model._meta.many_to_many:
        if not isinstance(field, models.ManyToManyField):
            yield field, getattr(field.remote_field, "through", None)


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _allows(limit: Any, model: type[Model]) -> bool | None:
    """
    Return whether ``limit_choices_to`` of a content type allows `model`, or
    None if only a query could tell.
    """
    if isinstance(limit, dict):
        limit = Q(**limit)
    if isinstance(limit, Q):
        if limit.connector not in (Q.AND, Q.OR):
            return None
        found = {_allows(child, model) for child in limit.children}
        decides = limit.connector == Q.OR
        if decides in found:
            result = decides
        elif None in found:
            return None
        else:
            result = not decides
        return not result if limit.negated else result
    if isinstance(limit, tuple):
        lookup, value = limit
        name, _, operator = lookup.partition("__")
        own = {"app_label": model._meta.app_label, "model": model._meta.model_name}
        if name in own and operator in ("", "exact"):
            return own[name] == value
        if name in own and operator == "in" and isinstance(value, list | tuple | set):
            return own[name] in value
    return None
