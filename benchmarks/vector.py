"""
Measure django-tidb-vector and comparable packages: ``hatch run bench:vector``.

django-tidb-vector and django-tidb 6.0.1 have the same import name, so each has its own
environment and process. The environment of django-tidb-vector also contains the codec
of pgvector. The third contender is raw mysqlclient with ready-made text. All use the
same server, in alternation, and the result is the ratio of the medians. The results are
written to results/vector.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
import timeit
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

OURS = "django-tidb-vector"
UPSTREAM = "django-tidb 6.0.1"
REQUIREMENTS = {
    OURS: [
        str(ROOT / "packages" / "django-tidb-core"),
        str(ROOT / "packages" / "django-tidb-vector"),
        "mysqlclient",
        "pgvector",
    ],
    UPSTREAM: ["django-tidb==6.0.1", "mysqlclient", "numpy", "orjson"],
}
DIMENSIONS = (3, 128, 768, 1536, 16383)
WIDTH = 768
BATCH = 200
QUERIES = 40
NAME = "bench_vector"


# -- The measurements, which run in the environment of a contender


def microseconds(function: Any) -> float:
    # This measures processor time, since other programs may be running.
    timer = timeit.Timer(function, timer=time.process_time)
    number, _ = timer.autorange()
    number = max(1, number // 20)
    return min(timer.repeat(9, number)) / number * 1e6


def codec(results: dict[str, Any], contender: str) -> None:
    """Encode float32 arrays, and decode the text of the server."""
    import numpy as np

    if contender == OURS:
        from pgvector import Vector

        from django_tidb_vector.codec import decode, encode

        codecs = {
            OURS: (encode, decode),
            "pgvector": (
                lambda vector, _: Vector(vector).to_text(),
                lambda text: Vector.from_text(text).to_numpy(),
            ),
        }
    else:
        from django_tidb.fields.vector import decode_vector, encode_vector

        codecs = {UPSTREAM: (encode_vector, decode_vector)}
    for size in DIMENSIONS:
        vector = np.random.default_rng(size).normal(size=size).astype(np.float32)
        with database().cursor() as cursor:
            cursor.execute("SELECT CAST(%s AS VECTOR)", [json.dumps(vector.tolist())])
            ((text,),) = cursor.fetchall()
        text = text.decode() if isinstance(text, bytes) else text
        for name, (encode, decode) in codecs.items():
            assert decode(text).tobytes() == vector.tobytes()
            results[f"encode {size}, {name}"] = microseconds(
                lambda encode=encode, vector=vector, size=size: encode(vector, size)
            )
            results[f"decode {size}, {name}"] = microseconds(
                lambda decode=decode, text=text: decode(text)
            )


def database() -> Any:
    import MySQLdb

    return MySQLdb.connect(
        host=os.environ["TIDB_HOST"],
        port=int(os.environ["TIDB_PORT"]),
        user=os.environ["TIDB_USER"],
        password=os.environ["TIDB_PASSWORD"],
        autocommit=True,
    )


def model(contender: str) -> Any:
    import django
    from django.conf import settings

    settings.configure(
        USE_TZ=True,
        INSTALLED_APPS=["django_tidb_vector"] if contender == OURS else [],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={
            "default": {
                "ENGINE": "django_tidb",
                "NAME": NAME,
                "HOST": os.environ["TIDB_HOST"],
                "PORT": os.environ["TIDB_PORT"],
                "USER": os.environ["TIDB_USER"],
                "PASSWORD": os.environ["TIDB_PASSWORD"],
            }
        },
    )
    django.setup()
    from django.db import models

    if contender == OURS:
        from django_tidb_vector import VectorField
    else:
        from django_tidb.fields.vector import VectorField

    class Row(models.Model):
        embedding = VectorField(dimensions=WIDTH)

        class Meta:
            app_label = "bench"
            db_table = "rows_of_vectors"

    return Row


def table() -> None:
    connection = database()
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {NAME}")
        cursor.execute(f"DROP TABLE IF EXISTS {NAME}.rows_of_vectors")
        cursor.execute(
            f"CREATE TABLE {NAME}.rows_of_vectors (id BIGINT AUTO_INCREMENT "
            f"PRIMARY KEY, embedding VECTOR({WIDTH}) NOT NULL)"
        )
    connection.close()


def rows(results: dict[str, Any], contender: str, count: int) -> None:
    """Insert, read back and search rows."""
    import numpy as np

    vectors = np.random.default_rng(0).normal(size=(count, WIDTH)).astype(np.float32)
    table()
    if contender == "raw":
        raw_rows(results, vectors)
        return
    row = model(contender)
    from django.db import connection

    if contender == OURS:
        from django_tidb_vector import CosineDistance
    else:
        from django_tidb.fields.vector import CosineDistance
    connection.ensure_connection()
    objects = [row(embedding=vector) for vector in vectors]
    start = time.perf_counter()
    row.objects.bulk_create(objects, batch_size=BATCH)
    results["insert"] = time.perf_counter() - start
    start = time.perf_counter()
    found = list(row.objects.order_by("pk").values_list("pk", "embedding"))
    results["read"] = time.perf_counter() - start
    assert all((a == b).all() for a, (_, b) in zip(vectors, found, strict=True))

    searches(results, row, CosineDistance, vectors)


def searches(results: dict[str, Any], row: Any, distance: Any, vectors: Any) -> None:
    """
    Search alternately with the driver alone and with Django. Django orders the rows by
    a distance, and by one of Django's own functions. Each search uses another vector,
    because the server may cache results. Each search with Django follows a search with
    the driver, so that both begin with cold caches of the processor, after waiting for
    the server.
    """
    from django.db import connection
    from django.db.models.functions import Power

    spent = 0.0

    def in_the_server(execute: Any, *args: Any) -> Any:
        nonlocal spent
        begin = time.perf_counter()
        try:
            return execute(*args)
        finally:
            spent += time.perf_counter() - begin

    def queryset(expression: Any) -> Any:
        found = row.objects.annotate(d=expression).order_by("d")
        return found.values_list("pk", "d")[:10]

    turns: dict[str, list[float]] = {}
    texts = iter(as_texts(vectors[-2 * QUERIES :]))
    kinds = {
        "query": lambda vector: distance("embedding", vector),
        "query with Power()": lambda vector: Power("pk", 2),
    }
    raw = database()
    with raw.cursor() as cursor, connection.execute_wrapper(in_the_server):
        cursor.execute(f"USE {NAME}")
        for vector in vectors[:QUERIES]:
            for name, expression in kinds.items():
                text = next(texts)
                start = time.perf_counter()
                cursor.execute(
                    "SELECT id, VEC_COSINE_DISTANCE(embedding, %s) AS d "
                    "FROM rows_of_vectors ORDER BY 2 LIMIT 10",
                    [text],
                )
                assert len(cursor.fetchall()) == 10
                turns.setdefault("query, raw", []).append(time.perf_counter() - start)
                spent = 0.0
                start = time.perf_counter()
                assert len(queryset(expression(vector))) == 10
                taken = time.perf_counter() - start
                turns.setdefault(name, []).append(taken)
                turns.setdefault(f"{name}, without the server", []).append(
                    taken - spent
                )
    raw.close()
    for name, seconds in turns.items():
        results[name] = statistics.median(seconds)
    for name, expression in kinds.items():
        results[f"{name}, without the server, warm"] = 1e-6 * microseconds(
            lambda expression=expression: (
                queryset(expression(vectors[0])).query.get_compiler("default").as_sql()
            )
        )


def as_texts(vectors: Any) -> list[str]:
    import orjson

    option = orjson.OPT_SERIALIZE_NUMPY
    return [orjson.dumps(vector, option=option).decode() for vector in vectors]


def raw_rows(results: dict[str, Any], vectors: Any) -> None:
    texts = as_texts(vectors)
    connection = database()
    with connection.cursor() as cursor:
        cursor.execute(f"USE {NAME}")
        start = time.perf_counter()
        # bulk_create() also inserts its batches in one transaction.
        cursor.execute("BEGIN")
        for first in range(0, len(texts), BATCH):
            batch = texts[first : first + BATCH]
            values = ", ".join(["(%s)"] * len(batch))
            cursor.execute(
                f"INSERT INTO rows_of_vectors (embedding) VALUES {values}", batch
            )
        cursor.execute("COMMIT")
        results["insert"] = time.perf_counter() - start
        start = time.perf_counter()
        cursor.execute("SELECT id, embedding FROM rows_of_vectors ORDER BY id")
        assert len(cursor.fetchall()) == len(texts)
        results["read"] = time.perf_counter() - start


# -- The alternation of the contenders


def measure(python: Path, environ: dict[str, str], *work: str) -> dict[str, float]:
    result = subprocess.run(
        [python, __file__, "--work", *work],
        env=environ,
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, float] = json.loads(result.stdout)
    return found


def run(python: str, rounds: int, count: int) -> dict[str, Any]:
    # Only this process needs run.py; the contenders do not import it.
    from run import environment, installed, machine, running_server

    measured: dict[str, list[dict[str, float]]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="django-tidb-bench-") as folder,
        running_server() as server,
    ):
        pythons = {
            name: environment(Path(folder) / str(number), requirements, python)
            for number, (name, requirements) in enumerate(REQUIREMENTS.items())
        }
        environ = {**os.environ, **server.environ}
        for number in range(rounds):
            for name in (OURS, UPSTREAM):
                found = measure(pythons[name], environ, "codec", name)
                measured.setdefault(f"codec, {name}", []).append(found)
            # In each round, another contender is the first.
            names = ["raw", OURS, UPSTREAM]
            for name in names[number % 3 :] + names[: number % 3]:
                own = pythons.get(name, pythons[OURS])
                found = measure(own, environ, "rows", name, str(count))
                measured.setdefault(f"rows, {name}", []).append(found)
                print(name, found, flush=True)
        medians = {
            name: {
                key: statistics.median(found[key] for found in results)
                for key in results[0]
            }
            for name, results in measured.items()
        }
        return {
            "benchmark": "vector",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": machine(),
            "server": server.version,
            "rows": count,
            "rounds": rounds,
            "versions": {name: installed(own) for name, own in pythons.items()},
            "units": "codec: microseconds of the processor, the least of nine; "
            "rows: seconds, of the processor where warm",
            "measured": measured,
            "medians": medians,
            "ratios": ratios(medians),
        }


def ratios(medians: dict[str, dict[str, float]]) -> dict[str, float]:
    """
    Return the times of the other contenders divided by the times of
    django-tidb-vector or of raw mysqlclient.
    """
    ours, upstream = medians[f"codec, {OURS}"], medians[f"codec, {UPSTREAM}"]
    found = {}
    for size in DIMENSIONS:
        for what in ("encode", "decode"):
            mine = ours[f"{what} {size}, {OURS}"]
            found[f"{what} {size}: upstream / ours"] = (
                upstream[f"{what} {size}, {UPSTREAM}"] / mine
            )
            found[f"{what} {size}: pgvector / ours"] = (
                ours[f"{what} {size}, pgvector"] / mine
            )
    for what in ("insert", "read", "query"):
        for name, contender in (("ours", OURS), ("upstream", UPSTREAM)):
            own = medians[f"rows, {contender}"]
            raw = own["query, raw"] if what == "query" else medians["rows, raw"][what]
            found[f"{what}: {name} / raw"] = own[what] / raw
    return {name: round(ratio, 2) for name, ratio in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--python", default="3.12", help="of Django 6.0")
    arguments = parser.parse_args()
    if arguments.work:
        what, contender, *count = arguments.work
        results: dict[str, Any] = {}
        if what == "codec":
            codec(results, contender)
        else:
            rows(results, contender, int(count[0]))
        print(json.dumps(results))
        return
    result = run(arguments.python, arguments.rounds, arguments.rows)
    file = HERE / "results" / "vector.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["medians"], indent=1))
    print(json.dumps(result["ratios"], indent=1))


if __name__ == "__main__":
    main()
