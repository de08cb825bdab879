"""Flows and workers in the database: what the registration phases do there.

Modules that register at the same time share a look at what is there, and their workers are written together. What has
to be made is made for each by itself, so that none waits for another's lock or fails of another's error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import psycopg

from pgflow_starter.clock import Clock
from pgflow_starter.core.compiled import Compiled
from pgflow_starter.core.definition import FlowDefinition, conditions_of
from pgflow_starter.core.rules import refused_by_newest
from pgflow_starter.errors import MISSING_STATES, DatabaseError, DefinitionError, NotInstalledError, ShapeMismatchError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores import needs, pgmq, refusals, rights
from pgflow_starter.postgres.stores.features import Features, detect
from pgflow_starter.postgres.stores.foresight import Foresight
from pgflow_starter.postgres.stores.stored_flow import (
    StoredFlow,
    refuse_conditions,
    shape_differences,
    stored_flows,
    verify,
)
from pgflow_starter.postgres.stores.worker_rows import REGISTER_WORKERS

if TYPE_CHECKING:
    from pgflow_starter.ports import CancelScope

# Creates flow and queue, or does nothing but lock the flow's row: concurrent compiles go one after the other. Not where
# another runtime has given each step a queue since we looked: one of the flow's name would be nobody's.
_CREATE_FLOW = """
select case when not exists (select from pgflow.flows f
                             where f.flow_slug = %s::text and pg_catalog.to_jsonb(f) ->> 'queue_mode'::text = 'step')
            then (select count(*) from pgflow.create_flow(%s::text, %s::integer, %s::integer, %s::integer)) end
"""
_ADD_STEP = """
select count(*) from pgflow.add_step(
    %s::text, %s::text, %s::text[], %s::integer, %s::integer, %s::integer, %s::integer, %s::text{conditions}
)
"""
_CONDITIONS = """,
    required_input_pattern => %s::jsonb, forbidden_input_pattern => %s::jsonb,
    when_unmet => %s::text, when_exhausted => %s::text
"""
_REFUSED_SLUGS = """
select array(select slug from pg_catalog.unnest(%s::text[]) as given (slug) where not pgflow.is_valid_slug(slug))
"""
LOCK_FLOW = "select pg_catalog.pg_advisory_xact_lock(1, pg_catalog.hashtext(%s))"
"""The core's own, under which newer ones compile: they would take a flow whose compile is under way for one that is not
there."""

T = TypeVar("T")

LOCK_PATIENCE = 2.0
"""Seconds that a phase waits for somebody's lock, in all, until the attempt counts as failed (SQLSTATE 55P03)."""

_NO_PRIVILEGE = "42501"


