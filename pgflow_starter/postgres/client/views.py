"""`Views`: what a page asks of the database. Each statement's work is bounded, whatever the tables have grown to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

from pgflow_starter.core.views import DoneBefore, Failing, FlowQueue, RunsPage, RunsWanted, RunView, WorkerRow
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.done_before import done_before
from pgflow_starter.postgres.client.failing import failing
from pgflow_starter.postgres.client.pages import page_of
from pgflow_starter.postgres.client.queue_listing import queues_listed
from pgflow_starter.postgres.client.run_page import run_view
from pgflow_starter.postgres.client.told_errors import ToldErrors
from pgflow_starter.postgres.client.worker_listing import workers_listed
from pgflow_starter.postgres.connections.connection import Connection

T = TypeVar("T")

WHOLE = 4
"""Times its patience that the statements of one call may take together: a server that has fallen silent ends none."""


class Views:
    """Of one starter. Each call waits up to `patience` seconds for the database, and as long again for the answer to
    each of its statements, four times as long for all of them; raises PgflowError. Thread-safe."""

    def __init__(self, calls: Calls, told: ToldErrors) -> None:
        self._calls = calls
        self._told = told

    def runs(self, wanted: RunsWanted, *, patience: float) -> RunsPage:
        """One page of the runs that are wanted."""
        return self._asked(partial(page_of, wanted=wanted), patience)

    def run(self, run_id: UUID, *, payloads: bool, patience: float) -> RunView | None:
        """The run of that id, None where there is none; its input and output with `payloads` alone."""
        return self._asked(partial(run_view, run_id=run_id, told=self._told, payloads=payloads), patience)

    def queues(self, *, patience: float) -> tuple[FlowQueue, ...]:
        """All queues that the role may read, by flow and name."""
        return self._asked(queues_listed, patience)

    def done_before(self, queues: Sequence[str], *, every: int, slots: int, patience: float) -> tuple[DoneBefore, ...]:
        """What was done with in the queues, the first 200 of these, in so many slots of `every` seconds until now."""
        return self._asked(partial(done_before, queues=queues, every=every, slots=slots), patience)

    def workers(self, *, patience: float) -> tuple[WorkerRow, ...]:
        """The workers of all processes that live, or were heard of within an hour."""
        return self._asked(workers_listed, patience)

    def failing(self, *, patience: float) -> Failing:
        """What failed within the hour, and what is tried again."""
        return self._asked(partial(failing, told=self._told), patience)

    def close(self) -> None:
        """What fails from now on fails for that. Does not wait. Idempotent."""
        self._calls.close()

    def _asked(self, question: Callable[[Connection], T], patience: float) -> T:
        self._calls.database.check_process()
        return self._calls.off_main(lambda: self._answer(question, patience))

    def _answer(self, question: Callable[[Connection], T], patience: float) -> T:
        try:
            return self._calls.database.call(
                question, patience=patience, within=WHOLE * patience, at_server=patience, lock=patience / 4
            )
        except DatabaseError as error:
            raise self._calls.callers_error(error) from error
