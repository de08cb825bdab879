"""`Between`: a thread that stands still between two named steps of a function, while everything else goes on."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from types import FrameType, FunctionType, ModuleType
from typing import Any, Self

PATIENCE = 30.0
"""Seconds after which a test stops waiting for what never came."""


class Between:
    """The first thread that has made the step `done` of the function and is about to make `next_` stands still there.

    In place of the function its class or module will do. The steps are pieces of the function's lines, so that a test
    whose pair is gone says so. It is about the threads that are started within the block; the block's end lets go
    whoever stands there.
    """

    def __init__(self, where: Callable[..., Any] | ModuleType, done: str, next_: str) -> None:
        function = where if inspect.isfunction(where) else _function_of(where, done, next_)
        lines, first = inspect.getsourcelines(function)
        self._code = function.__code__
        before = _line_of(done, lines, 0)
        self._at = first + _line_of(next_, lines, before + 1)
        self._standing, self._go_on = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._taken = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        threading.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        threading.settrace(None)
        self.go_on()
        for thread in self._threads:
            thread.join(PATIENCE)

    def beside(self, call: Callable[[], object]) -> threading.Thread:
        """Make the call on a thread of its own, which is joined at the end of the block."""
        thread = threading.Thread(target=call, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def reached(self) -> None:
        """Wait until somebody stands there."""
        assert self._standing.wait(PATIENCE), "nobody came between the two steps"

    def go_on(self) -> None:
        """Let go whoever stands there."""
        self._go_on.set()

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        return self._trace_lines if frame.f_code is self._code else None

    def _trace_lines(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" and frame.f_lineno == self._at:
            with self._lock:
                first, self._taken = not self._taken, True
            if first:
                self._standing.set()
                self._go_on.wait()
        return self._trace_lines


def _function_of(where: object, *steps: str) -> FunctionType:
    functions = [function for function in vars(where).values() if inspect.isfunction(function)]
    found = [function for function in functions if all(step in inspect.getsource(function) for step in steps)]
    assert len(found) == 1, f"{len(found)} functions of {where} have the steps {steps}"
    return found[0]


def _line_of(step: str, lines: list[str], start: int) -> int:
    found = [number for number, line in enumerate(lines) if number >= start and step in line]
    assert found, f"no step {step!r} after line {start} of:\n{''.join(lines)}"
    return found[0]
