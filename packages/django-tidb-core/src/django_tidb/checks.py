"""System checks for the whole project. Their ids are listed in the README."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Warning


def check_old_distribution(**kwargs: Any) -> list[CheckMessage]:
    """
    Warn (``tidb.W001``) while django-tidb, which owned the same files, is
    still installed beside django-tidb-core.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("django-tidb")
    except PackageNotFoundError:
        return []
    return [
        Warning(
            f"django-tidb {installed} is still installed. It shares files with "
            "django-tidb-core: whichever was installed last is in effect, and "
            "uninstalling either breaks the other.",
            hint=(
                "Run: pip uninstall -y django-tidb && pip install "
                "--force-reinstall --no-deps django-tidb-core"
            ),
            id="tidb.W001",
        )
    ]
