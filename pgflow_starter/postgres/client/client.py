"""`Client`: starts runs and asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, TypeVar, overload
from uuid import UUID

from pgflow_starter.core.cancelled import CANCELLED
from pgflow_starter.core.due import due_of
from pgflow_starter.core.generics import Fitting, Message, Output
from pgflow_starter.core.inputs import Inputs
from pgflow_starter.core.modules import FlowModule
from pgflow_starter.core.retention import Retention, retention_of
from pgflow_starter.core.run_summary import RunSummary
from pgflow_starter.core.runs import FINISHED, EndedStatus, RunStatus
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.client.aio_run import AioRun
from pgflow_starter.postgres.client.details import RunDetails, details_of
from pgflow_starter.postgres.client.life import Life, uuid_of
from pgflow_starter.postgres.client.listings import listing
from pgflow_starter.postgres.client.removals import delete_flow, delete_run, prune_runs
from pgflow_starter.postgres.client.reruns import GIVEN
from pgflow_starter.postgres.client.run import FIND, Run, run_of
from pgflow_starter.postgres.client.run_ids import many_ids, one_id
from pgflow_starter.postgres.client.steps import STEPS, StepRun, step_of
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.living_workers import living_workers

T = TypeVar("T")


class Client(Life):
    """Starts and reads runs. Thread-safe."""

    @overload
    def start_flow(
        self,
        flow: FlowModule[Message, Output] | str,
        input: Fitting[Message],
        *,
        run_id: UUID | str | None = None,
        key: str | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        connection: Any = None,
    ) -> Run[Output]: ...

    @overload
    def start_flow(
        self,
        flow: FlowModule[None, Output] | str,
        *,
        run_id: UUID | str | None = None,
        key: str | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        connection: Any = None,
    ) -> Run[Output]: ...

    def start_flow(
        self,
        flow: FlowModule | str,
        input: Any = None,
        *,
        run_id: UUID | str | None = None,
        key: str | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        connection: Any = None,
    ) -> Run:
        """Start a run of a flow, given as object or slug, with a JSON input, or an instance of what its handlers take.

        `key`, a string for what the run is about, makes the call idempotent, and so does `run_id`: where that run is
        there already it is returned as it is, and its `input_differs` says whether its input is another. The first
        tasks begin after `delay` seconds, by the server's clock, or `at` an aware datetime. `connection` (psycopg's, or
        SQLAlchemy's or Django's above it) starts it inside the caller's transaction, to be seen and run when that
        commits. A current trace context travels with all messages of the run. Raises TypeError for another
        connection, ValueError for an input that is no JSON and for bad values, PayloadError, which is one too, for an
        input that does not fit a first handler's annotation (of a slug that is not known here nothing is checked),
        UnknownFlowError for a slug that is not in the database, MissingRightsError where the role may not delay, and
        then nothing is started, PgflowError for all else.
        """
        self._calls.database.check_process()
        slug, definition = self._resolve(flow)
        texts, chosen, due = [Inputs(definition).text(input)], [one_id(slug, run_id, key)], due_of(delay, at)
        keyed = key is not None
        return self._starts.start(self, slug, definition, texts, chosen, connection, due=due, keyed=keyed)[0]

    @overload
    def enqueue(
        self,
        job: FlowModule[Message, Output] | str,
        input: Fitting[Message],
        *,
        run_id: UUID | str | None = None,
        key: str | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        connection: Any = None,
    ) -> Run[Output]: ...

    @overload
    def enqueue(
        self,
        job: FlowModule[None, Output] | str,
        *,
        run_id: UUID | str | None = None,
        key: str | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        connection: Any = None,
    ) -> Run[Output]: ...

    def enqueue(
        self,
        job: FlowModule | str,
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
        flow: FlowModule[Message, Output] | str,
        inputs: Iterable[Fitting[Message]],
        *,
        run_ids: Iterable[UUID | str] | None = None,
        keys: Iterable[str] | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        connection: Any = None,
    ) -> list[Run[Output]]:
        """Start a run of a flow for each input, in one statement: all of them or none. The runs, in that order.

        `keys`, or `run_ids` of which no two are the same, one for each input, make the call idempotent; a key that is
        there twice is one run, of the first of its inputs. Otherwise as `start_flow`.
        """
        self._calls.database.check_process()
        slug, definition = self._resolve(flow)
        given = Inputs(definition)
        texts = [given.text(value, f"inputs[{i}]") for i, value in enumerate(inputs)]
        (chosen, order), due = many_ids(slug, len(texts), run_ids, keys), due_of(delay, at)
        if not texts:
            return []
        ids, texts, keyed = [chosen[i] for i in order], [texts[i] for i in order], keys is not None
        runs = self._starts.start(self, slug, definition, texts, ids, connection, due=due, keyed=keyed)
        return [run for _, run in sorted(zip(order, runs, strict=True), key=itemgetter(0))]

    def enqueue_many(
        self,
        job: FlowModule[Message, Output] | str,
        inputs: Iterable[Fitting[Message]],
        *,
        run_ids: Iterable[UUID | str] | None = None,
        keys: Iterable[str] | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        connection: Any = None,
    ) -> list[Run[Output]]:
        """Send a message to a job for each input. Otherwise as `start_flows`."""
        return self.start_flows(job, inputs, run_ids=run_ids, keys=keys, delay=delay, at=at, connection=connection)

    def run(self, run_id: UUID | str) -> Run:
        """The run of that id. Raises RunNotFoundError, ValueError for what is no UUID, PgflowError."""
        return run_of(self._rows(FIND, run_id)[0], self)

    def steps(self, run_id: UUID | str) -> tuple[StepRun, ...]:
        """As `Run.steps`, of the run of that id. Raises RunNotFoundError, PgflowError."""
        return tuple(step_of(row) for row in self._rows(STEPS, run_id))

    def delete(self, run_id: UUID | str) -> None:
        """Delete a finished run with its steps, tasks and messages, the archived ones too; a minute at most.

        Raises RunNotFoundError, MissingRightsError, ValueError for what is no UUID, and PgflowError, also for a run
        that is not finished: cancel it first.
        """
        delete_run(self._calls, uuid_of(run_id))

    def delete_flow(self, slug: Any) -> int:
        """Delete a flow or job, given as slug or object, with all the database has of it; how many runs that were.

        Its definition, its runs with steps and tasks, finished or not, its queue and the archive of that; and rows of
        other tables whose keys refer to these with ON DELETE CASCADE. In one transaction, of some 0.3 ms a run, a
        quarter of an hour at most. A starter whose code still has the flow makes it anew, without a run, with its next
        poll: stop it first. Raises UnknownFlowError, also for what was deleted before, MissingRightsError to who is not
        the owner of its tables, DatabaseError where somebody has locked what is to go for 6 seconds, and PgflowError:
        nothing was deleted then, but where a DatabaseError is `unknown`; the same call again tells. What interrupts it
        ends the waiting alone.
        """
        return delete_flow(self._calls, self._resolve(slug)[0])

    def prune(self, older_than: timedelta | Retention, *, limit: int | None = None) -> int:
        """Delete finished runs whose end is longer ago, `limit` at most, as `delete` does; how many it were.

        In batches, one process at a time: where another one prunes it returns at once. What somebody has locked is
        left. Rows of workers that were not heard of for as long, and for a day, go as well. Takes as long as it takes;
        what interrupts it is between two batches. Raises ValueError, MissingRightsError, and PgflowError, after all
        else is done also where rows of other tables refer to a run.
        """
        return prune_runs(self._calls, retention_of(older_than), limit).deleted

    def cancel(self, run_id: UUID | str, reason: str = CANCELLED) -> Run:
        """The run of that id, which fails now, with the reason for its error, if it had not ended before.

        Its waiting tasks never begin. `ctx.cancelled` is set for those that run, on a starter's own client before this
        returns, in other processes with their next heartbeat; what they come to is ignored. Again is no harm. Takes as
        long as a call may (15 s), and then raises DatabaseError, also where somebody has the run locked: then nothing
        was done. Raises RunNotFoundError, MissingRightsError, ValueError, PgflowError.
        """
        chosen = uuid_of(run_id)
        self._calls.database.check_process()
        row = self._cancelling.cancel(chosen, reason)
        self.may_have_ended([chosen])
        return run_of(row, self)

    def rerun(self, run_id: UUID | str) -> Run:
        """A new run of the same flow, with what the run of that id was given; that one must have ended.

        The input is as it is stored, to the last digit. The first messages of the new run have a header
        `pgflow_rerun_of`, the old one's id, where the role may set it. Each call starts another one. Raises
        RunNotFoundError, PgflowError where the run goes on or its input cannot be read, and as `start_flow`.
        """
        return self._reruns.again(self._rows(GIVEN, run_id)[0], self)

    def rerun_all(
        self,
        flow: FlowModule | str | None = None,
        status: EndedStatus = "failed",
        since: datetime | timedelta | None = None,
        limit: int = 1000,
    ) -> list[Run]:
        """As `rerun` for each run that `runs` finds, of a status that is `failed` or `completed`; the newest first.

        Runs that were done again have not changed, and are found again. In batches, each of which may take as long as
        `start_flows`: what an error says is true of the one it was met in, and its note tells how many runs were
        started before. Raises ValueError, and as `rerun`.
        """
        if status not in FINISHED:
            msg = f"status must be one of {', '.join(FINISHED)}, got {status!r}: what goes on is not done again"
            raise ValueError(msg)
        found = self.runs(status=status, flow=flow, since=since, limit=limit)
        return self._reruns.all_again([run.id for run in found], self)

    def details(self, run_id: UUID | str, *, payloads: bool = False) -> RunDetails[Run]:
        """The run of that id with its steps and their tasks; input and outputs are read with `payloads` alone.

        Raises RunNotFoundError, ValueError for what is no UUID, PgflowError.
        """
        chosen = uuid_of(run_id)
        return self._asked(lambda conn: details_of(conn, chosen, self, payloads=payloads))

    def workers_alive(self, flow: FlowModule | str) -> int:
        """How many workers of a flow or job (object or slug) live, in whatever process; 0: nobody runs it.

        One of this package counts until it has stopped, or was not heard of for a minute; another runtime's, which is
        silent while it works, for five. Raises ValueError, and PgflowError, also where the role may not read that.
        """
        slug = self._resolve(flow)[0]
        return len(self._asked(lambda conn: living_workers(conn, slug)))

    def runs(
        self,
        *,
        status: RunStatus | None = None,
        flow: FlowModule | str | None = None,
        since: datetime | timedelta | None = None,
        limit: int = 100,
        after: RunSummary | Run | AioRun | UUID | str | None = None,
    ) -> tuple[RunSummary, ...]:
        """Runs in this database, the newest first, `limit` of them at most (1 to 10,000).

        Those that are `started`, `completed` or `failed`, of a flow (object or slug), that began since then (an aware
        datetime) or within so long (a timedelta, by the server's clock). `after` is the last run of the page before:
        what begins meanwhile neither comes twice nor is left out. As a value it may be deleted by now; as an id it is
        looked up, and RunNotFoundError raised. pgflow has no index on when runs began: all that match are looked at,
        within the time limit of a call (15 s). Raises ValueError, and PgflowError.
        """
        slug = None if flow is None else self._resolve(flow)[0]
        return self._asked(listing(status, slug, since, limit, after))

    def recent_runs(self, limit: int = 20, *, patience: float = 1.0) -> tuple[RunSummary, ...]:
        """The `limit` runs that began last, in this database, the newest first.

        Waits up to `patience` seconds for the database, and as long again for its answer. Raises ValueError as `runs`,
        and PgflowError.
        """
        self._calls.database.check_process()
        latest = listing(None, None, None, limit, None)
        return self._calls.off_main(lambda: self._recent(latest, patience))

    def _recent(self, latest: Callable[[Connection], T], patience: float) -> T:
        try:
            return self._calls.database.call(latest, patience=patience, at_server=patience, lock=patience)
        except DatabaseError as error:
            raise self._calls.callers_error(error) from error

    def wait(self, run: Run[Output], timeout: float | None) -> Run[Output]:
        """As `Run.wait`."""
        return self._endings.wait(run, timeout, self)

    def may_have_ended(self, run_ids: Iterable[UUID]) -> None:
        """These runs may be finished by now: who waits for them looks at once. Does not wait itself."""
        self._waits.may_have_ended(run_ids)
