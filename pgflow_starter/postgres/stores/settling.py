"""Settling: what became of tasks is written, and a run that somebody has locked keeps no other from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any
from uuid import UUID

from pgflow_starter.core.runs import EndedRun
from pgflow_starter.core.task import STARTED_AGAIN, Ignored, Outcome, OutcomeKind, Settled
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.connection import Connection, Session
from pgflow_starter.postgres.connections.database import QUERY_CANCELED
from pgflow_starter.postgres.stores.carrying import ENDED, Carried, carried_by, carry, ended, parameters
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane
from pgflow_starter.postgres.stores.features import StorePart, on_queue
from pgflow_starter.postgres.stores.free_runs import FREE, IS_FREE, columns
from pgflow_starter.postgres.stores.snoozing import snooze

_GIVEN = """
unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[], %(texts)s::text[])
    with ordinality as o(run_id, step_slug, task_index, text, n)
"""
# What a task must be for its outcome to have been taken: complete_task and fail_task return its row in any case. An
# output that no map can take fails the task; another's failure, or another's attempt, has another text.
_COMPLETED = "(t.status = 'completed' or t.status = 'failed' and starts_with(t.error_message, '[TYPE_VIOLATION]'))"
_FAILED = "(t.status in ('queued', 'failed') and t.error_message = o.text)"
# The runs are locked first: fail_task beside complete_task in one run deadlocks on 0.8.1 otherwise. In order of run_id,
# for the same reason between batches; those that somebody has locked are passed over, and told. All in one statement.
# Which of the outcomes were ignored is told with where task and run stand.
_COMPLETE = f"""
with free as materialized (
    select run_id, status from pgflow.runs where run_id = any(%(runs)s::uuid[]) order by run_id for update skip locked
)
select array(select r.run_id from pgflow.runs r
             where r.run_id = any(%(runs)s::uuid[]) and r.run_id not in (select run_id from free)),
       (select string_agg(run_id::text, ',') from free),
       (select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(o.n, t.status, free.status))
                   filter (where {_COMPLETED} is not true)
        from {_GIVEN} join free using (run_id),
            lateral pgflow.complete_task(o.run_id, o.step_slug, o.task_index, o.text::jsonb) t)
"""  # noqa: S608 - constants
# The same for outcomes of which something else was locked: a step's state, the task, its message.
_ALL_FREE = """
with free as materialized (
    select run_id from pgflow.runs where run_id = any(%(all_runs)s::uuid[]) order by run_id for update skip locked
), states as materialized (
    select s.run_id from pgflow.step_states s where s.run_id in (select run_id from free)
    order by s.run_id, s.step_slug for update skip locked
), tasks as materialized (
    select t.run_id, t.message_id from pgflow.step_tasks t
    join unnest(%(all_runs)s::uuid[], %(all_steps)s::text[], %(all_indexes)s::integer[])
        as o(run_id, step_slug, task_index) using (run_id, step_slug, task_index)
    where t.run_id in (select run_id from free) for update of t skip locked
), messages as materialized (
    select q.msg_id from pgmq.{queue} q where q.msg_id in (select message_id from tasks) for update skip locked
), all_free as materialized (
    select f.run_id from free f
    where (select count(*) from states s where s.run_id = f.run_id)
            = (select count(*) from pgflow.step_states s where s.run_id = f.run_id)
      and (select count(*) from tasks t where t.run_id = f.run_id)
            = (select count(*) from pgflow.step_tasks t
               join unnest(%(all_runs)s::uuid[], %(all_steps)s::text[], %(all_indexes)s::integer[])
                   as o(run_id, step_slug, task_index) using (run_id, step_slug, task_index)
               where t.run_id = f.run_id)
      and not exists (select from tasks t join pgmq.{queue} q on q.msg_id = t.message_id
                      where t.run_id = f.run_id and q.msg_id not in (select msg_id from messages))
)
select array(select r.run_id from pgflow.runs r
             where r.run_id = any(%(all_runs)s::uuid[]) and r.run_id not in (select run_id from all_free)),
       set_config('pgflow_starter.free', coalesce((select string_agg(run_id::text, ',') from all_free), ''), true)
"""
_RUN = "(select r.status from pgflow.runs r where r.run_id = o.run_id)"
_COMPLETE_FREE = f"""
select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(o.n, t.status, {_RUN})) filter (where {_COMPLETED} is not true)
from {_GIVEN},
    lateral pgflow.complete_task(o.run_id, o.step_slug, o.task_index, o.text::jsonb) t where {IS_FREE}
