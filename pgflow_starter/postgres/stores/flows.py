"""Flows and workers in the database: what the registration phases do there.

Modules that register at the same time share a look at what is there, and their workers are written together. What has
to be made is made for each by itself, so that none waits for another's lock or fails of another's error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any, TypeVar
from uuid import UUID

import psycopg

from pgflow_starter.clock import Clock
from pgflow_starter.core.definition import FlowDefinition, StepDefinition
from pgflow_starter.core.rules import refused_by_newest
from pgflow_starter.errors import DatabaseError, DefinitionError, NotInstalledError, ShapeMismatchError
from pgflow_starter.ports import CancelScope, Compiled
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores import pgmq, rights
from pgflow_starter.postgres.stores.features import Features, detect
from pgflow_starter.postgres.stores.foresight import Foresight
from pgflow_starter.postgres.stores.neighbours import MARK, OURS, STOPPED

NEIGHBOUR_HEARD = 300
"""Seconds since its last heartbeat for which another runtime's worker, which sends none while it works, has a queue."""

# Stored flows with their steps, whether their queue exists, and by which edge functions another runtime's workers have
# it, but for what our own earlier versions wrote: the queue's name. No row for an unknown slug. Steps as whole rows,
# for older cores have no conditions.
_STORED = f"""
select f.flow_slug, f.opt_max_attempts, f.opt_base_delay, f.opt_timeout,
       exists (select from pgmq.meta where queue_name::text = f.flow_slug),
       array(select distinct w.function_name from pgflow.workers w
             where w.queue_name = f.flow_slug and w.last_heartbeat_at > now() - interval '{NEIGHBOUR_HEARD} s'
               and w.deprecated_at is null and not {STOPPED} and not {OURS}
               and w.function_name <> w.queue_name
             order by 1),
       coalesce((select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) || pg_catalog.jsonb_build_object(
                                                 'deps', array(select d.dep_slug from pgflow.deps d
                                                               where d.flow_slug = s.flow_slug
                                                                 and d.step_slug = s.step_slug))
                                             order by s.step_index)
                 from pgflow.steps s where s.flow_slug = f.flow_slug), '[]'),
       pg_catalog.to_jsonb(f) ->> 'queue_mode'::text
from pgflow.flows f where f.flow_slug = any(%s)
"""  # noqa: S608 - constants
# Creates flow and queue, or does nothing but lock the flow's row: concurrent compiles go one after the other.
_CREATE_FLOW = "select count(*) from pgflow.create_flow(%s::text, %s::integer, %s::integer, %s::integer)"
_ADD_STEP = """
select count(*) from pgflow.add_step(
    %s::text, %s::text, %s::text[], %s::integer, %s::integer, %s::integer, %s::integer, %s::text
)
"""
_REFUSED_SLUGS = """
select array(select slug from pg_catalog.unnest(%s::text[]) as given (slug) where not pgflow.is_valid_slug(slug))
"""
# The core's own, under which newer ones compile: they would take a flow whose compile is under way for one that is not
# there.
_LOCK_FLOW = "select pg_catalog.pg_advisory_xact_lock(1, pg_catalog.hashtext(%s))"
# Workers' rows, marked as `OURS`; again is no harm, and one that was stopped is a worker anew.
REGISTER_WORKERS = f"""
insert into pgflow.workers as w (worker_id, queue_name, function_name)
select id, slug, '{MARK}' || slug from unnest(%s::uuid[], %s::text[]) as given (id, slug)
on conflict (worker_id) do update set last_heartbeat_at = now()
"""  # noqa: S608 - constants

T = TypeVar("T")

LOCK_PATIENCE = 2.0
"""Seconds that a phase waits for somebody's lock, in all, until the attempt counts as failed (SQLSTATE 55P03)."""

_OPTIONS = ("max_attempts", "base_delay", "timeout")
_STEP_OPTIONS = (*_OPTIONS, "start_delay")
# What a newer core stores for a step that nobody gave conditions.
_UNCONDITIONAL = {
    "required_input_pattern": None,
    "forbidden_input_pattern": None,
    "when_unmet": "skip",
    "when_exhausted": "fail",
}

