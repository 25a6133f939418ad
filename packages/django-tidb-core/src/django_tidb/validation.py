from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Info, Warning
from django.db import DEFAULT_DB_ALIAS, NotSupportedError, router
from django.db.backends.mysql.validation import (
    DatabaseValidation as MySQLDatabaseValidation,
)
from django.db.models import CharField, Field, Model

from .checks import check_driver, check_old_distribution, check_search_backends
from .defaults import check_default
from .known_issues import KNOWN_ISSUES, concerned
from .model_fields import has_db_default
from .names import TableName
from .plugins import get_plugins

# The maximum number of fields that a message names.
_SHOWN = 5

#: The labels of apps that call select_for_update(skip_locked=True).
#: django-tasks-db and the app of django-tasks that it replaces have the same
#: label.
_SKIP_LOCKED_APPS = {"django_tasks_database"}


class DatabaseValidation(MySQLDatabaseValidation):
    """
    The system checks of one database, which run with ``check --database`` and
    ``migrate``. Their ids are listed in the README.
    """

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        issues = super().check(**kwargs)
        # These checks concern the whole project. If the app is installed, it has
        # registered them, so that they run once and not for each database.
        if not apps.is_installed("django_tidb"):
            issues.extend(check_old_distribution())
            issues.extend(check_driver(databases=[self.connection.alias]))
            if self.connection.alias == DEFAULT_DB_ALIAS:
                issues.extend(check_search_backends())
        # The checks of a mirror would repeat the messages of the database that it
        # mirrors.
        if not self.connection.settings_dict["TEST"].get("MIRROR"):
            issues.extend(self._check_skip_locked())
            issues.extend(self._check_ignored_constraints())
            issues.extend(self._check_collation())
            for plugin in get_plugins():
                issues.extend(plugin.check_database(self.connection))
        return issues

    def check_field(self, field: Field, **kwargs: Any) -> list[CheckMessage]:
        return [
            *super().check_field(field, **kwargs),
            *self._check_db_default(field),
            *self._check_intermediate_table(field),
        ]

    def _check_db_default(self, field: Field) -> Iterable[CheckMessage]:
        # Django's check fields.E012 reports expressions that no database allows as a
        # default.
        if (
            not has_db_default(field)
            or not field._db_default_expression.allowed_default
        ):
            return
        try:
            # Since Django 6.1 these checks also run in commands that need no database.
            check_default(field, self.connection)
        except NotSupportedError as error:
            if self.connection.tidb_options.get("drop_unsupported_db_defaults"):
                yield Warning(
                    f"Dropped: {error}",
                    hint="OPTIONS['drop_unsupported_db_defaults'] says so.",
                    obj=field,
                    id="tidb.W003",
                )
            else:
                yield Error(str(error), obj=field, id="tidb.E001")

    def _check_intermediate_table(self, field: Field) -> Iterable[CheckMessage]:
        # Django appends the name of the field to the db_table of the model.
        through: Any = getattr(field.remote_field, "through", None)
        if not getattr(getattr(through, "_meta", None), "auto_created", False):
            return
        try:
            TableName.of(through._meta.db_table)
        except ValueError as error:
            meta = field.model._meta
            yield Error(
                f"The name of the intermediate table of {field} is not valid: {error}",
                hint=(
                    f"Write the db_table of {meta.label} without the outer backticks, "
                    f"{meta.db_table.strip('`')!r}, or set the db_table of the field."
                ),
                obj=field,
                id="tidb.E002",
            )

    def models(self) -> list[type[Model]]:
        """Return the managed models whose tables the routers place in this database."""
        return [
            model
            for model in apps.get_models(include_auto_created=True)
            if model._meta.managed
            and router.allow_migrate_model(self.connection.alias, model)
        ]

    def _check_skip_locked(self) -> Iterable[CheckMessage]:
        connection = self.connection
        if (
            connection.features.has_select_for_update_skip_locked
            or "skip_locked" in connection.tidb_options
        ):
            return
        found = _SKIP_LOCKED_APPS & {model._meta.app_label for model in self.models()}
        for label in sorted(found):
            app = apps.get_app_config(label)
            yield Warning(
                f"The app {app.name!r}, whose tables are in the database "
                f"{connection.alias!r}, takes tasks with select_for_update("
                "skip_locked=True), which raises NotSupportedError on TiDB: "
                f"{KNOWN_ISSUES['skip-locked'].link}",
                hint=(
                    f"With DATABASES[{connection.alias!r}]['OPTIONS']['skip_locked'] = "
                    "'wait' its workers wait for each other while they take a task, "
                    "and run the tasks side by side."
                ),
                id="tidb.W005",
            )

    def _check_ignored_constraints(self) -> Iterable[CheckMessage]:
        if self.connection.features.supports_table_check_constraints:
            return
        found = concerned(KNOWN_ISSUES["check-constraint"], self.models())
        if found:
            names = ", ".join(
                f"{label} ({', '.join(what)})" for label, what in found.items()
            )
            yield Warning(
                f"The server of database {self.connection.alias!r} ignores CHECK "
                f"constraints, so they are not created: {names}.",
                hint=(
                    "On TiDB 7.2 or later run SET GLOBAL tidb_enable_check_constraint "
                    "= ON before the migrations that create them."
                ),
                id="tidb.W002",
            )

    def _check_collation(self) -> Iterable[CheckMessage]:
        collation = self.connection.tidb_variables["collation_database"]
        if not collation.endswith("_bin"):
            return
        labels = sorted(
            {
                f"{model._meta.label}.{field.name}"
                for model in self.models()
                for field in model._meta.local_fields
                if isinstance(field, CharField)
                and field.unique
                and not field.db_collation
            }
        )
        if labels:
            shown = ", ".join(labels[:_SHOWN])
            if len(labels) > _SHOWN:
                shown += f" and {len(labels) - _SHOWN} more"
            insensitive = "utf8mb4_0900_ai_ci"
            # https://docs.pingcap.com/tidb/stable/character-set-and-collation
            if self.connection.tidb_version < (7, 4):
                insensitive = "utf8mb4_general_ci"
            yield Info(
                f"The database {self.connection.alias!r} has the collation "
                f"{collation}: unlike with MySQL's default, unique fields, exact "
                f"lookups and ordering are case-sensitive. Unique fields: {shown}.",
                hint=(
                    "Where case should not count, create the database with a collation "
                    f"such as {insensitive!r}, or give the field a db_collation. Else "
                    "add 'tidb.I001' to SILENCED_SYSTEM_CHECKS."
                ),
                id="tidb.I001",
            )
