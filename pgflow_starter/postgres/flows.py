"""Flows and workers in the database: what the registration phases do there.

Modules that register at the same time share a look at what is there, and their workers are written together. What has
to be made is made for each by itself, so that none waits for another's lock or fails of another's error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any, TypeVar
from uuid import UUID

import psycopg

from pgflow_starter.core.definition import FlowDefinition, StepDefinition
from pgflow_starter.core.rules import refused_by_newest
from pgflow_starter.errors import DatabaseError, DefinitionError, NotInstalledError, ShapeMismatchError
from pgflow_starter.ports import CancelScope, Clock, Compiled
from pgflow_starter.postgres import pgmq
from pgflow_starter.postgres.connection import Connection
from pgflow_starter.postgres.database import Database
from pgflow_starter.postgres.features import Features, detect
from pgflow_starter.postgres.foresight import Foresight

# Stored flows with their steps and whether their queue exists; no row for an unknown slug.
_STORED = """
select f.flow_slug, f.opt_max_attempts, f.opt_base_delay, f.opt_timeout,
       exists (select from pgmq.meta where queue_name::text = f.flow_slug),
       coalesce((select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                                                    s.step_slug, s.step_type, s.opt_max_attempts, s.opt_base_delay,
                                                    s.opt_timeout, s.opt_start_delay,
                                                    array(select d.dep_slug from pgflow.deps d
                                                          where d.flow_slug = s.flow_slug and d.step_slug = s.step_slug
                                                          order by 1))
                                  order by s.step_index)
                 from pgflow.steps s where s.flow_slug = f.flow_slug), '[]'),
       pg_catalog.to_jsonb(f) ->> 'queue_mode'
from pgflow.flows f where f.flow_slug = any(%s)
"""
# Creates flow and queue, or does nothing but lock the flow's row: concurrent compiles go one after the other.
_CREATE_FLOW = "select count(*) from pgflow.create_flow(%s, %s, %s, %s)"
_ADD_STEP = "select count(*) from pgflow.add_step(%s, %s, %s::text[], %s, %s, %s, %s, %s)"
_REFUSED_SLUGS = """
select array(select slug from pg_catalog.unnest(%s::text[]) as given (slug) where not pgflow.is_valid_slug(slug))
"""
# Workers' rows; again is no harm, and one that was stopped is a worker anew.
REGISTER_WORKERS = """
insert into pgflow.workers as w (worker_id, queue_name, function_name)
select id, slug, slug from unnest(%s::uuid[], %s::text[]) as given (id, slug)
on conflict (worker_id) do update set last_heartbeat_at = now()
"""

T = TypeVar("T")

LOCK_PATIENCE = 2.0
"""Seconds that a phase waits for somebody's lock, in all, until the attempt counts as failed (SQLSTATE 55P03)."""

_OPTIONS = ("max_attempts", "base_delay", "timeout")
_STEP_OPTIONS = (*_OPTIONS, "start_delay")


_MISSING_STATES = ("3F000", "42P01", "42883")  # schema, table, function


