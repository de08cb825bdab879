"""Settling: what became of tasks is written, and a run that somebody has locked keeps no other from it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

from pgflow_starter.core.task import Outcome, OutcomeKind
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connection import Connection
from pgflow_starter.postgres.database import Database

ONE_LOCK = 0.1
"""Seconds that the outcomes of one run wait for a lock, once a batch of many has waited longer."""

IN_A_ROW = 3
"""Runs that must be locked one after the other until it is a table that is."""

# Their runs are locked first: fail_task beside complete_task in one run deadlocks on 0.8.1 otherwise. In order of
# run_id, for the same reason between batches; those that somebody has locked are passed over, and told.
_FREE = """
with given as (
    select * from unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[], %(texts)s::text[])
        as o(run_id, step_slug, task_index, text)
), free as materialized (
    select run_id from pgflow.runs where run_id = any(%(runs)s::uuid[]) order by run_id for update skip locked
)
"""
_LOCKED = """
array(select r.run_id from pgflow.runs r where r.run_id = any(%(runs)s::uuid[])
      and r.run_id not in (select run_id from free))
"""
# All in one statement, in the order given.
_COMPLETE = f"""
{_FREE}
select {_LOCKED},
       (select count(*) from given o join free using (run_id),
            lateral pgflow.complete_task(o.run_id, o.step_slug, o.task_index, o.text::jsonb))
"""  # noqa: S608 - constants
_FAIL = f"""
{_FREE}
select {_LOCKED},
       (select count(*) from given o join free using (run_id),
            lateral pgflow.fail_task(o.run_id, o.step_slug, o.task_index, o.text))
"""  # noqa: S608 - constants
# Leaves the tasks no attempt, so that fail_task fails them for good.
EXHAUST = """
update pgflow.step_tasks t
set attempts_count = greatest(t.attempts_count, coalesce(s.opt_max_attempts, f.opt_max_attempts))
from pgflow.steps s join pgflow.flows f using (flow_slug),
     unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[]) as o(run_id, step_slug, task_index)
where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug and t.status = 'started'
  and t.run_id = o.run_id and t.step_slug = o.step_slug and t.task_index = o.task_index
  and t.run_id in (select run_id from pgflow.runs where run_id = any(%(runs)s::uuid[]) for update skip locked)
"""


class Settling:
    """Writes outcomes. Blocks on I/O; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def settle(self, outcomes: Sequence[Outcome], answers: float = 1.0) -> Sequence[Outcome]:
        """Write them, in one transaction and one round trip; those that are not, for somebody has locked their run.

        It is all of the others or nothing. Raises DatabaseError.
        """
        ordered = sorted(outcomes, key=lambda o: (o.task.run_id, o.task.step_slug, o.task.task_index))
        try:
            return self._database.call(partial(_settle, ordered), answers=answers)
        except DatabaseError as error:
            if not error.locked:
                raise
            return self._settle_by_run(ordered, answers, error)

    def _settle_by_run(self, outcomes: Sequence[Outcome], answers: float, error: DatabaseError) -> Sequence[Outcome]:
        """Each run's by themselves: something else of one of them is locked. Raises `error` where that is a table."""
        kept: list[Outcome] = []
        in_a_row = 0
        for _, group in groupby(outcomes, key=lambda o: o.task.run_id):
            mine = list(group)
            if in_a_row >= IN_A_ROW:
                kept += mine
                continue
            try:
                left = self._database.call(partial(_settle, mine), answers=answers, lock=ONE_LOCK)
            except DatabaseError as again:
                if not again.locked:
                    raise
                left = mine
            kept += left
            in_a_row = in_a_row + 1 if left else 0
        if len(kept) == len(outcomes) and in_a_row >= IN_A_ROW:
            raise error
        return kept


def _settle(outcomes: Sequence[Outcome], conn: Connection) -> list[Outcome]:
    completed = [o for o in outcomes if o.kind is OutcomeKind.COMPLETED]
    failed = [o for o in outcomes if o.kind is not OutcomeKind.COMPLETED]
    for_good = [o for o in failed if o.kind is OutcomeKind.FAILED_FOR_GOOD]
    if not failed:
        return _locked(completed, conn.execute(_COMPLETE, _columns(completed)).fetchone())
    done = None
    with conn.pipeline(), conn.transaction():
        if completed:
            done = conn.execute(_COMPLETE, _columns(completed))
        if for_good:
            conn.execute(EXHAUST, _columns(for_good))
        ended = conn.execute(_FAIL, _columns(failed))
    return (_locked(completed, done.fetchone()) if done else []) + _locked(failed, ended.fetchone())


def _columns(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    tasks = [o.task for o in outcomes]
    return {
        "runs": [t.run_id for t in tasks],
        "steps": [t.step_slug for t in tasks],
        "indexes": [t.task_index for t in tasks],
        "texts": [o.output_json if o.kind is OutcomeKind.COMPLETED else o.error for o in outcomes],
    }


def _locked(outcomes: Sequence[Outcome], row: Any) -> list[Outcome]:
    runs = set(row[0])
    return [o for o in outcomes if o.task.run_id in runs] if runs else []
