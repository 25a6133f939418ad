"""Test the demo, which is run as its README says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.works("vector")

PROJECT = Path(__file__).parents[2] / "examples" / "semantic_search"

WIDTH = 100

# Questions, each with a name that must be among the hits.
ANSWERS = {
    "how do I run a migration backwards": (
        "django.db.migrations.executor.MigrationExecutor.unapply_migration"
    ),
    "send an email to several people": "django.core.mail.send_mass_mail",
    "log a user out": "django.contrib.auth.views.LogoutView",
    "check that a password is strong enough": (
        "django.contrib.auth.password_validation.validate_password"
    ),
    "hash a password before storing it": "django.contrib.auth.hashers.make_password",
    "redirect to another page": "django.shortcuts.redirect",
    "show a 404 page when the object does not exist": (
        "django.shortcuts.get_object_or_404"
    ),
    "split a long list into pages": "django.core.paginator.Paginator.get_page",
    "insert many rows at once": "django.db.models.query.QuerySet.bulk_create",
    "run a function after the transaction is committed": (
        "django.db.transaction.on_commit"
    ),
    "only logged in users may see this view": (
        "django.contrib.auth.decorators.login_required"
    ),
    "return JSON from a view": "django.http.response.JsonResponse",
    "which language does the visitor want": (
        "django.utils.translation.trans_real.get_language_from_request"
    ),
    "turn off CSRF protection for one view": (
        "django.views.decorators.csrf.csrf_exempt"
    ),
    "temporarily change a setting in a test": (
        "django.test.testcases.SimpleTestCase.settings"
    ),
    "avoid one query per related object": (
        "django.db.models.query.QuerySet.prefetch_related"
    ),
    "parse a date from a string": "django.utils.dateparse.parse_date",
    "generate a random secret token": "django.utils.crypto.get_random_string",
    "cache the output of a view": "django.views.decorators.cache.cache_page",
    "find an object or create it if it is missing": (
        "django.db.models.query.QuerySet.get_or_create"
    ),
    "shorten a text to a number of words": (
        "django.template.defaultfilters.truncatewords"
    ),
}

ASK = """
import json
from search.embedding import Embedder
from search.models import DIMENSIONS, Document
documents = sorted(Document.objects.values_list("name", "text"))
embedder = Embedder(documents, DIMENSIONS)
hits = {}
for question in %s:
    nearest = Document.objects.nearest(embedder.embed(question))[:10]
    hits[question] = [document.name for document in nearest]
print(json.dumps(hits))
"""

COUNT = """
import json
from django.db.models import Max, Min
from search.models import Document, SearchLog
print(json.dumps([
    Document.objects.aggregate(Min("pk"), Max("pk")),
    list(SearchLog.objects.order_by("pk").values_list("question", "best_hit__name")),
]))
"""

CREATED = """
import json
from django.db import connection
from search.models import Document, SearchLog
statements = []
with connection.cursor() as cursor:
    for model in (Document, SearchLog):
        cursor.execute(f"SHOW CREATE TABLE {model._meta.db_table}")
        statements.append(cursor.fetchone()[1])
