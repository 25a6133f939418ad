"""
Write docs/ref/errors.md from the table in django-tidb-core.

Run it with ``hatch run docs:errors`` after a change of the table.
"""

from __future__ import annotations

from pathlib import Path

from django_tidb.errors import ERRORS, ServerError

PAGE = Path(__file__).parents[1] / "docs" / "ref" / "errors.md"

HEAD = """\
# Errors and transactions

What an error of the server or the driver leaves of the transaction, and what may
be repeated after it. The backend reads the same table, `django_tidb.errors`:

- After an error that leaves the transaction *rolled back* or *gone with the
  connection*, every further statement in the outermost `atomic()` block raises
  `TransactionManagementError`, also after the error was caught and with
  savepoints, and nothing of the block is committed. A block that catches such an
  error and ends as if it had succeeded raises `TransactionManagementError` too.
  Without `atomic()`, when autocommit is off, `rollback()` begins a new transaction.
- Errors that are not in the table leave the transaction alive.
- If COMMIT is answered with an error, the transaction has ended. With *not
  committed* in the fifth column it is certain that nothing was committed, and the
  server's error is raised. With *unknown*, and after each error that is not in the
  table, `django_tidb.errors.CommitOutcomeUnknown` is raised, which is a
  `django.db.OperationalError` with the server's error as `__cause__`. The same holds
  for a statement that commits by itself, because it writes in autocommit mode or
  because it is DDL; there, errors that are not in the table are certain.

*Repeat* says what may be repeated if the error did not answer a COMMIT.
The last column says whether a test makes a server or a driver raise the error, and
compares what is left.

| number | name | raised when | transaction | answer to COMMIT | repeat | tested |
|---|---|---|---|---|---|---|
"""


def _row(error: ServerError) -> str:
    cells = (
        f"[{error.number.value}]({error.link})",
        error.name,
        error.summary,
        error.left.value,
        "not committed" if error.definite else "unknown",
        error.repeat.value,
        "yes" if error.provoked else "no",
    )
    return f"| {' | '.join(cells)} |\n"


def page() -> str:
    """Return the text of the page."""
    return HEAD + "".join(map(_row, ERRORS.values()))


if __name__ == "__main__":
    PAGE.write_text(page())
