"""`Failure`: what may be told of a task that failed, in a log and in its span. What is stored is another matter."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from enum import StrEnum

from pgflow_starter.core.causes import qualified, types_and_calls
from pgflow_starter.core.dataclass import dataclass
from pgflow_starter.core.state import text_of
from pgflow_starter.core.task import Outcome

LONGEST = 10_000
"""Characters of a message, or of a traceback, that are told."""


class LogErrors(StrEnum):
    """How much is told: a message, and a traceback's lines of source, may quote what the task was about."""

    FULL = "full"
    TYPE = "type"


@dataclass(frozen=True, slots=True)
class Failure:
    """`type` is the exception's class with its module; `message` and `trace` hold no secret, and may be empty.

    `error` is the exception itself, where all that Python's traceback of it says may be told.
    """

    type: str
    message: str = ""
    trace: str = ""
    error: BaseException | None = None

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class Failures:
    """Makes them, as `log_errors` says; `redact` takes the secrets out of a text. Immutable, thread-safe."""

    def __init__(self, log_errors: LogErrors, redact: Callable[[str], str]) -> None:
        self._full = log_errors is LogErrors.FULL
        self._redact = redact

    def of(self, outcome: Outcome, error: BaseException | None = None) -> Failure:
        """What may be told of that outcome, which `error` is the cause of where one was raised. Never raises."""
        try:
            if error is None:
                message = outcome.error.removeprefix(f"{outcome.error_type}: ")
                return Failure(outcome.error_type, self._redact(message) if self._full else "")
            if not self._full:
                return Failure(qualified(error), trace=_cut(types_and_calls(error)))
            said = "".join(traceback.format_exception(error)).rstrip()
            shown = self._redact(said)
            # Whoever writes the log formats an exception as they like: so one with a secret in it is for nobody.
            whole = error if shown == said else None
            return Failure(qualified(error), self._redact(text_of(error))[:LONGEST], shown[-LONGEST:], whole)
        except BaseException:  # somebody's own class, of which even that cannot be asked
            return Failure(outcome.error_type)


def _cut(parts: Iterable[str]) -> str:
    told = ""
    for part in parts:
        told = f"{told}\n{part}" if told else part
        if len(told) > LONGEST:
            return told[: LONGEST - 1] + "…"
    return told
