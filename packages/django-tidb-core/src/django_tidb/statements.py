"""DDL statements with information about how the schema editor can send them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.backends.ddl_references import Statement

__all__ = ["IndexStatement"]


class IndexStatement(Statement):
    """
    A statement that creates an index of a type that Django does not know.

    `inline` is a template with the same parts as `template`: the form that the
    index has inside CREATE TABLE, or None if CREATE TABLE cannot contain it.
    `prerequisites` are statements that have to be sent before `template`. They
    are not sent if the index is a part of CREATE TABLE.
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
