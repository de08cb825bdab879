"""`Failure`: what may be told of a task that failed, in a log and in its span. What is stored is another matter."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pgflow_starter.core.causes import messages_of, qualified, types_and_calls, words_of
from pgflow_starter.core.task import Outcome
from pgflow_starter.core.text import text_of

LONGEST = 10_000
"""Characters of a message, or of a traceback, that are told."""


class Failure(NamedTuple):
    """`type` is the exception's class with its module; nothing of it holds a secret.

    `message` may be empty. `error` is the exception itself, where all that Python's traceback of it says may be told,
    and is not endless; else `calls` is what may, empty where nothing was raised.
    """

    type: str
    message: str = ""
    calls: str = ""
    error: BaseException | None = None

    @property
    def trace(self) -> str:
        """The traceback, its end at least. Takes a while: each of the exception's lines is looked up and marked."""
        return self.calls if self.error is None else _formatted(self.error)[-LONGEST:]

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


RecordOutcome = Callable[[Outcome, Failure | None], None]
"""To be called with a task's outcome, and what may be told of it where it is a failure."""


class Failures:
    """Makes them; `redact` takes the secrets out of a text. Immutable, thread-safe.

    Not in `full` they have no message and no lines of source, for these may quote what the task was about.
    """

    def __init__(self, full: bool, redact: Callable[[str], str]) -> None:
        self._full = full
        self._redact = redact

    def of(self, outcome: Outcome, error: BaseException | None = None) -> Failure:
        """What may be told of that outcome, which `error` is the cause of where one was raised. Never raises."""
        try:
            if error is None:
                message = outcome.error.removeprefix(f"{outcome.error_type}: ")
                return Failure(outcome.error_type, self._fit(message) if self._full else "")
            if not self._full:
                return Failure(qualified(error), calls=self._fit(_cut(types_and_calls(error))))
            message = self._fit(text_of(error))[:LONGEST]
            if sum(map(len, messages_of(error))) > LONGEST:  # a log's formatter would write all of them
                return Failure(qualified(error), message, self._fit(_cut(types_and_calls(error))))
            words = "\n".join(words_of(error))
            if self._fit(words) == words:
                return Failure(qualified(error), message, error=error)
            # A log's formatter shows an exception as it likes: so one with a secret in it is handed to none.
            return Failure(qualified(error), message, self._fit(_formatted(error))[-LONGEST:])
        except BaseException:  # somebody's own class, of which even that cannot be asked
            return Failure(outcome.error_type)

    def _fit(self, text: str) -> str:
        """Without secrets, and without what no log can be written with: lone surrogates."""
        return self._redact(text).encode("utf-8", "backslashreplace").decode()


def _formatted(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def _cut(parts: Iterable[str]) -> str:
    told = ""
    for part in parts:
        told = f"{told}\n{part}" if told else part
        if len(told) > LONGEST:
            return told[: LONGEST - 1] + "…"
    return told
