"""
Measure this backend and comparable packages: ``hatch run bench:NAME``.

Each contender has its own environment, and all contenders use the same server. The
rounds of the contenders alternate, so that a busy machine slows down all of them alike.
The result is the ratio of the medians. The results are written to results/NAME.json
beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from tests.tidbserver.launcher import running_server  # noqa: E402

DJANGO = "django~=6.0.0"
PYTHON = "3.12"
OURS = "django-tidb-core"
PYMYSQL = "django-tidb-core with PyMySQL"
UPSTREAM = "django-tidb 6.0.1"
MYSQL = "Django's mysql backend on TiDB"

CORE = str(ROOT / "packages" / "django-tidb-core")
#: Each contender's ENGINE, and the requirements that are installed beside Django.
CONTENDERS: dict[str, tuple[str, list[str]]] = {
    OURS: ("django_tidb", [CORE, "mysqlclient"]),
    PYMYSQL: ("django_tidb", [CORE]),
    UPSTREAM: ("django_tidb", ["django-tidb==6.0.1", "mysqlclient"]),
    MYSQL: ("django.db.backends.mysql", ["mysqlclient"]),
}

#: The contenders, the rounds and the number of models of each benchmark.
BENCHMARKS: dict[str, tuple[list[str], int, int]] = {
    "migrate": ([OURS, UPSTREAM], 3, 100),
    "test_database": ([OURS, UPSTREAM], 3, 100),
    "flush": ([OURS, UPSTREAM], 3, 48),
    "bulk_create": ([OURS], 5, 0),
    "connect": ([OURS, UPSTREAM, MYSQL], 21, 0),
    "get": ([OURS, UPSTREAM, MYSQL], 5, 0),
    "drivers": ([OURS, PYMYSQL], 9, 0),
    "statements": ([OURS], 9, 0),
}


def environment(folder: Path, requirements: list[str], python: str) -> Path:
    """Make an environment; return its Python."""
    subprocess.run(["uv", "venv", "-q", "--python", python, folder], check=True)
    interpreter = folder / "bin" / "python"
    install = ["uv", "pip", "install", "-q", "--python", interpreter]
    subprocess.run([*install, DJANGO, *requirements], check=True)
    return interpreter


def installed(python: Path) -> dict[str, str]:
    """Return the versions of the packages that the benchmarks depend on."""
    output = subprocess.run(
        ["uv", "pip", "list", "--format", "json", "--python", python],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    names = (
        *("django", "mysqlclient", "numpy", "orjson", "pgvector", "pymysql"),
        "pysimdjson",
    )
    version = subprocess.run(
        [python, "-c", "import platform; print(platform.python_version())"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()
    return {"python": version} | {
        package["name"].lower(): package["version"]
        for package in json.loads(output)
        if package["name"].lower() in names or "tidb" in package["name"]
    }


def measure(
    python: Path, workload: str, environ: dict[str, str], folder: Path
) -> dict[str, float]:
    """Run the workload; return the seconds that each of its parts took."""
    result = subprocess.run(
        [python, HERE / "workloads.py", workload],
        cwd=folder,
        env={**environ, "PYTHONPATH": f"{HERE}:{folder}"},
        stdout=subprocess.PIPE,
        check=True,
    )
    seconds: dict[str, float] = json.loads(result.stdout)
    return seconds


def machine() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
    }


def run(name: str, rounds: int, python: str) -> dict[str, Any]:
    contenders, _, models = BENCHMARKS[name]
    folder = Path(tempfile.mkdtemp(prefix="django-tidb-bench-"))
    try:
        pythons = {
            contender: environment(folder / str(n), CONTENDERS[contender][1], python)
            for n, contender in enumerate(contenders)
        }
        results: dict[str, list[dict[str, float]]] = {c: [] for c in contenders}
        with running_server() as server:
            environ = {**os.environ, **server.environ, "BENCH_MODELS": str(models)}
            if not shutil.which("mysqldump"):
                environ["BENCH_LACKS"] = "mysqldump"
            (folder / "shop_migrations").mkdir()
            (folder / "shop_migrations" / "__init__.py").touch()
            sqlite = {**environ, "BENCH_ENGINE": "django.db.backends.sqlite3"}
            measure(pythons[OURS], "migrations", sqlite, folder)
            for number in range(rounds):
                # In each round, another contender is the first.
                first = number % len(contenders)
                for contender in contenders[first:] + contenders[:first]:
                    own = {**environ, "BENCH_ENGINE": CONTENDERS[contender][0]}
                    if contender == OURS:
                        own.pop("BENCH_LACKS", None)
                    seconds = measure(pythons[contender], name, own, folder)
                    results[contender].append(seconds)
                    print(f"{number + 1}/{rounds} {contender}: {seconds}", flush=True)
            version = server.version
        return {
            "benchmark": name,
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": machine(),
            "server": version,
            "rounds": rounds,
            "contenders": {
                contender: {
                    "versions": installed(pythons[contender]),
                    "seconds": rows,
                    "medians": {
                        what: round(statistics.median(row[what] for row in rows), 6)
                        for what in rows[0]
                    },
                }
                for contender, rows in results.items()
            },
        }
    finally:
        shutil.rmtree(folder)


def ratios(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return, for each contender, its median time divided by ours."""
    medians = {c: values["medians"] for c, values in result["contenders"].items()}
    ours = medians[OURS]
    return {
        contender: {
            what: round(values[what] / ours[what], 2)
            for what in ours
            if values.get(what)
        }
        for contender, values in medians.items()
        if contender != OURS
    }


def show(result: dict[str, Any]) -> None:
    for contender, values in result["contenders"].items():
        for what, median in values["medians"].items():
            ratio = result["ratios"].get(contender, {}).get(what)
            times = f"  {ratio:.2f} times ours" if ratio else ""
            print(f"{contender:32} {what:32} {median * 1000:12.2f} ms{times}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--python", default=PYTHON, help="of Django 6.0")
    arguments = parser.parse_args()
    rounds = arguments.rounds or BENCHMARKS[arguments.name][1]
    result = run(arguments.name, rounds, arguments.python)
    result["ratios"] = ratios(result)
    file = HERE / "results" / f"{arguments.name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
