"""The trace context of a run goes on to the messages that its outcomes bring about, and who ends a traced run knows it.

All in the transaction that writes the outcomes, of runs whose messages carry a context alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias
from uuid import UUID

from pgflow_starter.core.runs import EndedRun
from pgflow_starter.core.task import Outcome
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.features import Features, on_queue
from pgflow_starter.postgres.stores.free_runs import text_array

Carried: TypeAlias = Mapping[UUID, str]
"""By run, what its messages carry: a JSON object."""

# What pgflow's functions sent has no headers. It is of the steps that this transaction has started, which is asked
# first: a map may have thousands of tasks.
_CARRY = """
update pgmq.{queue} q set headers = coalesce(q.headers, '{{}}') || c.headers::jsonb
from unnest(%(carried_runs)s::uuid[], %(carried)s::text[]) as c(run_id, headers)
join pgflow.step_states s on s.run_id = c.run_id and s.started_at = now()
join pgflow.step_tasks t on t.run_id = s.run_id and t.step_slug = s.step_slug and t.queued_at = now()
where q.msg_id = t.message_id{of_queue}
"""

ENDED = """
select r.run_id, r.flow_slug, r.status, extract(epoch from r.started_at)::float8,
       extract(epoch from coalesce(r.completed_at, r.failed_at))::float8
from pgflow.runs r
where r.run_id = any(%(carried_runs)s::uuid[]) and coalesce(r.completed_at, r.failed_at) = now()
"""
"""Those of the runs that this transaction has ended: for `ended`."""


def carried_by(outcomes: Iterable[Outcome], carried: Callable[[str], str | None]) -> Carried:
    """Of the runs of these outcomes, by the headers of their tasks' messages; `carried` is `MessageObserver`'s."""
    found: dict[UUID, str] = {}
    for outcome in outcomes:
        headers, run_id = outcome.task.headers, outcome.task.run_id
        if headers is not None and run_id not in found and (kept := carried(headers)) is not None:
            found[run_id] = kept
    return found


def parameters(carried: Carried) -> dict[str, str]:
    """For the statements here, and for those of the fast lane that carry."""
    return {
        "carried_runs": f"{{{','.join([run_id.hex for run_id in carried])}}}",
        "carried": text_array(carried.values()),
    }


def carry(conn: Connection, carried: Carried, queues: Iterable[str], features: Features) -> None:
    """Have what this transaction has sent into these queues carry it. Raises psycopg's errors."""
    for queue in queues:
        conn.execute(on_queue(_CARRY, queue, features), {**parameters(carried), "queue": queue})


def ended(rows: Iterable[Any], carried: Carried) -> list[EndedRun]:
    """From the rows of `ENDED`."""
    return [EndedRun._make((*row, carried.get(row[0]))) for row in rows]