"""  # noqa: S608 - constants
# An attempt that another has followed is not to fail that one, as `fail_task` would: it is said again, after an answer
# that was lost, and then the task has its text; or it is its worker's that was taken for dead. (What this transaction
# has left no attempt is no later one.) The tasks are locked first: one that is queued may be claimed any moment.
_FAIL_FREE = f"""
with task as materialized (
    select x.run_id, x.step_slug, x.task_index, x.attempts_count, x.error_message,
           x.status = 'started' and x.xmin::text <> pg_catalog.mod(pg_catalog.txid_current(), 4294967296::bigint)::text
               as under_way
    from (select distinct * from unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[])
              as o(run_id, step_slug, task_index)) o
    join pgflow.step_tasks x
        on x.run_id = o.run_id and x.step_slug = o.step_slug and x.task_index = o.task_index
    where {IS_FREE}
    order by x.run_id, x.step_slug, x.task_index for no key update of x
), o as materialized (
    select o.*, x.error_message,
           o.attempt < pg_catalog.max(o.attempt) over (partition by o.run_id, o.step_slug, o.task_index)
               or coalesce(x.under_way and x.attempts_count > o.attempt, false) as followed
    from unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[], %(texts)s::text[], %(attempts)s::integer[])
        with ordinality as o(run_id, step_slug, task_index, text, attempt, n)
    left join task x on x.run_id = o.run_id and x.step_slug = o.step_slug and x.task_index = o.task_index
    where {IS_FREE}
)
select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(o.n, o.status, {_RUN})) filter (where o.taken is not true)
from (select o.n, o.run_id, t.status, {_FAILED} as taken
      from (select * from o where not followed) o,
          lateral pgflow.fail_task(o.run_id, o.step_slug, o.task_index, o.text) t
      union all
      select o.n, o.run_id, '{STARTED_AGAIN}'::text, o.error_message = o.text from o where o.followed) o
"""  # noqa: S608 - constants
# Leaves tasks no attempt, so that fail_task fails them for good.
EXHAUST = """
update pgflow.step_tasks t
set attempts_count = greatest(t.attempts_count, coalesce(s.opt_max_attempts, f.opt_max_attempts))
from pgflow.steps s join pgflow.flows f using (flow_slug),
     unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[]) as o(run_id, step_slug, task_index)
where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug and t.status = 'started'
  and t.run_id = o.run_id and t.step_slug = o.step_slug and t.task_index = o.task_index
"""
_O = "%(indexes)s::integer[]) as o(run_id, step_slug, task_index)"
_O_ATTEMPT = "%(indexes)s::integer[], %(attempts)s::integer[]) as o(run_id, step_slug, task_index, attempt)"
_EXHAUST_FREE = f"{EXHAUST.replace(_O, _O_ATTEMPT)} and t.attempts_count <= o.attempt and {IS_FREE}"


_NO_TABLE = "42P01"
_PASSING = ("40", "53", "55", "57")  # classes: a deadlock, a full server, a lock, an operator

FEW = 2
"""Outcomes from which on the fast lane is quicker than the core's functions."""


