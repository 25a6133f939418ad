"""Test the worker of django-tasks-db, configured as docs/ref/settings.md says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import django
import pytest
from uv import find_uv_bin

pytestmark = pytest.mark.skipif(
    django.VERSION < (6, 0),
    reason="Before Django 6.0, which has tasks, another package has to be beside it: "
    "https://pypi.org/project/django-tasks-db/",
)

SETTINGS = Path(__file__).parents[2] / "docs/ref/settings.md"
WORKERS = 4
TASKS = 100

APP = {
    "app/__init__.py": "",
    "app/models.py": """
        from django.db import models

        class Run(models.Model):
            number = models.IntegerField()
            process = models.IntegerField()
            began = models.FloatField()
            ended = models.FloatField()
    """,
    "app/tasks.py": """
        import os
        import time

        from django.tasks import task

        from .models import Run

        @task
        def run(number):
            began = time.time()
            time.sleep(0.02)
            Run.objects.create(
                number=number, process=os.getpid(), began=began, ended=time.time()
            )
    """,
}
ENQUEUE = f"""
    from app.tasks import run

    for number in range({TASKS}):
        run.enqueue(number)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """
    Return a folder with django-tasks-db, which pip would refuse for some versions of
    Django.
    """
    folder = tmp_path_factory.mktemp("django-tasks-db")
    packages = ("django-tasks-db", "django-stubs-ext", "typing_extensions")
    subprocess.run(
        [
            *(find_uv_bin(), "pip", "install", "-q", "--no-deps"),
            *("--python", sys.executable, "--target", folder, *packages),
        ],
        check=True,
    )
    return str(folder)


def documented_option():
    pattern = r"^```python\n# mysite/settings.py\n(.*?)^```"
    (block,) = re.findall(pattern, SETTINGS.read_text(), re.MULTILINE | re.DOTALL)
    return block


def test_workers(project, path, tidb):
    for name, text in APP.items():
        project.write(name, text)
    settings = """\
        DATABASES = {"default": TIDB}
        TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
    """
    apps = ("django_tidb", "django_tasks_db", "app")
    project.configure(*apps, more=settings)
    output = project.manage("migrate", "--run-syncdb", PYTHONPATH=path)
    assert "tidb.W005" in output
    output = project.manage("db_worker", "--batch", check=False, PYTHONPATH=path)
    assert "['OPTIONS']['skip_locked'] = 'wait'" in output

    project.configure(*apps, more=textwrap.dedent(settings) + documented_option())
    command = (sys.executable, "manage.py", "db_worker", "--interval", "0.2")
    with ExitStack() as stack:
        workers = []
        for _ in range(WORKERS):
            worker = subprocess.Popen(
                [*command, "--max-tasks", str(TASKS // WORKERS)],
                cwd=project.path,
                env={**os.environ, "PYTHONPATH": path},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.enter_context(worker)
            stack.callback(worker.kill)
            workers.append(worker)
        for worker in workers:
            started = any("Starting worker" in line for line in worker.stdout)
            assert started, worker.wait()
        project.shell(ENQUEUE, PYTHONPATH=path)
        for worker in workers:
            output, _ = worker.communicate(timeout=60)
            assert worker.returncode == 0, output

    results = f"{project.name}.django_tasks_database_dbtaskresult"
    tidb.execute(f"SELECT DISTINCT status FROM {results}")
    assert tidb.fetchall() == (("SUCCESSFUL",),)
    tidb.execute(f"SELECT number, process, began, ended FROM {project.name}.app_run")
    runs = tidb.fetchall()
    assert sorted(number for number, *_ in runs) == list(range(TASKS))
    processes = Counter(process for _, process, _, _ in runs)
    assert list(processes.values()) == [TASKS // WORKERS] * WORKERS
    # The workers ran at the same time, not one after the other.
    assert any(
        process != other and began < other_began < ended
        for _, process, began, ended in runs
        for _, other, other_began, _ in runs
    )
