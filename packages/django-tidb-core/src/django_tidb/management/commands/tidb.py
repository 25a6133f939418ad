from __future__ import annotations

import json
import platform
import textwrap
from collections.abc import Callable
from importlib.metadata import entry_points, version
from typing import Any

import django
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, connections

from django_tidb import is_tidb
from django_tidb.driver import ensure_driver
from django_tidb.known_issues import affecting, concerned
from django_tidb.plugins import GROUP, get_plugins


class Command(BaseCommand):
    help = (
        "Show what the TiDB servers of this project are, what they lack, and what "
        "that means for the project's models. For bug reports: it tells no password."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument(
            "--database",
            action="append",
            choices=tuple(connections),
            help="The alias of a database; may be repeated. Default: all that are "
            "TiDB.",
        )
        parser.add_argument(
            "--json", action="store_true", help="Print one JSON object."
        )
        subparsers = parser.add_subparsers(title="sub-commands", metavar="COMMAND")
        for plugin in get_plugins():
            plugin.add_subcommands(subparsers)

    def handle(
        self,
        *args: Any,
        subcommand: Callable[..., None] | None = None,
        **options: Any,
    ) -> None:
        if subcommand is not None:
            subcommand(self, **options)
            return
        aliases = options["database"] or [
            alias for alias in connections if is_tidb(connections[alias])
        ]
        for alias in aliases:
            if not is_tidb(connections[alias]):
                raise CommandError(
                    f"The ENGINE of database {alias!r} is "
                    f"{connections[alias].settings_dict['ENGINE']!r}, not "
                    "'django_tidb'."
                )
        if not aliases:
            raise CommandError("No database has the ENGINE 'django_tidb'.")
        report = {
            "packages": self._packages(),
            "driver": self._driver(),
            "plugins": self._plugins(),
            "databases": {alias: self._database(alias) for alias in aliases},
        }
        if options["json"]:
            self.stdout.write(json.dumps(report, indent=2))
        else:
            self._print(report)

    def _packages(self) -> dict[str, str]:
        return {
            "Python": platform.python_version(),
            "Django": django.get_version(),
            "django-tidb-core": version("django-tidb-core"),
        }

    def _driver(self) -> dict[str, str]:
        import MySQLdb

        driver = ensure_driver()
        return {
            "name": driver.name,
            "version": driver.version,
            # mysqlclient uses this library, which determines the supported TLS
            # features.
            "client_library": "" if driver.is_pymysql else MySQLdb.get_client_info(),
        }

    def _plugins(self) -> list[dict[str, Any]]:
        # This call raises ImproperlyConfigured if a plugin cannot be loaded.
        get_plugins()
        return [
            {
                "name": entry_point.name,
                "distribution": entry_point.dist and entry_point.dist.name,
                "version": entry_point.dist and entry_point.dist.version,
            }
            for entry_point in sorted(entry_points(group=GROUP), key=lambda e: e.name)
        ]

    def _database(self, alias: str) -> dict[str, Any]:
        connection = connections[alias]
        settings = connection.settings_dict
        try:
            server, variables = connection.tidb_version, dict(connection.tidb_variables)
        except Error as error:
            raise CommandError(f"Database {alias!r}: {error}") from error
        models = connection.validation.models()
        return {
            "version": str(server),
            "edition": server.edition,
            "store": server.store,
            "server": server.text,
            "host": settings["HOST"],
            "port": settings["PORT"],
            "user": settings["USER"],
            "name": settings["NAME"],
            "variables": dict(variables),
            "known_issues": [
                {
                    "id": issue.id,
                    "summary": issue.summary,
                    "effect": issue.effect,
                    "versions": issue.versions,
                    "link": issue.link,
                    "concerns": concerned(issue, models),
                }
                for issue in affecting(server, variables)
            ],
            "plugins": {
                plugin.name: dict(plugin.report(connection)) for plugin in get_plugins()
            },
        }

    def _print(self, report: dict[str, Any]) -> None:
        plugins = {
            plugin["distribution"]: plugin["version"] for plugin in report["plugins"]
        }
        for name, number in (report["packages"] | plugins).items():
            self.stdout.write(f"{name} {number}")
        driver = report["driver"]
        library = driver["client_library"]
        self.stdout.write(
            f"Driver: {driver['name']} {driver['version']}"
            + (f", client library {library}" if library else "")
        )
        for alias, database in report["databases"].items():
            about = ", ".join(filter(None, (database["edition"], database["store"])))
            title = f"{alias}: TiDB {database['version']} ({about})"
            self.stdout.write(self.style.MIGRATE_HEADING(f"\n{title}"))
            self.stdout.write(
                f"  {database['server']}, {database['user'] or 'no user'} at "
                f"{database['host'] or 'localhost'}:{database['port'] or 'default'}, "
                f"database {database['name']}"
            )
            self.stdout.write("  Variables")
            for name, value in database["variables"].items():
                self.stdout.write(f"    {name} = {value}")
            self.stdout.write("  Known issues")
            # Issues that concern models of the project come first.
            for issue in sorted(
                database["known_issues"], key=lambda issue: not issue["concerns"]
            ):
                self._print_issue(issue)
            for headings in database["plugins"].values():
                for heading, rows in headings.items():
                    self.stdout.write(f"  {heading}")
                    for row in rows:
                        cells = (f"{name} {value}" for name, value in row.items())
                        self.stdout.write(f"    {', '.join(cells)}")

    def _print_issue(self, issue: dict[str, Any]) -> None:
        concerned = bool(issue["concerns"])
        style = self.style.WARNING if concerned else str
        self.stdout.write(f"    {style(issue['id'])} ({issue['versions']})")
        lines = [issue["summary"], issue["effect"], issue["link"]]
        lines += [
            f"Concerns {label}: {', '.join(what)}"
            for label, what in issue["concerns"].items()
        ]
        for line in lines:
            self.stdout.write(
                textwrap.fill(
                    line,
                    79,
                    initial_indent=" " * 6,
                    subsequent_indent=" " * 8,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
