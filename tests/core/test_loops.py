"""Test where a with block in a for loop goes on, with the byte code of each Python."""

from __future__ import annotations

import sys
from contextlib import ExitStack, nullcontext

import pytest

from django_tidb.loops import Loop


class Blocks:
    """
    Give two blocks, which suppress their errors, and note what Loop reports of each.
    """

    def __init__(self):
        self.found = []
        self.has_block = None
        self.given = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.loop = Loop.of(sys._getframe(1))
        if self.loop is not None:
            self.has_block = self.loop.has_block()
        self.given += 1
        if self.given > 2:
            raise StopIteration
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        frame = sys._getframe(1)
        self.found.append(self.loop is not None and self.loop.goes_on(frame))
        return True


def something():
    pass


something_else = something


def ends(blocks):
    for block in blocks:
        with block:
            pass


def fails(blocks):
    for block in blocks:
        with block as _:
            raise ValueError


def one_of_two_ends(blocks, which=1):
    for block in blocks:
        with block:
            if which == 1:
                something()
            elif which == 2:
                something_else()
            else:
                raise ValueError


def continues(blocks, which=1):
    for block in blocks:
        with block:
            if which:
                continue
            something()


def handles_errors(blocks):
    for block in blocks:
        with block:
            try:
                raise ValueError
            except ValueError:
                pass
            finally:
                something()


def breaks_a_loop_inside(blocks):
    for block in blocks:
        with block:
            for _ in range(3):
                break


def loop_in_a_loop(blocks):
    for _ in range(2):
        for block in blocks:
            with block:
                pass


def loop_with_else(blocks):
    for block in blocks:
        with block:
            raise ValueError
    else:
        something()


def loop_in_try(blocks):
    try:
        for block in blocks:
            with block:
                raise ValueError
    finally:
        something()


def other_manager_inside(blocks):
    for block in blocks:
        with block, nullcontext():
            raise ValueError


# This function has more constants and names than a byte can number, and long jumps.
LONG = "\n".join(f"            x{i} = [{i}, block]" for i in range(1000, 1400))
exec(f"def long(blocks):\n    for block in blocks:\n        with block:\n{LONG}\n")  # noqa: S102


def returns(blocks):
    for block in blocks:
        with block:
            return 1
    return None


def returns_what_it_computes(blocks):
    for block in blocks:
        with block:
            return block.given + 1
    return None


def returns_none(blocks):
    for block in blocks:
        with block:
            return


def returns_in_try(blocks):
    for block in blocks:
        with block:
            try:
                return 1
            finally:
                something()
    return None


def breaks(blocks):
    for block in blocks:
        with block:
            break


def breaks_in_a_loop(blocks):
    for _ in range(2):
        for block in blocks:
            with block:
                break


def breaks_if(blocks):
    for block in blocks:
        with block:
            if block.given:
                break
            something()


def break_follows(blocks):
    for _ in range(2):
        for block in blocks:
            with block:
                pass
            break


def break_follows_an_error(blocks):
    for _ in range(2):
        for block in blocks:
            with block:
                raise ValueError
            break


def statement_follows(blocks):
    for block in blocks:
        with block:
            pass
        something()


def statement_follows_an_error(blocks):
    for block in blocks:
        with block:
            raise ValueError
        something()


def return_follows(blocks):
    for block in blocks:
        with block:
            raise ValueError
        return


def other_manager_outside(blocks):
    for block in blocks:
        with nullcontext(), block:
            raise ValueError


def other_function(blocks):
    def enter(block):
        with block:
            pass

    for block in blocks:
        enter(block)


def exit_stack(blocks):
    for block in blocks:
        with ExitStack() as stack:
            stack.enter_context(block)


def no_loop(blocks):
    with next(blocks):
        pass


def while_loop(blocks):
    while blocks.given < 2:
        with next(blocks):
            pass


GO_ON = [
    ends,
    fails,
    one_of_two_ends,
    continues,
    handles_errors,
    breaks_a_loop_inside,
    loop_in_a_loop,
    loop_with_else,
    loop_in_try,
    other_manager_inside,
    long,  # noqa: F821
]
# These functions end the loop, or have another block around the with block, so the loop
# does not go on after the with block. has_block() is still true.
LEAVE = [
    returns,
    returns_what_it_computes,
    returns_none,
    returns_in_try,
    breaks,
    breaks_in_a_loop,
    breaks_if,
    other_manager_outside,
    exit_stack,
]
NEVER_GO_ON = [
    other_function,
    break_follows,
    break_follows_an_error,
    statement_follows,
    statement_follows_an_error,
    return_follows,
    no_loop,
    while_loop,
]


def name(function):
    return function.__name__


@pytest.mark.parametrize("function", GO_ON, ids=name)
def test_goes_on(function):
    blocks = Blocks()
    function(blocks)
    assert blocks.found == [True, True]
    assert blocks.has_block


@pytest.mark.parametrize("function", LEAVE, ids=name)
def test_leaves(function):
    blocks = Blocks()
    function(blocks)
    assert blocks.found and not any(blocks.found)
    assert blocks.has_block


@pytest.mark.parametrize("function", NEVER_GO_ON, ids=name)
def test_never_goes_on(function):
    blocks = Blocks()
    function(blocks)
    assert blocks.found and not any(blocks.found)
    assert not blocks.has_block


def test_under_a_tracer():
    """A debugger or a coverage tool does not change the byte code that Loop reads."""
    blocks, lines = Blocks(), []

    def trace(frame, event, arg):
        lines.append(event)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        ends(blocks)
    finally:
        sys.settrace(before)
    assert "line" in lines
    assert blocks.found == [True, True]


@pytest.mark.skipif(
    sys.version_info < (3, 12),
    reason="Python 3.12 has sys.monitoring: https://peps.python.org/pep-0669/",
)
def test_under_monitoring():
    blocks, lines = Blocks(), []
    monitoring = sys.monitoring
    tool, events = 4, monitoring.events
    monitoring.use_tool_id(tool, "test")
    try:
        monitoring.register_callback(
            tool, events.INSTRUCTION, lambda code, offset: lines.append(offset)
        )
        monitoring.set_local_events(tool, fails.__code__, events.INSTRUCTION)
        fails(blocks)
        monitoring.set_local_events(tool, fails.__code__, 0)
    finally:
        monitoring.free_tool_id(tool)
    assert lines
    assert blocks.found == [True, True]