print(json.dumps(statements))
"""


class Demo:
    def __init__(self):
        self.environ = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "semantic_search.settings",
            "TIDB_NAME": f"test_demo_{os.getpid()}",
            "COLUMNS": str(WIDTH),
        }

    def manage(self, *args, **environ):
        return subprocess.run(
            [sys.executable, "manage.py", *args],
            cwd=PROJECT,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def output(self, *args):
        result = self.manage(*args)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return result.stdout

    def shell(self, code):
        return self.output("shell", "-v", "0", "-c", code)


@pytest.fixture(scope="module")
def demo(tidb_server):
    demo = Demo()
    yield demo
    demo.shell(
        "from django.db import connection\n"
        "with connection._nodb_cursor() as cursor:\n"
        f"    cursor.execute('DROP DATABASE IF EXISTS {demo.environ['TIDB_NAME']}')"
    )


@pytest.fixture(scope="module")
def first_output(demo):
    return demo.output("demo")


def tables(output):
    """Return the hits of each question: distance, kind, name and docstring."""
    tables = {}
    for line in output.splitlines():
        if question := re.fullmatch(r"(.+) \(\d+ ms\)", line):
            hits = tables[question[1]] = []
        elif hit := re.fullmatch(r" +(\d\.\d{3})  (\w+) +([\w.]+) +(\S.*)", line):
            hits.append(hit.groups())
    return tables


def test_built_in_questions(first_output):
    found = tables(first_output)
    assert len(found) > 2
    for question, hits in found.items():
        distances = [float(distance) for distance, *_ in hits]
        assert len(hits) == 10
        assert distances == sorted(distances)
        assert distances[0] < 0.6
        assert {kind for _, kind, *_ in hits} <= {
            "module",
            "class",
            "function",
            "method",
        }
        assert ANSWERS[question] in [name for *_, name, _ in hits]


def test_table_fits_the_terminal(first_output):
    lines = [
        line
        for line in first_output.splitlines()
        if re.match(r"distance| +\d\.\d{3} ", line)
    ]
    assert max(map(len, lines)) == WIDTH
    columns = None
    for line in lines:
        if line.startswith("distance"):
            columns = [line.index(title) for title in ("kind", "name", "docstring")]
        for column in columns:
            assert line[column - 2 : column].isspace()
            assert not line[column].isspace()


def test_corpus_is_real(first_output):
    stored = re.search(r"Stored (\d+) documents, each with a vector", first_output)
    assert int(stored[1]) > 1500
    assert re.search(r"Passed over \d+ modules", first_output)


def test_query_version_and_plan(first_output):
    _, rest = first_output.split("The last query:\n")
    query, rest = rest.split("The server: ")
    version, plan = rest.split("Its plan:\n")
    assert re.search(
        r"VEC_COSINE_DISTANCE\(`search_document`.`embedding`, "
        r"'\[\S+, \S+, \.\.\. 510 more\]'\)",
        query,
    )
    assert "ORDER BY" in query
    assert query.strip().endswith("LIMIT 10")
    assert re.match(r"TiDB \d+\.\d+\.\d+ \(.*TiDB", version)
    assert "TopN" in plan
    assert "vec_cosine_distance" in plan


def test_tables(demo, first_output):
    document, log = json.loads(demo.shell(CREATED))
    assert re.search(r"`id` bigint\S* NOT NULL .*AUTO_RANDOM\(5\)", document)
    assert re.search(r"`embedding` vector\(512\) NOT NULL", document)
    assert "AUTO_ID_CACHE=1 " in log
    assert demo.output("makemigrations", "--check").startswith("No changes detected")


def test_second_run_stores_nothing(demo, first_output):
    keys, searches = json.loads(demo.shell(COUNT))
    question = "how do I run a migration backwards"

    output = demo.output("demo", *question.split())

    assert "documents are stored already." in output
    assert "Stored" not in output
    assert tables(output) == {question: tables(first_output)[question]}
    same_keys, more_searches = json.loads(demo.shell(COUNT))
    assert same_keys == keys
    assert more_searches == [*searches, [question, ANSWERS[question]]]
    # The sign bit and five random bits precede the 58 bits of the counter.
    assert keys["pk__max"] >> 58 > keys["pk__min"] >> 58
    assert re.search(
        rf"keys in \d+ of 32 ranges, from {keys['pk__min']} to {keys['pk__max']}; "
        rf"{len(more_searches)} searches logged",
        output,
    )


ONE_SEARCH = """
from django.db import transaction
from search.management.commands.demo import Command
from search.models import SearchLog

with transaction.atomic():
    SearchLog.objects.exclude(pk=SearchLog.objects.first().pk).delete()
    Command().show_counts()
    transaction.set_rollback(True)
"""


def test_one_search(demo, first_output):
    assert "; 1 search logged.\n" in demo.shell(ONE_SEARCH)


def test_corpus_is_stored_anew_when_outdated(demo, first_output):
    demo.shell(
        "from search.models import Document\n"
        "Document.objects.update(edition='Django 1.0')"
    )

    output = demo.output("demo", "how do I run a migration backwards")

    def stored(output):
        return re.search(r"Stored \d+ documents", output)[0]

    assert stored(output) == stored(first_output)


def test_answers(demo, first_output):
    hits = json.loads(demo.shell(ASK % list(ANSWERS)))
    missed = {
        question: hits[question]
        for question, name in ANSWERS.items()
        if name not in hits[question]
    }
    assert missed == {}


@pytest.mark.parametrize("question", ["", "  "])
def test_empty_question(demo, question):
    result = demo.manage("demo", question)
    assert result.returncode == 1
    assert result.stderr.startswith("CommandError: The question is empty.")


def test_unknown_words(demo, first_output):
    result = demo.manage("demo", "the", "xyzzy", "plugh")
    assert result.returncode == 1
    assert result.stderr.startswith(
        "CommandError: No word of 'the xyzzy plugh' occurs in the documents"
    )


def test_no_server(demo):
    # No server listens on port 1.
    result = demo.manage("demo", TIDB_HOST="127.0.0.1", TIDB_PORT="1")
    assert result.returncode == 1
    assert result.stderr.startswith(
        f"CommandError: Cannot create the database `{demo.environ['TIDB_NAME']}` on "
        "127.0.0.1:1: "
    )
