"""The effect of a statement, as far as it can be read from its text."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EVERYTHING", "Effect", "effect_of"]


@dataclass(frozen=True)
class Effect:
    """
    What a statement, or several in one string, may do. Statements that are not
    understood may do everything.
    """

    #: It may change rows, the schema or other things that outlive the session.
    writes: bool = False
    #: It may lock rows.
    locks: bool = False
    #: It may begin or end a transaction. DDL does so too.
    commits: bool = False
    #: It may set state of the session that a new connection would not have.
    session: bool = False
    #: There may be several statements.
    several: bool = False


#: The effect of a statement that is not understood.
EVERYTHING = Effect(True, True, True, True, True)
