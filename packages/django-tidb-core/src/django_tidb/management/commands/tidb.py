from __future__ import annotations

import json
import platform
import textwrap
from argparse import ArgumentTypeError
from collections.abc import Callable
from importlib.metadata import entry_points, version
from typing import Any

import django
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, Error, OperationalError, connections

from django_tidb import is_tidb, jobs, migrating
from django_tidb.driver import ensure_driver
from django_tidb.error_numbers import ErrorNumber
from django_tidb.known_issues import affecting, concerned
from django_tidb.plugins import GROUP, get_plugins


def _check_is_tidb(alias: str) -> None:
    if not is_tidb(connections[alias]):
        raise CommandError(
            f"The ENGINE of database {alias!r} is "
            f"{connections[alias].settings_dict['ENGINE']!r}, not 'django_tidb'."
        )


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
        self._add_jobs(subparsers)
        for plugin in get_plugins():
            plugin.add_subcommands(subparsers)

    def _add_jobs(self, subparsers: Any) -> None:
        parser = subparsers.add_parser(
            "jobs",
            help="Show or cancel the DDL jobs of a database, which change its tables.",
        )
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            default=DEFAULT_DB_ALIAS,
            help="The alias of the database. Default: %(default)r.",
        )
        parser.add_argument(
            "--cancel",
            type=_job_id,
            metavar="ID",
            help="Cancel a running or queued job; the server undoes its changes.",
        )
        parser.set_defaults(subcommand=jobs_of_database)

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
            _check_is_tidb(alias)
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
            "variables": variables,
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


# -- manage.py tidb jobs

#: The number of finished jobs that are shown.
RECENT = 10


def _job_id(text: str) -> int:
    """Return the id of a job; ids are positive."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise ArgumentTypeError(
            f"{text!r} is not the id of a DDL job, which is a positive integer."
        )
    return int(text)


def jobs_of_database(
    command: Command, *, database: str, cancel: int | None, **options: Any
) -> None:
    """Show the DDL jobs of a database, or cancel one of them."""
    _check_is_tidb(database)
    try:
        if cancel is None:
            _show_jobs(command, database)
        else:
            _cancel_job(command, database, cancel)
    except Error as error:
        raise CommandError(f"Database {database!r}: {error}") from error


def _show_jobs(command: Command, alias: str) -> None:
    connection = connections[alias]
    unfinished = jobs.unfinished(connection)
    command.stdout.write(
        command.style.MIGRATE_HEADING(f"{alias}: {len(unfinished)} running or queued")
    )
    sees_all = True
    for job in unfinished:
        _show_job(command, job)
        blockers, sees_all = jobs.blockers(connection, job)
        for blocker in blockers:
            command.stdout.write(f"      may wait for {blocker}")
    if not sees_all:
        command.stdout.write(
            "  Not shown, as they need GRANT PROCESS ON *.*: transactions of other "
            "users for which jobs may wait, and the statements of all transactions."
        )
    if finished := jobs.recent(connection, RECENT):
        command.stdout.write(command.style.MIGRATE_HEADING("Finished last"))
        for job in finished:
            _show_job(command, job)


def _show_job(command: Command, job: jobs.Job) -> None:
    command.stdout.write(f"  {job}")
    migration = migrating.migration_of(job)
    about = f"migrate {migration}".rstrip() + ": " if migration is not None else ""
    sql = " ".join(migrating.without_tag(job.query).split())
    command.stdout.write(f"      {about}{textwrap.shorten(sql, 200)}")


def _cancel_job(command: Command, alias: str, job_id: int) -> None:
    connection = connections[alias]
    job = jobs.find(connection, job_id)
    if job is None or job.is_finished:
        ids = ", ".join(str(j.id) for j in jobs.unfinished(connection)) or "none"
        raise CommandError(
            f"{job or f'DDL job {job_id}, which database {alias!r} does not have'}. "
            f"Only a job that is running or queued can be cancelled: {ids}."
        )
    try:
        reason = jobs.cancel(connection, job_id)
    except OperationalError as error:
        if error.args[0] != ErrorNumber.PRIVILEGE_CHECK_FAILED:
            raise
        raise CommandError(
            f"{job}: cancelling it needs GRANT SUPER ON *.* for the user of database "
            f"{alias!r}."
        ) from error
    if reason is not None:
        raise CommandError(f"{job}: the server does not cancel it: {reason}")
    _show_job(command, job)
    command.stdout.write(
        "Cancelled: the server undoes its changes, and the client that has sent the "
        "statement gets error 8214."
    )
