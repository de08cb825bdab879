"""What an exception holds: the sub-exceptions of a group, and what it came from."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from linecache import getlines
from textwrap import indent
from typing import NamedTuple

from pgflow_starter.core.text import text_of
from pgflow_starter.errors import PermanentError

LONGEST_STATEMENT = 10
"""Lines of source that a traceback shows of a call at most."""

LAST_FRAMES = 3
"""Frames of a traceback that are told."""


class _Within(NamedTuple):
    """An exception in another, in words, and how deep."""

    error: BaseException
    words: str
    depth: int
    said: bool
    """Whether the code that raised it says so: by a group, by `from`, and not by what was handled meanwhile."""


def is_permanent(error: BaseException) -> bool:
    """Whether it says that trying again is no use: a PermanentError, a group that holds one, or raised `from` one."""
    try:
        return any(isinstance(w.error, PermanentError) for w in _walk(error, said_only=True))
    except BaseException:  # somebody's own class, of which even that cannot be asked
        return False


def words_and_calls(error: BaseException) -> Iterator[str]:
    """Its own line and the last calls of its traceback; then, indented, each that it holds or came from alike.

    Raises what somebody's own class raises when it is asked for these.
    """
    for within in _walk(error, said_only=False):
        calls = within.error.__traceback__
        if calls is not None and not within.depth:
            calls = calls.tb_next  # the first frame is ours
        frames = "".join(traceback.format_tb(calls, -LAST_FRAMES))
        yield indent(f"{within.words}{_own_lines(within.error)}\n{frames}".rstrip(), "  " * within.depth)


def types_and_calls(error: BaseException) -> Iterator[str]:
    """Its type and the calls of its traceback; then, indented, each that it holds or came from alike.

    Neither their words nor a line of source. Raises what somebody's own class raises when it is asked for these.
    """
    for within in _walk(error, said_only=False):
        calls = [
            traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name, lookup_line=False, line="")
            for frame, line in traceback.walk_tb(within.error.__traceback__)
        ]
        frames = "".join(traceback.StackSummary.from_list(calls).format())
        yield indent(f"{within.words}{qualified(within.error)}\n{frames}".rstrip(), "  " * within.depth)


def messages_of(error: BaseException) -> Iterator[str]:
    """Its message and notes, then those of each that it holds or came from. Raises as `types_and_calls`."""
    return (_own_lines(within.error) for within in _walk(error, said_only=False))


def words_of(error: BaseException) -> Iterator[str]:
    """What Python's traceback of it may quote: messages, notes and lines of source. Raises as `types_and_calls`."""
    for within in _walk(error, said_only=False):
        yield _own_lines(within.error)
        if isinstance(within.error, SyntaxError):
            yield str(within.error.text)
        for frame, line in traceback.walk_tb(within.error.__traceback__):
            yield "".join(getlines(frame.f_code.co_filename, frame.f_globals)[line - 1 : line - 1 + LONGEST_STATEMENT])


def qualified(error: BaseException) -> str:
    """The name of its class, with the module unless everybody knows it."""
    kind = type(error)
    return ("" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.") + kind.__qualname__


def _own_lines(error: BaseException) -> str:
    """As Python's traceback begins with; that reads all the others, and all frames of each, to say this."""
    text = text_of(error)
    notes = getattr(error, "__notes__", ())
    # Some set it, instead of calling add_note, to what is no list of texts: Python's traceback shows that as well.
    told = map(str, notes) if isinstance(notes, list | tuple) else [repr(notes)]
    return "\n".join([qualified(error) + (text and f": {text}"), *told])


def _walk(error: BaseException, *, said_only: bool) -> Iterator[_Within]:
    """The exception and all within it, each once, for they may go in circles; however deep they are nested."""
    seen = set[int]()
    left = [_Within(error, "", 0, True)]
    while left:
        within = left.pop()
        if id(within.error) in seen or (said_only and not within.said):
            continue
        seen.add(id(within.error))
        yield within
        left.extend(reversed(list(_directly_within(within.error, within.depth + 1))))


def _directly_within(error: BaseException, depth: int) -> Iterator[_Within]:
    if isinstance(error, BaseExceptionGroup):
        for number, part in enumerate(error.exceptions, 1):
            yield _Within(part, f"{number} of {len(error.exceptions)}: ", depth, True)
    if error.__cause__ is not None:
        yield _Within(error.__cause__, "caused by ", depth, True)
    elif error.__context__ is not None and not error.__suppress_context__:
        yield _Within(error.__context__, "raised while handling ", depth, False)