_NO_PRIVILEGE = "42501"
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

        Raises ShapeMismatchError, MissingRightsError, NotInstalledError, DatabaseError.
        """
        known = self._stored.take(definition.slug)
        if known is not None and known.value is not None and known.value.queue:
            return _verify(definition, known.value)

        def compiled(conn: Connection) -> Compiled:
            if known is None:
                rights.refuse_missing(conn, rights.missing(conn, ("work",), [definition.slug]))
            self._detected(conn)
            stored = _stored(conn, [definition.slug]).get(definition.slug) if known is None else known.value
            return _compile(conn, definition, stored)

        return self._call(scope, compiled, uses=("work", "compile"), slug=definition.slug)

    def verify(self, definitions: Sequence[FlowDefinition], scope: CancelScope, *, notify: bool) -> dict[str, Compiled]:
        """Those that are stored already, by slug, in the same shape, and where the role may do a worker's work.

        What is seen of the others, and where they shall `notify` of all their notifications, is kept for a moment.
        Raises MissingRightsError where the role may not do it anywhere, NotInstalledError, DatabaseError.
        """
        at = self._clock.monotonic()
        slugs = [definition.slug for definition in definitions]

        def look(conn: Connection) -> tuple[set[str | None], bool, dict[str, _Stored], dict[str, int]]:
            lacking = rights.missing(conn, ("work",), slugs)
            rights.refuse_missing(conn, [right for right in lacking if right.slug is None])
            looks = self._detected(conn).notify and notify
            throttles = pgmq.throttles(conn, slugs) if looks else {}
            return {right.slug for right in lacking}, looks, _stored(conn, slugs), throttles

        lacking, looked, found, throttles = self._call(scope, look)
        verified = {}
        for definition in definitions:
            stored = found.get(definition.slug)
            if stored is not None and stored.queue and definition.slug not in lacking:
                with suppress(ShapeMismatchError):
                    verified[definition.slug] = _verify(definition, stored)
        # Who lacks rights has them looked at again, to be told what they are.
        self._stored.put([slug for slug in slugs if slug not in verified and slug not in lacking], found, at)
        if looked:
            self._throttles.put(slugs, throttles, at)
        return verified

    def differences(self, definition: FlowDefinition) -> Sequence[str]:
        """How the stored flow's shape differs from the code's, for a person. Raises DatabaseError."""
        stored = self._database.call(lambda conn: _stored(conn, [definition.slug])).get(definition.slug)
        return ["it is not in the database"] if stored is None else _shape_differences(definition, stored)

    def register_workers(self, workers: Sequence[tuple[UUID, str]], scope: CancelScope) -> None:
        """Make the workers (id, slug) known to pgflow. Raises DatabaseError."""
        ids, slugs = [worker_id for worker_id, _ in workers], [slug for _, slug in workers]
        self._call(scope, lambda conn: conn.execute(REGISTER_WORKERS, (ids, slugs)))

    def notifies(self, queue: str, throttle_ms: int) -> bool:
        """Whether `verify` saw a moment ago that it does, as `enable_notify` would have it. Does not wait."""
        return self._throttles.take_if(queue, throttle_ms)

    def silent(self, queues: Sequence[str]) -> Sequence[str]:
        """Those of these queues into which inserts notify nobody, however often they shall. Raises DatabaseError."""
        notify = self._database.call(lambda conn: pgmq.throttles(conn, queues))
        return [queue for queue in queues if queue not in notify]

    def enable_notify(self, queue: str, throttle_ms: int, scope: CancelScope) -> None:
        """Let inserts into the queue notify.

        Raises NotInstalledError for a pgmq without it, MissingRightsError, DatabaseError.
        """
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

        self._call(scope, enable, waits=False, uses=("notify",), slug=queue)

    def _call(
        self,
        scope: CancelScope,
        work: Callable[[Connection], T],
        *,
        waits: bool = True,
        uses: Sequence[rights.Use] = ("work",),
        slug: str | None = None,
    ) -> T:
        """What a phase does there; it may take as long as the phase.

        Where it `waits`, what the server gives up first is done again: for a lock for a while, for its time until then.
        What is refused is told by the rights that these `uses` need.
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
                if error.sqlstate == _NO_PRIVILEGE:
                    rights.refuse_denied(conn, error, uses, slug)
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
            conn.execute(_LOCK_FLOW, (definition.slug,))
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
        self.queue_of_each_step: bool = row[6] == "step"
        self.queue: bool = row[3] or self.queue_of_each_step
        self.neighbours: list[str] = row[4]
        self.steps = {step["step_slug"]: _StoredStep(step) for step in row[5]}


class _StoredStep:
    def __init__(self, row: Mapping[str, Any]) -> None:
        self.kind: str = row["step_type"]
        self.deps = frozenset[str](row["deps"])
        self.options = {name: row[f"opt_{name}"] for name in _STEP_OPTIONS}
        self.conditions = {name: row[name] for name, usual in _UNCONDITIONAL.items() if row.get(name, usual) != usual}


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
    wrong = _shape_differences(definition, stored)
    if wrong:
        msg = (
            f"flow {definition.slug!r} in the database has another shape than the code: {'; '.join(wrong)}."
            " Give the changed flow a new slug, or delete the stored one when its runs are done"
        )
        raise ShapeMismatchError(msg)
    differences = _order_differences(definition, stored)
    if differences and stored.neighbours:
        msg = (
            f"flow {definition.slug!r}: {differences[0]}, and a worker of another runtime has its queue"
            f" ({', '.join(stored.neighbours)}), which compares the order. Declare the steps in the database's order"
        )
        raise ShapeMismatchError(msg)
    differences += [
        f"{name} is {value} in the database and {getattr(definition, name)} in the code"
        for name, value in stored.options.items()
        if value != getattr(definition, name)
    ]
    steps: list[StepDefinition] = []
    for step in definition.steps:
        options = stored.steps[step.slug].options
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
    for slug, there in stored.steps.items():
        step = code.get(slug)
        if step is None:
            continue
        if there.kind != step.kind:
            found.append(f"step {slug!r} is a {there.kind} step in the database and a {step.kind} step in the code")
        if there.deps != frozenset(step.depends_on):
            found.append(
                f"step {slug!r} depends on {sorted(there.deps)} in the database and on {sorted(step.depends_on)} in the"
                " code"
            )
        if there.conditions:
            found.append(
                f"step {slug!r} has conditions in the database ({_told(there.conditions)}), which cannot be declared"
                " here yet"
            )
    return found


def _told(conditions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in conditions.items())


def _order_differences(definition: FlowDefinition, stored: _Stored) -> list[str]:
    """Of the same steps."""
    here, there = [s.slug for s in definition.steps], list(stored.steps)
    if here == there:
        return []
    return [f"its steps are in the order {', '.join(there)} in the database and {', '.join(here)} in the code"]
