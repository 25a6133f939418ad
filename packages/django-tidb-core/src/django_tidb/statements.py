"""DDL statements that tell the schema editor how they can be sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.backends.ddl_references import Statement

__all__ = ["IndexStatement"]


class IndexStatement(Statement):
    """
    A statement that creates an index of a kind that Django does not know.

    `inline` is a template like `template`, with the same parts: the form that
    the index has inside CREATE TABLE, or None if it cannot stand there.
    `prerequisites` are statements that have to be sent before `template`; they
    are not sent where the index stands inside CREATE TABLE.
    """

    def __init__(
        self,
        template: str,
        *,
        inline: str | None = None,
        prerequisites: Sequence[Statement] = (),
        **parts: Any,
    ) -> None:
        super().__init__(template, **parts)
        self.inline = inline
        self.prerequisites = tuple(prerequisites)
