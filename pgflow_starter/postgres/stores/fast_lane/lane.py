"""`FastLane`: whether it is on in a database, and settling by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgflow_starter.core.task import Outcome, OutcomeKind
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.fast_lane.completing import COMPLETE
from pgflow_starter.postgres.stores.fast_lane.failing import FAIL
from pgflow_starter.postgres.stores.fast_lane.jobs import COMPLETE_JOBS, IS_JOB, START_JOB
from pgflow_starter.postgres.stores.fast_lane.known_cores import Core, look
from pgflow_starter.postgres.stores.fast_lane.starting import START
from pgflow_starter.postgres.stores.free_runs import FREE, columns, runs

# Plans that hold for any size of batch and of table, made once a connection; behind a pooler, where they are made each
# time, to compile them would take longer than they do. For the statements that follow in the transaction.
PLANS = """
select set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true),
       set_config('jit', 'off', true)
"""


class FastLane:
    """Whether it is on, by the core that there is; looked at first when it is needed. Thread-safe."""

    def __init__(self, *, wanted: bool = True) -> None:
        self._wanted = wanted
        self._seen: Core | str | None = None
        self._jobs: dict[str, bool] = {}

    def core(self, conn: Connection) -> Core | None:
        """The core that it stands in for, None where it is off. Raises psycopg's errors."""
        if not self._wanted:
            return None
        if self._seen is None:
            self._seen = look(conn)
        return self._seen if isinstance(self._seen, Core) else None

    def forget(self) -> None:
        """The core may be another by now."""
        self._seen = None
        self._jobs.clear()

    def start(
        self, conn: Connection, slug: str, run_ids: Sequence[str], inputs: Sequence[str], columns: str
    ) -> list[Any]:
        """Start those of the runs that are common, in this transaction; their rows. Raises psycopg's errors."""
        core = self.core(conn)
        if core is None:
            return []
        if len(run_ids) == 1 and self._is_job(conn, slug):
            one = {"slug": slug, "run_id": run_ids[0], "input": inputs[0], **core.guard}
            rows: list[Any] = conn.execute(START_JOB.format(columns=columns), one, prepare=True).fetchall()
            if not rows:
                self._jobs.clear()
            return rows
        many = {"slug": slug, "run_ids": run_ids, "inputs": inputs, **core.guard}
        return list(conn.execute(START.format(columns=columns), many, prepare=True).fetchall())

    def _is_job(self, conn: Connection, slug: str) -> bool:
        """As it was when it was first asked; the statements ask again."""
        found = self._jobs.get(slug)
        if found is None:
            row: Any = conn.execute(IS_JOB, {"slug": slug}).fetchone()
            found = self._jobs[slug] = bool(row[0])
        return found

    def settle(self, conn: Connection, outcomes: Sequence[Outcome]) -> tuple[Any, set[int]] | None:
        """Write those of the outcomes that are common, in one transaction and one round trip; None where it is off.

        The answer of `FREE` and the `id` of each outcome that is written. Raises psycopg's errors, with nothing done.
        """
        core = self.core(conn)
        if core is None:
            return None
        queue = outcomes[0].task.flow_slug
        complete = COMPLETE_JOBS if self._is_job(conn, queue) else COMPLETE
        kinds = {complete: OutcomeKind.COMPLETED, FAIL: OutcomeKind.FAILED}
        parts = {statement: [o for o in outcomes if o.kind is kind] for statement, kind in kinds.items()}
        with conn.pipeline(), conn.transaction():
            conn.execute(PLANS)
            free = conn.execute(FREE, {"all_runs": runs(outcomes)})
            answers = {
                statement: conn.execute(statement, {**columns(part), **core.guard, "queue": queue}, prepare=True)
                for statement, part in parts.items()
                if part
            }
        written = set[int]()
        for statement, answer in answers.items():
            row: Any = answer.fetchone()
            if not row[1]:
                self.forget()
            common = set(row[0] or ())
            written.update(id(o) for o in parts[statement] if o.task.run_id in common)
        return free.fetchone(), written
