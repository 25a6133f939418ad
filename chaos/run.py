"""
Cause faults in a TiDB cluster, and check what this backend promises about them:
``hatch run chaos:run [SCENARIO ...]``.

Each scenario starts a cluster of its own and prints what happens. The exit status is
1 if a promise is broken. The results are written to results/SCENARIO.json beside this
file. See README.md there.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import django

from chaos.migrations import Migration, Rebuild
from chaos.scenario import Log
from chaos.transfers import Restarts, Transfers
from django_tidb.driver import ensure_driver
from tests.tidbserver.cluster import RELEASE
from tests.tidbserver.supervisor import LauncherError

RESULTS = Path(__file__).parent / "results"
SCENARIOS: dict[str, Any] = {
    scenario.name: scenario for scenario in (Transfers, Restarts, Migration, Rebuild)
}


def environment() -> dict[str, Any]:
    """Return the versions and the machine that the results depend on."""
    driver = "PyMySQL" if ensure_driver().is_pymysql else "mysqlclient"
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": {
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "load": os.getloadavg(),
        },
        "server": RELEASE.version,
        "versions": {
            "python": platform.python_version(),
            "django": django.__version__,
            "django-tidb-core": importlib.metadata.version("django-tidb-core"),
            driver: importlib.metadata.version(driver),
        },
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="hatch run chaos:run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="scenario", metavar="SCENARIO")
    for name, scenario in SCENARIOS.items():
        command = commands.add_parser(name, help=scenario.__doc__)
        scenario.add_arguments(command)
        command.add_argument(
            "--results",
            type=Path,
            default=RESULTS,
            help="the folder for the results (default: chaos/results)",
        )
    options = parser.parse_args(arguments)
    if options.scenario is None:
        # Django can be set up once in a process.
        again = [sys.executable, "-m", "chaos.run"]
        statuses = [subprocess.run([*again, name]).returncode for name in SCENARIOS]
        return 1 if any(statuses) else 0
    log = Log()
    try:
        result = SCENARIOS[options.scenario].run(options, log)
    except LauncherError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    result = {"scenario": options.scenario, **environment(), **result}
    options.results.mkdir(parents=True, exist_ok=True)
    file = options.results / f"{options.scenario}.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    found = result["violations"]
    for violation in found:
        log(violation)
    log(f"{len(found)} violations." if found else "All promises were kept.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
