"""Test many writers at once: the ids are unique, and spread over the shards."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import close_old_connections, connections

from .models import Event
from .utils import connection

ROOT = Path(__file__).parents[2]
WRITERS = 8
ROWS = 40
SHARDS = 32

WRITE = """
import django, sys
from django.conf import settings
from tests.settings import INSTALLED_APPS

host, port, user, password, name = sys.argv[1:6]
settings.configure(
    INSTALLED_APPS=INSTALLED_APPS,
    DATABASES={"default": {
        "ENGINE": "django_tidb", "HOST": host, "PORT": int(port), "USER": user,
        "PASSWORD": password, "NAME": name,
    }},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()
from tests.autorandom.models import Event
for n in range(int(sys.argv[6])):
    print(Event.objects.create(name=str(n)).pk)
"""


def check(keys):
    # The writers got distinct ids, which are the ids in the table.
    assert len(keys) == len(set(keys)) == WRITERS * ROWS
    assert set(Event.objects.values_list("pk", flat=True)) == set(keys)
    # The ids are unique even without their random bits.
    assert len({key % 2**58 for key in keys}) == len(keys)
    # The random bits choose each of 32 shards with the same probability: the share of
    # a shard stays within six standard deviations, and the probability that a shard
    # is empty is below 1 in 500.
    shards = Counter(key >> 58 for key in keys)
    mean = len(keys) / SHARDS
    assert len(shards) >= SHARDS - 2
    assert max(shards.values()) < mean + 6 * math.sqrt(mean)


@pytest.mark.django_db(transaction=True)
def test_threads():
    keys, errors = [], []

    def write():
        try:
            keys.extend(Event.objects.create(name=str(n)).pk for n in range(ROWS))
        except Exception as error:
            errors.append(error)
        finally:
            close_old_connections()
            connections.close_all()

    threads = [threading.Thread(target=write) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    check(keys)


@pytest.mark.django_db(transaction=True)
def test_processes(tidb_server):
    arguments = [
        tidb_server.host,
        str(tidb_server.port),
        tidb_server.user,
        tidb_server.password,
        connection.settings_dict["NAME"],
        str(ROWS),
    ]

    def write(_):
        return subprocess.run(
            [sys.executable, "-c", WRITE, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
        )

    keys = []
    with ThreadPoolExecutor(WRITERS) as pool:
        for process in pool.map(write, range(WRITERS)):
            assert process.returncode == 0, process.stderr
            keys.extend(int(line) for line in process.stdout.split())
    check(keys)
