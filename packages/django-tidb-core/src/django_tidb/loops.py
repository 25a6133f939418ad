"""
Detection of ``with`` blocks after which a ``for`` loop continues at once.

A context manager can swallow an error, but it cannot choose the statement that
is executed next. If the block has ended with ``return`` or ``break``, or if
other statements follow it, swallowing the error of a COMMIT would let the
program go on as if the work had been done. Python does not tell a context
manager how its block has ended, so this module reads it from the byte code of
the function that contains the block.

Only byte code that certainly does nothing else before the loop asks its
iterator for the next item is recognised, which is that of Python 3.10 to 3.13:
https://docs.python.org/3/library/dis.html#python-bytecode-instructions
"""

from __future__ import annotations

import dis
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FrameType

__all__ = ["Loop"]

# The instruction that asks the iterator of a loop for the next item.
_FOR = "FOR_ITER"
# The instruction that calls __exit__() after an error in the block.
_AFTER_ERROR = "WITH_EXCEPT_START"
# The instructions that call __exit__() after a block without an error.
_CALLS = ("CALL", "CALL_FUNCTION")

# Instructions after the call that drop its result and the state of the block.
_DROPS = ("NOP", "EXTENDED_ARG", "POP_TOP", "POP_EXCEPT", "TO_BOOL")
_JUMPS = (
    "JUMP_ABSOLUTE",
    "JUMP_BACKWARD",
    "JUMP_BACKWARD_NO_INTERRUPT",
    "JUMP_FORWARD",
)
# Jumps that are made if __exit__() returned True.
_JUMPS_IF_TRUE = ("POP_JUMP_IF_TRUE", "POP_JUMP_FORWARD_IF_TRUE")


class _Code:
    """The instructions of a function."""

    def __init__(self, code: CodeType) -> None:
        self.instructions = list(dis.get_instructions(code))
        self.positions = {
            instruction.offset: position
            for position, instruction in enumerate(self.instructions)
        }

    def position(self, offset: int) -> int:
        """Return the position of the instruction that contains `offset`."""
        # While a frame executes an instruction, its offset can be that of the
        # instruction's cache or of a prefix.
        while offset not in self.positions:
            offset -= 1
        position = self.positions[offset]
        while self.instructions[position].opname == "EXTENDED_ARG":
            position += 1
        return position

    def loop_after(self, position: int) -> int | None:
        """
        Return the position of the FOR_ITER that is executed after the call of
        ``__exit__()`` at `position`, if nothing else is done in between.
        """
        jumps: tuple[str, ...] = _JUMPS
        if self.instructions[position].opname == _AFTER_ERROR:
            jumps += _JUMPS_IF_TRUE
        elif self.instructions[position].opname not in _CALLS:
            return None
        # The number of steps is limited, because ``while True: pass`` jumps to itself.
        for _ in self.instructions:
            position += 1
            instruction = self.instructions[position]
            if instruction.opname == _FOR:
                return position
            if instruction.opname in jumps:
                position = self.positions[instruction.argval] - 1
            elif instruction.opname not in _DROPS:
                return None
        return None


@lru_cache(maxsize=64)
def _read(code: CodeType) -> _Code:
    return _Code(code)


@dataclass(frozen=True)
class Loop:
    """A ``for`` statement that is being executed."""

    code: CodeType
    _position: int
    # Identify the call of the function without the frame, which would keep all local
    # variables alive.
    _frame_id: int

    @classmethod
    def of(cls, frame: FrameType) -> Loop | None:
        """
        Return the ``for`` statement that `frame` is executing, or None if it is
        executing another statement.
        """
        code = _read(frame.f_code)
        position = code.position(frame.f_lasti)
        if code.instructions[position].opname != _FOR:
            return None
        return cls(frame.f_code, position, id(frame))

    def has_block(self) -> bool:
        """Return whether there is a ``with`` block after which the loop goes on."""
        code = _read(self.code)
        return any(
            instruction.opname == _AFTER_ERROR
            and code.loop_after(position) == self._position
            for position, instruction in enumerate(code.instructions)
        )

    def goes_on(self, frame: FrameType) -> bool:
        """
        Return whether the loop goes on at once if the call of ``__exit__()`` that
        `frame` is executing returns True.
        """
        if frame.f_code is not self.code or id(frame) != self._frame_id:
            return False
        code = _read(self.code)
        return code.loop_after(code.position(frame.f_lasti)) == self._position
