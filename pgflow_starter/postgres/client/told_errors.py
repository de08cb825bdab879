"""What may be shown of an error that is stored: all of it, or its type and where it was raised."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from pgflow_starter.core.text import one_line

LONGEST = 10_000
"""Characters of a traceback."""

_TYPE = re.compile(r"[A-Za-z_][\w.]*(?=: |$)")
_KNOWN = re.compile(r"[\w.]*(?:Error|Exception)|\w+\.[\w.]+|cancelled")
"""What a text without a traceback may begin with: another runtime's, or a reason to cancel, may be any word."""
_FRAME = re.compile(r'\s*File "[^"\n]+", line \d+, in [\w.<>]+')


class Told(NamedTuple):
    """The error in one line, and its traceback; None where there is none, or nothing may be said of it."""

    error: str | None = None
    traceback: str | None = None


class ToldErrors:
    """`full`: with messages; else the exception's type and the lines of its frames. Immutable, thread-safe."""

    def __init__(self, full: bool, redact: Callable[[str], str]) -> None:
        self._full = full
        self._redact = redact

    def __call__(self, stored: str | None) -> Told:
        """Of what pgflow stores of a failed task: a message, and a traceback below it where ours ran it."""
        if not stored:
            return Told()
        text = self._redact(stored)
        lines = text.splitlines()
        first = next((n for n, line in enumerate(lines) if _FRAME.match(line)), len(lines))
        message, calls = lines[:first], lines[first:]
        if not self._full:
            found = _TYPE.match(text)
            message = [found[0]] if found and (calls or _KNOWN.fullmatch(found[0])) else []
            calls = [line for line in calls if _FRAME.fullmatch(line)]
        return Told(one_line(" ".join(message)) or None, "\n".join(calls)[-LONGEST:] or None)
