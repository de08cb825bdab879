"""Which queues a flow has: one of its own name, or one for each of its steps, where another runtime compiled it so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pgflow_starter.postgres.connections.connection import Connection

# Whole rows, for older cores have no such columns.
_OF_STEPS = """
select f.flow_slug,
       pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(pg_catalog.to_jsonb(s) ->> 'queue_name'::text, s.step_slug)
                            order by s.step_index)
from pgflow.flows f join pgflow.steps s on s.flow_slug = f.flow_slug
where f.flow_slug = any(%s::text[]) and pg_catalog.to_jsonb(f) ->> 'queue_mode'::text = 'step'
group by f.flow_slug
"""


class Queue(NamedTuple):
    """`step`: the only one whose tasks it has; None where it has the whole flow's."""

    name: str
    step: str | None = None


def of_steps(conn: Connection, slugs: Sequence[str]) -> dict[str, tuple[Queue, ...]]:
    """Those of the flows in which each step has one, in the order of the steps. Raises psycopg's errors."""
    rows: list[Any] = conn.execute(_OF_STEPS, (list(slugs),)).fetchall()
    return {slug: tuple(Queue(name, step) for name, step in found) for slug, found in rows}


def gone(slug: str, queues: Sequence[str]) -> str:
    """In a sentence, of those of a flow's steps, with what mends it."""
    make = "; ".join(f"select pgmq.create('{queue}')" for queue in queues)
    return (
        f"flow {slug!r} in the database has a queue for each step (queue_mode 'step'), and {', '.join(queues)} is gone."
        f" See who dropped it, then make it anew, empty: {make}"
    )


class Queues:
    """Those of flows, as they were when they were first asked for, until they are forgotten. Thread-safe.

    A flow gets others when it is deleted and compiled anew: what is done in the former ones fails then.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Queue, ...]] = {}

    def known(self, slug: str) -> tuple[Queue, ...] | None:
        """The flow's, None where nobody has asked. Does not wait."""
        return self._known.get(slug)

    def of(self, conn: Connection, slugs: Sequence[str], *, has_some: bool) -> Mapping[str, tuple[Queue, ...]]:
        """Each flow's; one query where some are not known and the core `has_some` of steps. Raises psycopg's errors."""
        known = self._known
        unknown = [slug for slug in slugs if slug not in known]
        if unknown:
            found = of_steps(conn, unknown) if has_some else {}
            known.update((slug, found.get(slug) or (Queue(slug),)) for slug in unknown)
        return known

    def forget(self) -> None:
        """The flows may have been compiled anew."""
        self._known = {}
