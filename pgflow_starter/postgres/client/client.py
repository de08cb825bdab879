"""`Client`: starts runs and asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from pgflow_starter.core.due import due_of
from pgflow_starter.core.encoding import to_json
from pgflow_starter.core.runs import RunSummary
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.client.life import Life
from pgflow_starter.postgres.client.run import FIND, Run, recent_runs, run_of
from pgflow_starter.postgres.client.run_ids import many_ids, one_id
from pgflow_starter.postgres.client.steps import STEPS, StepRun, step_of


class Client(Life):
    """Starts and reads runs. Thread-safe."""

    def start_flow(
        self,
        flow: Any,
        input: Any = None,
        *,
        run_id: UUID | str | None = None,
        key: str | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        connection: Any = None,
    ) -> Run:
        """Start a run of a flow, given as object or slug, with a JSON input.

        `key`, a string for what the run is about, makes the call idempotent, and so does `run_id`: where that run is
        there already it is returned as it is, and its `input_differs` says whether its input is another. The first
        tasks begin after `delay` seconds, by the server's clock, or `at` an aware datetime. `connection` (psycopg)
        starts it inside the caller's transaction, to be seen and run when that commits. A current trace context travels
        with the messages of its first steps. Raises ValueError for an input that is no JSON and for bad values,
        UnknownFlowError for a slug that is not in the database, MissingRightsError where the role may not delay, and
        then nothing is started, PgflowError for all else.
        """
        self._calls.database.check_process()
        slug, definition = self._resolve(flow)
        texts, chosen, due = [to_json(input, "input")], [one_id(slug, run_id, key)], due_of(delay, at)
        keyed = key is not None
        return self._starts.start(self, slug, definition, texts, chosen, connection, due=due, keyed=keyed)[0]

    def enqueue(
        self,
        job: Any,
        input: Any = None,
        *,
        run_id: UUID | str | None = None,
        key: str | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        connection: Any = None,
    ) -> Run:
        """Send a message to a job, given as object or slug. Otherwise as `start_flow`."""
        return self.start_flow(job, input, run_id=run_id, key=key, delay=delay, at=at, connection=connection)

    def start_flows(
        self,
        flow: Any,
        inputs: Iterable[Any],
        *,
        run_ids: Iterable[UUID | str] | None = None,
        keys: Iterable[str] | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        connection: Any = None,
    ) -> list[Run]:
        """Start a run of a flow for each input, in one statement: all of them or none. The runs, in that order.

        `keys`, or `run_ids` of which no two are the same, one for each input, make the call idempotent; a key that is
        there twice is one run, of the first of its inputs. Otherwise as `start_flow`.
        """
        self._calls.database.check_process()
        slug, definition = self._resolve(flow)
        texts = [to_json(value, f"inputs[{i}]") for i, value in enumerate(inputs)]
        (chosen, order), due = many_ids(slug, len(texts), run_ids, keys), due_of(delay, at)
        if not texts:
            return []
        ids, texts, keyed = [chosen[i] for i in order], [texts[i] for i in order], keys is not None
        runs = self._starts.start(self, slug, definition, texts, ids, connection, due=due, keyed=keyed)
        return [run for _, run in sorted(zip(order, runs, strict=True), key=itemgetter(0))]

    def enqueue_many(
        self,
        job: Any,
        inputs: Iterable[Any],
        *,
        run_ids: Iterable[UUID | str] | None = None,
        keys: Iterable[str] | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        connection: Any = None,
    ) -> list[Run]:
        """Send a message to a job for each input. Otherwise as `start_flows`."""
        return self.start_flows(job, inputs, run_ids=run_ids, keys=keys, delay=delay, at=at, connection=connection)

    def run(self, run_id: UUID | str) -> Run:
        """The run of that id. Raises RunNotFoundError, ValueError for what is no UUID, PgflowError."""
        return run_of(self._rows(FIND, run_id)[0], self)

    def steps(self, run_id: UUID | str) -> tuple[StepRun, ...]:
        """As `Run.steps`, of the run of that id. Raises RunNotFoundError, PgflowError."""
        return tuple(step_of(row) for row in self._rows(STEPS, run_id))

    def recent_runs(self, limit: int = 20, *, patience: float = 1.0) -> tuple[RunSummary, ...]:
        """The `limit` runs that began last, in this database, the newest first.

        Waits up to `patience` seconds for the database, and as long again for its answer. Raises PgflowError.
        """
        self._calls.database.check_process()
        return self._calls.off_main(lambda: self._recent(limit, patience))

    def _recent(self, limit: int, patience: float) -> tuple[RunSummary, ...]:
        try:
            return self._calls.database.call(
                lambda conn: recent_runs(conn, limit, patience), patience=patience, lock=patience
            )
        except DatabaseError as error:
            raise self._calls.callers_error(error) from error

    def wait(self, run: Run, timeout: float | None) -> Run:
        """As `Run.wait`."""
        return self._endings.wait(run, timeout, self)

    def may_have_ended(self, run_ids: Iterable[UUID]) -> None:
        """These runs may be finished by now: who waits for them looks at once. Does not wait itself."""
        self._waits.may_have_ended(run_ids)
