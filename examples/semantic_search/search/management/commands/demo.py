from __future__ import annotations

import inspect
import shutil
import sys
import zlib
from argparse import ArgumentParser
from collections.abc import Iterator
from time import perf_counter
from typing import Any, ClassVar

import django
import sklearn
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError, call_command
from django.core.serializers.base import ProgressBar
from django.db import OperationalError, connection
from django.utils.crypto import get_random_string

from search import corpus, embedding, views
from search.models import DIMENSIONS, Document, DocumentQuerySet, SearchLog
from search.queries import sql_of

QUESTIONS = (
    "how do I run a migration backwards",
    "show a 404 page when the object does not exist",
    "only logged in users may see this view",
    "cache the output of a view",
)

HITS = 10
BATCH_SIZE = 200

# A checksum of the modules that collect the texts and compute their vectors. If the
# checksum changes, the documents are stored again.
SETTINGS = zlib.crc32("".join(map(inspect.getsource, (corpus, embedding))).encode())
EDITION = (
    f"Django {django.get_version()}, scikit-learn {sklearn.__version__}, "
    f"{DIMENSIONS} dimensions, settings {SETTINGS:08x}"
)


class Command(BaseCommand):
    help = "Store the docstrings of Django in TiDB, and search them for an answer."
    # From Django 6.1 on, some system checks query the database. They cannot run before
    # handle() has created the database.
    requires_system_checks: ClassVar[list[str]] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "question",
            nargs="*",
            help="The words of one question. Without them, a few are asked.",
        )
        parser.add_argument(
            "--serve",
            action="store_true",
            help="Ask and answer on a web page, until Ctrl-C.",
        )
        parser.add_argument(
            "--port", type=int, default=8000, help="The page's port (default: 8000)."
        )

    def handle(
        self, *, question: list[str], serve: bool, port: int, **options: Any
    ) -> None:
        if serve and question:
            raise CommandError("Type the question into the page that --serve serves.")
        questions = [" ".join(question).strip()] if question else QUESTIONS
        if not all(questions):
            raise CommandError(
                "The question is empty. Ask in words, such as: "
                f'manage.py demo "{QUESTIONS[0]}"'
            )
        self.create_database()
        self.check()
        self.stdout.write("Migrating the database ...")
        call_command("migrate", verbosity=max(0, options["verbosity"] - 1))
        embedder = self.open_corpus()
        if serve:
            self.serve(embedder, port)
            return
        for text in questions:
            hits = self.search(embedder, text)
        self.show_query(hits)
        self.show_counts()

    def create_database(self) -> None:
        settings = connection.settings_dict
        name = connection.ops.quote_name(settings["NAME"])
        try:
            with connection._nodb_cursor() as cursor:
                cursor.execute(f"CREATE DATABASE IF NOT EXISTS {name}")
        except OperationalError as error:
            raise CommandError(
                f"Cannot create the database {name} on {settings['HOST']}:"
                f"{settings['PORT']}: {error}. TIDB_HOST, TIDB_PORT, TIDB_USER and "
                "TIDB_PASSWORD say which server to use, and as whom."
            ) from error

    def open_corpus(self) -> embedding.Embedder:
        """Store the documents if necessary, and return an embedder for questions."""
        stored = Document.objects.filter(edition=EDITION)
        documents = sorted(stored.values_list("name", "text"))
        if documents:
            self.stdout.write(f"{len(documents)} documents are stored already.")
            return embedding.Embedder(documents, DIMENSIONS)
        return self.load()

    def load(self) -> embedding.Embedder:
        version = django.get_version()
        self.stdout.write(f"Collecting the docstrings of Django {version} ...")
        entries, passed_over = corpus.collect()
        self.stdout.write(
            f"Found {len(entries)}. Passed over {len(passed_over)} modules and "
            "packages that need an optional package or another app."
        )
        embedder = embedding.Embedder(
            [(entry.name, entry.text) for entry in entries], DIMENSIONS
        )
        documents = [
            Document(
                name=entry.name,
                kind=entry.kind,
                module=entry.module,
                text=entry.text,
                embedding=vector,
            )
            for entry, vector in zip(entries, embedder.vectors, strict=True)
        ]
        start = perf_counter()
        progress = ProgressBar(
            sys.stderr if sys.stderr.isatty() else None, len(documents)
        )
        Document.objects.all().delete()
        # All keys of one transaction have the same random bits. Several transactions
        # are used, so that the keys are spread.
        for first in range(0, len(documents), BATCH_SIZE):
            batch = Document.objects.bulk_create(documents[first : first + BATCH_SIZE])
            progress.update(first + len(batch))
        Document.objects.update(edition=EDITION)
        self.stdout.write(
            f"Stored {len(documents)} documents, each with a vector of {DIMENSIONS} "
            f"numbers, in {perf_counter() - start:.1f} s."
        )
        return embedder

    def search(self, embedder: embedding.Embedder, question: str) -> DocumentQuerySet:
        """Print and log the answer to `question`, and return its queryset."""
        try:
            vector = embedder.embed(question)
        except ValueError as error:
            raise CommandError(str(error)) from error
        hits = Document.objects.nearest(vector)[:HITS]
        start = perf_counter()
        found = list(hits)
        milliseconds = (perf_counter() - start) * 1000
        SearchLog.objects.create(
            question=question, best_hit=found[0], milliseconds=milliseconds
        )
        self.stdout.write(f"\n{question} ({milliseconds:.0f} ms)")
        for line in table(found):
            self.stdout.write(line)
        return hits

    def serve(self, embedder: embedding.Embedder, port: int) -> None:
        """Serve the page and the admin. Each run sets a new password for the admin."""
        views.embedder = embedder
        password = get_random_string(12)
        user, _ = get_user_model().objects.update_or_create(
            username="demo", defaults={"is_staff": True, "is_superuser": True}
        )
        user.set_password(password)
        user.save()
        self.stdout.write(
            f"The page: http://127.0.0.1:{port}/\n"
            f"The admin: http://127.0.0.1:{port}/admin/ "
            f"(user demo, password {password})"
        )
        self.stdout.flush()
        call_command("runserver", f"127.0.0.1:{port}", use_reloader=False)

    def show_query(self, hits: DocumentQuerySet) -> None:
        version = connection.tidb_version
        self.stdout.write(f"\nThe last query:\n{sql_of(hits)}")
        self.stdout.write(f"\nThe server: TiDB {version} ({version.text})")
        self.stdout.write(f"Its plan:\n{hits.explain()}")

    def show_counts(self) -> None:
        keys = sorted(Document.objects.values_list("pk", flat=True))
        # The random bits of the 64-bit key follow its sign bit.
        bits = Document._meta.pk.shard_bits
        used = len({key >> (63 - bits) for key in keys})
        logged = SearchLog.objects.count()
        self.stdout.write(
            f"\n{len(keys)} documents, with AUTO_RANDOM keys in {used} of {2**bits} "
            f"ranges, from {keys[0]} to {keys[-1]}; {logged} "
            f"{'search' if logged == 1 else 'searches'} logged."
        )


def table(hits: list[Document]) -> Iterator[str]:
    """Yield the lines of a table that is no wider than the terminal."""
    columns = shutil.get_terminal_size((120, 24)).columns
    name_width = max(len(hit.name) for hit in hits)
    rows = [("distance", "kind", "name", "docstring")]
    rows += [
        (f"{hit.distance:.3f}", hit.kind, hit.name, hit.text.partition("\n")[0])
        for hit in hits
    ]
    for distance, kind, name, summary in rows:
        line = f"{distance:>8}  {kind:8}  {name:{name_width}}  {summary}"
        yield line if len(line) <= columns else f"{line[: columns - 1]}…"
