"""`Wait`: somebody who waits for a run, on a thread or to be called; and what such a one is told in the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from pgflow_starter.clock import one_wait
from pgflow_starter.core.runs import FINISHED
from pgflow_starter.errors import PgflowError, RunNotFoundError
from pgflow_starter.postgres.client.run import RunFacts

FIRST_PAUSE, LAST_PAUSE = 0.02, 0.5
"""Seconds between looks."""


def deleted(run: RunFacts) -> RunNotFoundError:
    """What is told to who waits for a run that is there no more."""
    return RunNotFoundError(f"run {run.id} of flow {run.flow_slug!r} was deleted")


def going_on(run: RunFacts, status: str, timeout: float | None) -> TimeoutError:
    """What is told to who has waited for so long."""
    return TimeoutError(f"run {run.id} of flow {run.flow_slug!r} is still {status} after {timeout:g} s")


class Looker:
    """Somebody on a thread, who may lead."""

    __slots__ = ("stirs",)

    def __init__(self) -> None:
        # A queue in C: what interrupts an Event's wait may leave its lock taken, and who would set it waiting for ever.
        self.stirs: SimpleQueue[None] = SimpleQueue()

    def stir(self) -> None:
        """Have it look up."""
        self.stirs.put(None)

    def rest(self, seconds: float) -> None:
        """Until it is stirred, or so many seconds have passed; on the main thread a part of them, see `one_wait`."""
        with suppress(Empty):
            self.stirs.get(timeout=one_wait(seconds))

    def calm(self) -> None:
        """Forget what stirred it."""
        with suppress(Empty):
            while True:
                self.stirs.get_nowait()


class Wait(Looker):
    """Somebody who waits for a run. One that is `called` when there is something to be told has no thread.

    It may be `gone` without having left. One whose time is `over` wants to know of the next look, whatever it says.
    """

    __slots__ = ("called", "due", "error", "gone", "looked", "over", "pause", "run", "status")

    def __init__(
        self,
        run: RunFacts,
        due: float,
        called: Callable[[], object] | None = None,
        gone: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self.run = run
        self.status: str = run.status
        self.due = due
        self.called = called
        self.gone = gone
        self.pause = FIRST_PAUSE
        self.looked = self.over = False
        self.error: PgflowError | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    def seen(self, status: str | None) -> None:
        """What a look says; None: there is no such run."""
        if status is not None:
            self.status = status
            object.__setattr__(self.run, "committed", True)  # for its next wait, too
        elif self.run.committed:
            self.error = deleted(self.run)

    def stir(self) -> None:
        """Have it look up."""
        if self.called is None:
            super().stir()
        else:
            self.called()