class Settling(StorePart):
    """Writes outcomes. Blocks on I/O; thread-safe."""

    _fast_lane: FastLane
    _carried: Callable[[str], str | None]

    def settle(self, outcomes: Sequence[Outcome], answers: float = 1.0, careful: bool = False) -> Settled:
        """As `TaskStore.settle`, in one transaction and one round trip: all that are not locked or nothing.

        What the fast lane leaves to the core's functions is written after it, each run in a transaction of its own.
        """
        ordered = sorted(outcomes, key=_order)
        if sum(o.kind is not OutcomeKind.SNOOZED for o in ordered) >= FEW and not careful:
            try:
                found = self._database.call(partial(self._settle_fast, ordered), answers=answers)
            except DatabaseError as error:
                if error.connection_lost or error.timed_out:
                    raise
                self._fast_lane.forget()
                settled = self._settle_by_core(ordered, answers, careful)
                if not error.locked and error.sqlstate != QUERY_CANCELED:  # by somebody, who says nothing of it
                    self._fast_lane.failed(error.sqlstate or error.error_type)
                return settled
            if found is not None and len(found[1]) < len(ordered):
                return self._settle_rest(*found, answers)
        return self._settle_by_core(ordered, answers, careful)

    def _settle_fast(self, outcomes: Sequence[Outcome], conn: Session) -> tuple[Settled, list[Outcome]] | None:
        """By the fast lane: what came of it, and the outcomes that it left; None where it is off."""
        carried = carried_by(outcomes, self._carried)
        found = self._fast_lane.settle(conn, outcomes, carried)
        if found is None:
            return None
        row, written, rows = found
        settled = _settled(outcomes, row, [], ended(rows, carried))
        done = written.union(map(id, settled), (id(outcome) for outcome, _ in settled.ignored))
        return settled, [outcome for outcome in outcomes if id(outcome) not in done]

    def _settle_rest(self, settled: Settled, rest: Sequence[Outcome], answers: float) -> Settled:
        """What was settled, together with the rest; a run of which that fails is left as if somebody had locked it.

        What snoozes is written together: no function of the core's is called for it.
        """
        done = [o for o in rest if o.kind is not OutcomeKind.SNOOZED]
        parts = [list(run) for _, run in groupby(done, key=lambda outcome: outcome.task.run_id)]
        for outcomes in filter(None, ([o for o in rest if o.kind is OutcomeKind.SNOOZED], *parts)):
            try:
                part = self._settle_by_core(outcomes, answers, careful=False)
            except DatabaseError:  # to be raised when it is tried again by itself
                part = Settled(outcomes)
            settled = settled.and_of(part)
        return settled

    def _settle_by_core(self, ordered: Sequence[Outcome], answers: float, careful: bool) -> Settled:
        carried = carried_by(ordered, self._carried)
        try:
            return self._settle_carrying(ordered, carried, answers, careful)
        except DatabaseError as error:
            refused = error.sqlstate is not None and not error.sqlstate.startswith(_PASSING)
            if not (carried and refused) or error.connection_lost or error.timed_out:
                raise
        return self._settle_carrying(ordered, {}, answers, careful)  # rather without a trace than not at all

    def _settle_carrying(self, ordered: Sequence[Outcome], carried: Carried, answers: float, careful: bool) -> Settled:
        if not careful:
            try:
                return self._database.call(partial(self._settle, ordered, carried), answers=answers)
            except DatabaseError as error:
                if not error.locked:
                    raise
        # Something of one of them is locked, or a table is: then this fails as well.
        by_queue: dict[str, list[Outcome]] = {}
        for outcome in ordered:
            by_queue.setdefault(outcome.task.queue, []).append(outcome)
        together = Settled(())
        for queue, outcomes in by_queue.items():
            find = on_queue(_ALL_FREE, queue)
            try:
                settled = self._database.call(partial(self._settle_found, outcomes, find, carried), answers=answers)
            except DatabaseError as error:
                if error.sqlstate != _NO_TABLE:
                    raise
                # The queue is gone, with its messages; with its flow, perhaps, and then the runs are.
                settled = self._database.call(partial(self._settle_found, outcomes, FREE, {}), answers=answers)
            together = together.and_of(settled)
        return together

    def _settle(self, outcomes: Sequence[Outcome], carried: Carried, conn: Connection) -> Settled:
        if carried or any(o.kind is not OutcomeKind.COMPLETED for o in outcomes):
            return self._settle_found(outcomes, FREE, carried, conn)
        row: Any = conn.execute(_COMPLETE, columns(outcomes)).fetchone()
        return _settled(outcomes, row, [(outcomes, row[2])])

    def _settle_found(self, outcomes: Sequence[Outcome], find: str, carried: Carried, conn: Connection) -> Settled:
        """Those whose runs `find` finds free."""
        slug = outcomes[0].task.flow_slug
        queues = [queue.name for queue in self._queues_of(conn, [slug])[slug]] if carried else []
        completed = [o for o in outcomes if o.kind is OutcomeKind.COMPLETED]
        snoozed = [o for o in outcomes if o.kind is OutcomeKind.SNOOZED]
        failed = [o for o in outcomes if o.kind not in (OutcomeKind.COMPLETED, OutcomeKind.SNOOZED)]
        for_good = [o for o in failed if o.kind is OutcomeKind.FAILED_FOR_GOOD]
        written: list[tuple[Sequence[Outcome], Any]] = []
        told: list[tuple[Sequence[Outcome], Any]] = []
        with conn.pipeline(), conn.transaction():
            found = conn.execute(find, columns(outcomes, "all_"))
            if completed:
                written.append((completed, conn.execute(_COMPLETE_FREE, columns(completed))))
            if for_good:
                conn.execute(_EXHAUST_FREE, columns(for_good))
            if failed:
                written.append((failed, conn.execute(_FAIL_FREE, columns(failed))))
            row: Any = found.fetchone() if snoozed else None
            if row is not None and row[1]:
                told = snooze(conn, snoozed, set(row[1].split(",")), self._database.clock.monotonic())
            if carried:
                carry(conn, carried, queues, self._detected(conn))
                runs = conn.execute(ENDED, parameters(carried))
        told += [(part, cursor.fetchone()[0]) for part, cursor in written]
        over = ended(runs.fetchall(), carried) if carried else ()
        return _settled(outcomes, row or found.fetchone(), told, over)


def _order(outcome: Outcome) -> tuple[int, str, int]:
    task = outcome.task
    return task.run_id.int, task.step_slug, task.task_index  # whose order is that of the UUIDs, and quicker


def _settled(
    outcomes: Sequence[Outcome],
    row: Any,
    ignored: Sequence[tuple[Sequence[Outcome], Any]],
    ended: Sequence[EndedRun] = (),
) -> Settled:
    """From the runs that were locked and those that were free, and of each part of the outcomes what was ignored."""
    locked = {run_id.int for run_id in row[0]}
    there = locked.union(UUID(run_id).int for run_id in (row[1] or "").split(",") if run_id)
    left = [o for o in outcomes if o.task.run_id.int in locked]
    told = [(part[n - 1], Ignored(task, run)) for part, found in ignored for n, task, run in found or ()]
    told += [(o, Ignored(None, None)) for o in outcomes if o.task.run_id.int not in there]
    return Settled(left, told, ended)