class PostgresFlowStore:
    """`ports.FlowStore` on a Database. Blocks on I/O; thread-safe."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._features: Features | None = None
        self._stored: Foresight[StoredFlow] = Foresight(clock)
        self._throttles: Foresight[int] = Foresight(clock)

    def compile(self, definition: FlowDefinition, scope: CancelScope) -> Compiled:
        """As `FlowStore.compile`. Raises MissingRightsError, too."""
        known = self._stored.take(definition.slug)
        if known is not None and known.value is not None and known.value.made:
            return verify(definition, known.value)

        def compiled(conn: Connection) -> Compiled:
            if known is None:
                refusals.refuse_missing(conn, rights.missing(conn, ("work",), [definition.slug]))
            features = self._detected(conn)
            if not features.conditions and any(map(conditions_of, definition.steps)):
                self._features = None  # it may be upgraded
            stored = stored_flows(conn, [definition.slug]).get(definition.slug) if known is None else known.value
            found = create_or_verify(conn, definition, stored, features)
            if found.queues:
                refusals.refuse_missing(conn, rights.missing(conn, ("work",), found.queues))
            return found

        return self._call(scope, compiled, uses=("work", "compile"), slug=definition.slug)

    def verify(self, definitions: Sequence[FlowDefinition], scope: CancelScope, *, notify: bool) -> dict[str, Compiled]:
        """Those that are stored already, by slug, in the same shape, and where the role may do a worker's work.

        What is seen of the others, and where they shall `notify` of all their notifications, is kept for a moment.
        Raises MissingRightsError where the role may not do it anywhere, NotInstalledError, DatabaseError.
        """
        at = self._clock.monotonic()
        slugs = [definition.slug for definition in definitions]

        def look(conn: Connection) -> tuple[set[str | None], dict[str, StoredFlow], list[str], dict[str, int]]:
            lacking = rights.missing(conn, ("work",), slugs)
            refusals.refuse_missing(conn, [right for right in lacking if right.slug is None])
            looks = self._detected(conn).notify and notify
            found = stored_flows(conn, slugs)
            of_steps = {queue: slug for slug, stored in found.items() for queue in stored.queues}
            if of_steps:
                lacking += rights.missing(conn, ("work",), list(of_steps))
            queues = [*slugs, *of_steps] if looks else []
            lack = {of_steps.get(right.slug or "", right.slug) for right in lacking}
            return lack, found, queues, pgmq.throttles(conn, queues) if queues else {}

        lacking, found, looked, throttles = self._call(scope, look)
        verified = {}
        for definition in definitions:
            stored = found.get(definition.slug)
            if stored is not None and stored.made and definition.slug not in lacking:
                with suppress(ShapeMismatchError, NotInstalledError):
                    verified[definition.slug] = verify(definition, stored)
        # Who lacks rights has them looked at again, to be told what they are.
        self._stored.put([slug for slug in slugs if slug not in verified and slug not in lacking], found, at)
        if looked:
            self._throttles.put(looked, throttles, at)
        return verified

    def differences(self, definition: FlowDefinition) -> Sequence[str]:
        """How the stored flow's shape differs from the code's, for a person. Raises DatabaseError."""
        stored = self._database.call(lambda conn: stored_flows(conn, [definition.slug])).get(definition.slug)
        return ["it is not in the database"] if stored is None else shape_differences(definition, stored)

    def register_workers(self, workers: Sequence[tuple[UUID, str]], scope: CancelScope) -> None:
        """As `FlowStore.register_workers`."""
        ids, slugs = [worker_id for worker_id, _ in workers], [slug for _, slug in workers]
        self._call(scope, lambda conn: conn.execute(REGISTER_WORKERS, (ids, slugs)))

    def notifies(self, queue: str, throttle_ms: int) -> bool:
        """As `FlowStore.notifies`."""
        return self._throttles.take_if(queue, throttle_ms)

    def silent(self, queues: Sequence[str]) -> Sequence[str]:
        """Those of these queues into which inserts notify nobody, however often they shall. Raises DatabaseError."""
        notify = self._database.call(lambda conn: pgmq.throttles(conn, queues))
        return [queue for queue in queues if queue not in notify]

    def enable_notify(self, queue: str, throttle_ms: int, scope: CancelScope) -> None:
        """As `FlowStore.enable_notify`. Raises NotInstalledError for a pgmq without it, MissingRightsError, too."""
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
        uses: Sequence[needs.Use] = ("work",),
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
                if error.sqlstate in MISSING_STATES:
                    detect(conn)  # says what is missing
                if error.sqlstate == _NO_PRIVILEGE:
                    refusals.refuse_denied(conn, error, uses, slug)
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
    features = detect(conn)
    return create_or_verify(conn, definition, stored_flows(conn, [definition.slug]).get(definition.slug), features)


def create_or_verify(
    conn: Connection, definition: FlowDefinition, stored: StoredFlow | None, features: Features
) -> Compiled:
    """Create what is not stored, or verify it."""
    if stored is None or not stored.made:
        refuse_conditions(definition, there=features.conditions)
        _refuse_slugs(conn, definition)
        with conn.pipeline(), conn.transaction():
            conn.execute(pgmq.LIMIT_LOCKS)
            conn.execute(LOCK_FLOW, (definition.slug,))
            options = definition.max_attempts, definition.base_delay, definition.timeout
            conn.execute(_CREATE_FLOW, (definition.slug, definition.slug, *options))
            # Read again under the lock: another process may have compiled it meanwhile, and another shape at that.
            stored = stored_flows(conn, [definition.slug]).get(definition.slug)
            if stored is None or not stored.steps:
                for s in definition.steps:
                    of_step = s.max_attempts, s.base_delay, s.timeout, s.start_delay
                    conditions = (s.if_, s.if_not, s.when_unmet, s.when_exhausted) if conditions_of(s) else ()
                    conn.execute(
                        _ADD_STEP.format(conditions=_CONDITIONS if conditions else ""),
                        (definition.slug, s.slug, list(s.depends_on), *of_step, str(s.kind), *conditions),
                    )
                return Compiled(True, definition)
    return verify(definition, stored)


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
