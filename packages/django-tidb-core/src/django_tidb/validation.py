from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage
from django.db.backends.mysql.validation import (
    DatabaseValidation as MySQLDatabaseValidation,
)

from .checks import check_old_distribution


class DatabaseValidation(MySQLDatabaseValidation):
    def check(self, **kwargs: Any) -> list[CheckMessage]:
        issues = super().check(**kwargs)
        # The app has the checks that belong to the project, once.
        if not apps.is_installed("django_tidb"):
            issues.extend(check_old_distribution())
        return issues