class PostgresFlowStore:
    """`ports.FlowStore` on a Database. Blocks on I/O; thread-safe."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._features: Features | None = None
        self._stored: Foresight[_Stored] = Foresight(clock)
        self._throttles: Foresight[int] = Foresight(clock)

    def compile(self, definition: FlowDefinition, scope: CancelScope) -> Compiled:
        """Create the flow or verify its shape; the definition that is in force, with the options that are stored.

        Raises ShapeMismatchError, NotInstalledError, DatabaseError.
        """
        known = self._stored.take(definition.slug)
        if known is not None and known.value is not None and known.value.queue:
            return _verify(definition, known.value)

        def compiled(conn: Connection) -> Compiled:
            self._detected(conn)
            stored = _stored(conn, [definition.slug]).get(definition.slug) if known is None else known.value
            return _compile(conn, definition, stored)

        return self._call(scope, compiled)

    def verify(self, definitions: Sequence[FlowDefinition], scope: CancelScope, *, notify: bool) -> dict[str, Compiled]:
        """Those that are stored already, by slug, and in the same shape. Raises NotInstalledError, DatabaseError.

        What is seen of the others, and where they shall `notify` of all their notifications, is kept for a moment.
        """
        at = self._clock.monotonic()
        slugs = [definition.slug for definition in definitions]

        def look(conn: Connection) -> tuple[bool, dict[str, _Stored], dict[str, int]]:
            looks = self._detected(conn).notify and notify
            return looks, _stored(conn, slugs), pgmq.throttles(conn, slugs) if looks else {}

        looked, found, throttles = self._call(scope, look)
        verified = {}
        for definition in definitions:
            stored = found.get(definition.slug)
            if stored is not None and stored.queue:
                with suppress(ShapeMismatchError):
                    verified[definition.slug] = _verify(definition, stored)
        self._stored.put([slug for slug in slugs if slug not in verified], found, at)
        if looked:
            self._throttles.put(slugs, throttles, at)
        return verified

    def register_workers(self, workers: Sequence[tuple[UUID, str]], scope: CancelScope) -> None:
        """Make the workers (id, slug) known to pgflow. Raises DatabaseError."""
        ids, slugs = [worker_id for worker_id, _ in workers], [slug for _, slug in workers]
        self._call(scope, lambda conn: conn.execute(REGISTER_WORKERS, (ids, slugs)))

    def notifies(self, queue: str, throttle_ms: int) -> bool:
        """Whether `verify` saw a moment ago that it does, as `enable_notify` would have it. Does not wait."""
        return self._throttles.take_if(queue, throttle_ms)

    def enable_notify(self, queue: str, throttle_ms: int, scope: CancelScope) -> None:
        """Let inserts into the queue notify. Raises NotInstalledError for a pgmq without it, DatabaseError."""
        known = self._throttles.take(queue)
        if known is not None and known.value == throttle_ms:
            return

        def enable(conn: Connection) -> None:
            if not self._detected(conn).notify:
                self._features = None  # it may be upgraded
                msg = "pgmq is too old for the notify strategy, without enable_notify_insert: upgrade it or use polling"
                raise NotInstalledError(msg)
            if known is None:
                pgmq.enable_notify(conn, queue, throttle_ms)
            else:
                pgmq.enable_notify_anew(conn, queue, throttle_ms)

        self._call(scope, enable, waits=False)

    def _call(self, scope: CancelScope, work: Callable[[Connection], T], *, waits: bool = True) -> T:
        """What a phase does there; it may take as long as the phase.

        Where it `waits`, what the server gives up first is done again: for a lock for a while, for its time until then.
        """

        def guarded(conn: Connection) -> T:
            try:
                return work(conn)
            except psycopg.Error as error:
                self._stored.forget()
                self._throttles.forget()
                self._features = None  # what is installed may have been replaced under us
                if error.sqlstate in _MISSING_STATES:
                    detect(conn)  # says what is missing
                raise

        began, patience = self._clock.monotonic(), self._database.patience
        while True:
            try:
                return self._database.call(guarded, scope, answers=inf, within=patience)
            except DatabaseError as error:
                took = self._clock.monotonic() - began
                again = took < (LOCK_PATIENCE if error.locked else patience) and (error.locked or error.timed_out)
                if not waits or not again or error.connection_lost:
                    raise

    def _detected(self, conn: Connection) -> Features:
        features = self._features
        if features is None:
            features = self._features = detect(conn)
        return features


def compile_flow(conn: Connection, definition: FlowDefinition) -> Compiled:
    """Create the flow or verify its shape, on a connection of the caller's. Raises as `PostgresFlowStore.compile`."""
    detect(conn)
    return _compile(conn, definition, _stored(conn, [definition.slug]).get(definition.slug))


def _compile(conn: Connection, definition: FlowDefinition, stored: _Stored | None) -> Compiled:
    """Create what is not stored, or verify it."""
    if stored is None or not stored.queue:
        _refuse_slugs(conn, definition)
        with conn.pipeline(), conn.transaction():
            conn.execute(pgmq.LIMIT_LOCKS)
            conn.execute(
                _CREATE_FLOW, (definition.slug, definition.max_attempts, definition.base_delay, definition.timeout)
            )
            # Read again under the lock: another process may have compiled it meanwhile, and another shape at that.
            stored = _stored(conn, [definition.slug]).get(definition.slug)
            if stored is None or not stored.steps:
                _add_steps(conn, definition)
                return Compiled(True, definition)
    return _verify(definition, stored)


