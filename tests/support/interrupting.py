"""A signal handler's exception at every step of a piece of code: on this thread, one step later each time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from types import FrameType
from typing import Any

ROOMS = ("pgflow_starter", "threading.py", "contextlib.py")


class Interrupted(BaseException):
    """What a signal handler raises."""


def interrupt() -> None:
    """Raise as a signal handler may."""
    raise Interrupted


class Interrupting:
    """Raises at the n-th call or return of Python code of ours, or of threading's, on this thread.

    With `lines` at its n-th line, too: between two calls of C. `what` is done in place of raising; who sets `left`
    meanwhile has it done once more, so many steps later.
    """

    def __init__(self, at: int, *, lines: bool = False, what: Callable[[], object] = interrupt) -> None:
        self.left = at
        self._lines = lines
        self._what = what

    def __enter__(self) -> Interrupting:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not any(room in frame.f_code.co_filename for room in ROOMS):
            return None
        frame.f_trace_lines = self._lines
        self.left -= event != "exception"
        if self.left == 0:
            self._what()  # what it raises ends the tracing
        return self._trace


def interrupted_everywhere(
    call: Callable[[], object], after: Callable[[], object], *, lines: bool = False, stride: int = 1
) -> int:
    """Call again and again, each time interrupted `stride` steps later, until it is not; how often it was."""
    for times in count():
        try:
            with Interrupting(1 + times * stride, lines=lines):
                call()
        except Interrupted:
            after()
        else:
            return times
    raise AssertionError
