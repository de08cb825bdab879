"""`PostgresRunEnds`: which runs ended with what became of some tasks, and how."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from pgflow_starter.core.evidence import TaskKey
from pgflow_starter.postgres.connections.database import Database

PATIENCE = 1.0
"""Seconds that it waits for a connection, or for one to be possible: it can be asked again."""

# A run ends in the transaction in which its last task does, whoever has that one: the times of both are its beginning.
# By keys alone. Who was too late, for the task was given to another, has its outcome taken where it is the same: it is
# the other's.
_ENDED_BY = """
select r.flow_slug, r.status, pg_catalog.count(distinct r.run_id)
from unnest(%s::uuid[], %s::text[], %s::integer[]) as o (run_id, step_slug, task_index)
join pgflow.step_tasks t on t.run_id = o.run_id and t.step_slug = o.step_slug and t.task_index = o.task_index
join pgflow.runs r on r.run_id = o.run_id
where t.last_worker_id = any(%s::uuid[])
  and (r.status = 'completed' and r.completed_at in (t.completed_at, t.failed_at)
       or r.status = 'failed' and r.failed_at in (t.completed_at, t.failed_at))
group by r.flow_slug, r.status
"""


class PostgresRunEnds:
    """`ports.RunEndStore` on a Database. Blocks on I/O; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ended_by(self, tasks: Sequence[TaskKey], workers: Collection[UUID]) -> Mapping[tuple[str, str], int]:
        """As `RunEndStore.ended_by`."""
        runs, steps, indexes = zip(*tasks, strict=True) if tasks else ((), (), ())
        given = [str(run_id) for run_id in runs], list(steps), list(indexes), list(workers)
        rows: list[Any] = self._database.call(lambda conn: conn.execute(_ENDED_BY, given).fetchall(), patience=PATIENCE)
        return {(flow, status): count for flow, status, count in rows}