def _refuse_slugs(conn: Connection, definition: FlowDefinition) -> None:
    """Have the core say so of slugs that the newest ones refuse, before their constraint does."""
    doubtful = [slug for slug in (definition.slug, *(s.slug for s in definition.steps)) if refused_by_newest(slug)]
    if not doubtful:
        return
    row: Any = conn.execute(_REFUSED_SLUGS, (doubtful,)).fetchone()
    if row[0]:
        refused = ", ".join(repr(slug) for slug in dict.fromkeys(row[0]))
        msg = (
            f"flow {definition.slug!r}: the pgflow core in the database refuses the slug {refused}:"
            " it takes no '_' at either end and no '__'. Rename it"
        )
        raise DefinitionError(msg)


class _Stored:
    def __init__(self, row: Sequence[Any]) -> None:
        self.options = dict(zip(_OPTIONS, row[:3], strict=True))
        self.queue_of_each_step: bool = row[5] == "step"
        self.queue: bool = row[3] or self.queue_of_each_step
        self.steps = {
            slug: (kind, frozenset(deps), dict(zip(_STEP_OPTIONS, (attempts, delay, timeout, start), strict=True)))
            for slug, kind, attempts, delay, timeout, start, deps in row[4]
        }


def _stored(conn: Connection, slugs: Sequence[str]) -> dict[str, _Stored]:
    rows: list[Any] = conn.execute(_STORED, (list(slugs),)).fetchall()
    return {slug: _Stored(row) for slug, *row in rows}


def _add_steps(conn: Connection, definition: FlowDefinition) -> None:
    for s in definition.steps:
        options = s.max_attempts, s.base_delay, s.timeout, s.start_delay
        conn.execute(_ADD_STEP, (definition.slug, s.slug, list(s.depends_on), *options, str(s.kind)))


def _verify(definition: FlowDefinition, stored: _Stored) -> Compiled:
    if stored.queue_of_each_step:
        msg = (
            f"flow {definition.slug!r} in the database has a queue for each step (queue_mode 'step'), and"
            " pgflow-starter works with one queue for a flow. Give the flow here a slug of its own, or have the"
            " runtime that compiled it compile it without step queues"
        )
        raise ShapeMismatchError(msg)
    wrong = [*_shape_differences(definition, stored)]
    if wrong:
        msg = (
            f"flow {definition.slug!r} in the database has another shape than the code: {'; '.join(wrong)}."
            " Give the changed flow a new slug, or delete the stored one when its runs are done"
        )
        raise ShapeMismatchError(msg)
    differences = [
        f"{name} is {value} in the database and {getattr(definition, name)} in the code"
        for name, value in stored.options.items()
        if value != getattr(definition, name)
    ]
    steps: list[StepDefinition] = []
    for step in definition.steps:
        options = stored.steps[step.slug][2]
        differences += [
            f"{name} of step {step.slug!r} is {value} in the database and {getattr(step, name)} in the code"
            for name, value in options.items()
            if value != getattr(step, name)
        ]
        steps.append(replace(step, **options))
    return Compiled(False, replace(definition, steps=tuple(steps), **stored.options), tuple(differences))


def _shape_differences(definition: FlowDefinition, stored: _Stored) -> list[str]:
    code = {s.slug: s for s in definition.steps}
    found = [f"step {slug!r} is in the code only" for slug in code if slug not in stored.steps]
    found += [f"step {slug!r} is in the database only" for slug in stored.steps if slug not in code]
    for slug, (kind, deps, _) in stored.steps.items():
        step = code.get(slug)
        if step is None:
            continue
        if kind != step.kind:
            found.append(f"step {slug!r} is a {kind} step in the database and a {step.kind} step in the code")
        if deps != frozenset(step.depends_on):
            found.append(
                f"step {slug!r} depends on {sorted(deps)} in the database and on {sorted(step.depends_on)} in the code"
            )
    return found
