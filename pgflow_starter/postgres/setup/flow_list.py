"""The flows that a database has, as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pgflow_starter.postgres.setup.admin import limited, session
from pgflow_starter.postgres.stores.features import detect

ANSWERS_WITHIN = 10
"""Seconds that the question may take."""

_DENIED = "do this as a role that may read pgflow's tables"
# Conditions, which older cores have not, are `flow graph`'s.
_FLOWS = """
select f.flow_slug, f.opt_max_attempts, f.opt_base_delay, f.opt_timeout, extract(epoch from f.created_at)::float8,
       coalesce((select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                            s.step_slug, s.step_type,
                            array(select d.dep_slug from pgflow.deps d
                                  where d.flow_slug = s.flow_slug and d.step_slug = s.step_slug order by 1))
                        order by s.step_index)
                 from pgflow.steps s where s.flow_slug = f.flow_slug), '[]')
from pgflow.flows f order by f.flow_slug
"""


@dataclass(frozen=True, slots=True)
class ListedStep:
    """One step of a stored flow; `kind` is `single` or `map`."""

    slug: str
    kind: str
    depends_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListedFlow:
    """A flow, or a job, which is one of a single step. `base_delay` and `timeout` are whole seconds."""

    slug: str
    max_attempts: int
    base_delay: int
    timeout: int
    created_at: datetime
    steps: tuple[ListedStep, ...]


def stored_flows(conninfo: str) -> tuple[ListedFlow, ...]:
    """All of the database's, in the order of their slugs. Takes 10 seconds at most once it is connected.

    Raises NotInstalledError, SetupError, DatabaseError. Safe from any thread and process.
    """
    with session(conninfo, denied=_DENIED) as connection, limited(connection, ANSWERS_WITHIN):
        detect(connection)
        rows: list[Any] = connection.execute(_FLOWS).fetchall()
    return tuple(
        ListedFlow(
            slug,
            max_attempts,
            base_delay,
            timeout,
            datetime.fromtimestamp(created_at, UTC),
            tuple(ListedStep(step, kind, tuple(deps)) for step, kind, deps in steps),
        )
        for slug, max_attempts, base_delay, timeout, created_at, steps in rows
    )
