"""System checks of models and databases. Their ids are listed in the README."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections
from django.db.models import Model

from django_tidb import is_tidb

from .capacity import DEFAULT_THRESHOLD, id_usage
from .fields import RANGE, BigAutoRandomField
from .options import invalid_values, option_values, read_options

if TYPE_CHECKING:
    from django_tidb.base import DatabaseWrapper

_INVALID = {
    "tidb_auto_id_cache": "tidb_autorandom.E007",
    "tidb_shard_row_id_bits": "tidb_autorandom.E009",
    "tidb_pre_split_regions": "tidb_autorandom.E011",
    "tidb_clustered": "tidb_autorandom.E013",
}


def check_options(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check the row id options in ``class Meta`` of all models that have a table."""
    models: Iterable[type[Model]] = (
        apps.get_models(include_auto_created=True)
        if app_configs is None
        else (
            model
            for config in app_configs
            for model in config.get_models(include_auto_created=True)
        )
    )
    return [
        issue
        for model in models
        if model._meta.managed and not model._meta.proxy
        for issue in check_model_options(model)
    ]


def check_model_options(model: type[Model]) -> Iterable[CheckMessage]:
    """Yield a message for each wrong row id option of one model."""
    values = option_values(model)
    wrong = invalid_values(values)
    for name, must in wrong.items():
        yield Error(
            f"'{name}' is {values[name]!r}; it {must}.",
            hint=f"Correct it in class Meta, or leave '{name}' out.",
            obj=model,
            id=_INVALID[name],
        )
    if wrong:
        return
    auto_field = model._meta.auto_field
    random = isinstance(auto_field, BigAutoRandomField)
    if "tidb_auto_id_cache" in values and (auto_field is None or random):
        # The server accepts and ignores this option.
        yield Warning(
            "'tidb_auto_id_cache' is set, but the model has no AUTO_INCREMENT key.",
            hint="Leave it out, or use an AutoField as the primary key.",
            obj=model,
            id="tidb_autorandom.W003",
        )
    clustered = values.get("tidb_clustered")
    if random and clustered is False:
        yield Error(
            "'tidb_clustered' is False, but AUTO_RANDOM needs a clustered key.",
            hint="Leave it out, or use another primary key.",
            obj=model,
            id="tidb_autorandom.E008",
        )
    bits = values.get("tidb_shard_row_id_bits")
    if bits is not None and clustered is not False:
        yield Error(
            "'tidb_shard_row_id_bits' is set, but the primary key is clustered, so "
            "the rows have no ids of their own.",
            hint="Add tidb_clustered = False, or use a BigAutoRandomField.",
            obj=model,
            id="tidb_autorandom.E010",
        )
    regions = values.get("tidb_pre_split_regions")
    if random:
        bits = auto_field.shard_bits
    if regions is not None and (bits is None or regions > bits):
        yield Error(
            f"'tidb_pre_split_regions' is {regions}, more than the shard bits, which "
            f"are {bits or 0}.",
            hint=(
                "The shard bits are 'tidb_shard_row_id_bits', or those of a "
                "BigAutoRandomField."
            ),
            obj=model,
            id="tidb_autorandom.E012",
        )


def check_server(connection: DatabaseWrapper) -> Iterable[CheckMessage]:
    """
    Yield a message for each AUTO_RANDOM key that this version of the server does not
    support.
    """
    version, alias = connection.tidb_version, connection.alias
    fields = [
        field
        for model in connection.validation.models()
        for field in model._meta.local_fields
        if isinstance(field, BigAutoRandomField)
    ]
    for field in fields:
        if field.range != RANGE[1] and version < (6, 3):
            yield Warning(
                f"The TiDB {version} of database {alias!r} knows no 'range', so the "
                f"keys have {RANGE[1]} bits, not {field.range}.",
                hint=(
                    "Upgrade to TiDB 6.3 before the table is created: the range of an "
                    "existing table cannot be changed."
                ),
                obj=field,
                id="tidb_autorandom.W002",
            )
        if field.composite_key() and version < (6, 5):
            yield Error(
                f"The TiDB {version} of database {alias!r} has no AUTO_RANDOM in "
                "composite primary keys.",
                hint="Use a key of one column, or TiDB 6.5.",
                obj=field,
                id="tidb_autorandom.E006",
            )


def check_table_options(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """
    Warn of tables whose options differ from ``class Meta``. Only TiDB databases among
    `databases` are checked. From Django 5.2 on, makemigrations itself finds such
    changes, so this check is for earlier versions.
    """
    issues: list[CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        if not is_tidb(connection):
            continue
        models = [
            model for model in connection.validation.models() if not model._meta.proxy
        ]
        tables = connection.introspection.existing(
            model._meta.db_table for model in models
        )
        for model in models:
            values = option_values(model)
            if model._meta.db_table.lower() not in tables:
                continue
            found = read_options(connection, model._meta.db_table)
            if isinstance(model._meta.auto_field, BigAutoRandomField):
                # A table that was converted from AUTO_INCREMENT keeps the option, which
                # has no effect on it.
                found.pop("tidb_auto_id_cache", None)
            different = [
                f"{name} {values.get(name)} but {found.get(name)} in the table"
                # The server does not report tidb_pre_split_regions of an existing
                # table.
                for name in ("tidb_auto_id_cache", "tidb_shard_row_id_bits")
                if values.get(name) != found.get(name)
            ]
            if values.get("tidb_clustered") not in (None, found["tidb_clustered"]):
                different.append("another tidb_clustered than the table")
            if different and not invalid_values(values):
                issues.append(
                    Warning(
                        f"The model has {', '.join(different)} "
                        f"{model._meta.db_table!r} of the database {alias!r}.",
                        hint=(
                            "Unless a migration is yet to be run: Django before 5.2 "
                            "does not find the change. Write into a migration: "
                            "django_tidb_autorandom.operations.AlterRowIdOptions("
                            f"{model._meta.model_name!r}, {values!r})"
                        ),
                        obj=model,
                        id="tidb_autorandom.W005",
                    )
                )
    return issues


def check_id_usage(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """
    Warn of tables that have few ids left. Only TiDB databases among `databases` are
    checked, and in them only the tables of models that the routers place there.
    """
    issues: list[CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        if not is_tidb(connection):
            continue
        threshold = connection.tidb_options.get("id_usage_threshold", DEFAULT_THRESHOLD)
        if type(threshold) not in (int, float) or not 0 < threshold <= 1:
            issues.append(
                Error(
                    f"'id_usage_threshold' in OPTIONS of the database {alias!r} is "
                    f"{threshold!r}; it must be a number above 0 and up to 1.",
                    hint=f"Leave it out for {DEFAULT_THRESHOLD}.",
                    id="tidb_autorandom.E014",
                )
            )
            continue
        labels = {
            model._meta.db_table: model._meta.label
            for model in connection.validation.models()
            if not model._meta.proxy
        }
        issues += [
            Warning(
                f"{labels[usage.table]} has used {usage.share:.1%} of the "
                f"{usage.capacity} ids of {usage.kind} in the database {alias!r}.",
                hint=(
                    "An id that was inserted explicitly may have used them up: see "
                    "FORCE AUTO_RANDOM_BASE and FORCE AUTO_INCREMENT. Otherwise give "
                    "the table a larger key."
                ),
                obj=usage.table,
                id="tidb_autorandom.W004",
            )
            for usage in id_usage(alias, labels)
            if usage.share > threshold
        ]
    return issues
