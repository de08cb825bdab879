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

    With `deeper` after what they call of C as well: that is where the interpreter looks for signals, and so between
    `lock.acquire()` and the next line, but never between the end of a `with` block and its lock's release. `what` is
    done in place of raising; who sets `left` meanwhile has it done once more, so many steps later.
    """

    def __init__(self, at: int, *, deeper: bool = False, what: Callable[[], object] = interrupt) -> None:
        self.left = at
        self._steps = ("call", "return", "c_return") if deeper else ("call", "return")
        self._what = what

    def __enter__(self) -> Interrupting:
        self._before = sys.getprofile()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if event in self._steps and any(room in frame.f_code.co_filename for room in ROOMS):
            self.left -= 1
            if self.left == 0:
                self._what()  # what it raises ends this


def interrupted_everywhere(call: Callable[[], object], after: Callable[[], object], *, deeper: bool = False) -> int:
    """Call again and again, each time interrupted one step later, until it is not; at how many steps it was."""
    for step in count(1):
        try:
            with Interrupting(step, deeper=deeper):
                call()
        except Interrupted:
            after()
        else:
            return step - 1
    raise AssertionError
