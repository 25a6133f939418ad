"""The parts that all scenarios share."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

import django

from tests.faults import connect
from tests.tidbserver.cluster import ClusterServer


class Log:
    """Lines with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"{self.seconds:7.1f} s  {text}", flush=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start


def execute(server: ClusterServer, *statements: str) -> tuple[tuple[Any, ...], ...]:
    """Execute statements on one server with the driver; return the last one's rows."""
    with (
        closing(connect(server.port)) as connection,
        connection.cursor() as cursor,
    ):
        for statement in statements:
            cursor.execute(statement)
        return tuple(cursor.fetchall())


def set_up(apps: Iterable[str], databases: Mapping[str, Mapping[str, Any]]) -> None:
    """Set up Django in this process, with chaos/settings.py."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "chaos.settings"
    os.environ["CHAOS_APPS"] = " ".join(apps)
    os.environ["CHAOS_DATABASES"] = json.dumps(databases)
    django.setup()
