"""`Wording`: what the fast lane says to a core that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgflow_starter.core.task import Outcome, OutcomeKind
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.carrying import Carried, parameters
from pgflow_starter.postgres.stores.fast_lane.claiming import claim_of
from pgflow_starter.postgres.stores.fast_lane.jobs import IS_JOB
from pgflow_starter.postgres.stores.fast_lane.known_cores import UNCHANGED, Core, look
from pgflow_starter.postgres.stores.fast_lane.shape import Shape
from pgflow_starter.postgres.stores.fast_lane.statements import statements_in
from pgflow_starter.postgres.stores.features import Features, on_queue
from pgflow_starter.postgres.stores.free_runs import columns as columns_of

Said = tuple[str, dict[str, Any]]
"""A statement with its parameters."""


def wording_for(conn: Connection) -> Wording | str:
    """That for the core there is, or why the fast lane is off for it. Raises psycopg's errors."""
    seen = look(conn)
    return Wording(seen) if isinstance(seen, Core) else seen


class Wording:
    """The statements for one core, until it is looked at anew. Thread-safe."""

    def __init__(self, core: Core) -> None:
        self.version = core.version
        self._core = core
        self._statements = statements_in(core.dialect)
        self._jobs: dict[str, bool] = {}

    def unchanged(self, conn: Connection) -> bool:
        """Whether the core is as it was when it was looked at. Raises psycopg's errors."""
        row: Any = conn.execute(UNCHANGED, self._core.guard).fetchone()
        return bool(row[0])

    def starting(
        self, conn: Connection, slug: str, run_ids: Sequence[str], inputs: Sequence[str], columns: str
    ) -> Said:
        """Starts those of the runs that are common. Raises psycopg's errors."""
        guard = self._core.guard
        if len(run_ids) == 1 and self._is_job(conn, slug):
            one = {"slug": slug, "run_id": run_ids[0], "input": inputs[0], **guard}
            return on_queue(self._statements.start_job.replace("{columns}", columns), slug), one
        many = {"slug": slug, "run_ids": run_ids, "inputs": inputs, **guard}
        return self._statements.start.format(columns=columns), many

    def claiming(self, features: Features, shape: Shape, given: dict[str, Any]) -> Said:
        """Reads messages and starts their tasks."""
        return claim_of(given["queue"], features, self._core.dialect, shape), {**given, **self._core.guard}

    def settling(
        self, conn: Connection, outcomes: Sequence[Outcome], carried: Carried
    ) -> list[tuple[list[Outcome], Said]]:
        """Write those of the outcomes of a queue that are common, each statement those of one kind.

        What is sent for the runs that are `carried` carries that. Raises psycopg's errors.
        """
        queue = outcomes[0].task.flow_slug
        several = self._statements.complete_carrying if carried else self._statements.complete
        complete = self._statements.complete_jobs if self._is_job(conn, queue) else several
        sent_on = parameters(carried) if carried else {}
        kinds = {complete: OutcomeKind.COMPLETED, self._statements.fail: OutcomeKind.FAILED}
        parts = ((statement, [o for o in outcomes if o.kind is kind]) for statement, kind in kinds.items())
        return [
            (part, (statement, {**columns_of(part), **self._core.guard, **sent_on, "queue": queue}))
            for statement, part in parts
            if part
        ]

    def _is_job(self, conn: Connection, slug: str) -> bool:
        """As it was when it was first there; the statements ask again."""
        found = self._jobs.get(slug)
        if found is None:
            row: Any = conn.execute(IS_JOB, {"slug": slug}).fetchone()
            found = bool(row[0])
            if row[1]:
                self._jobs[slug] = found
        return found
