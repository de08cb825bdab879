"""`RegistrationPhases`: the four phases, over the registry, the database, the workers and the listener."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pgflow_starter.core.compiled import Compiled
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.flow import Flow, Job
from pgflow_starter.core.modules import ModuleSpec, definition_of, path_of
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import Identity
from pgflow_starter.errors import DatabaseError
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.modules.phase_plan import Here, InLane, Listen, OnOwnThread, Plan, Together
from pgflow_starter.modules.registry import FlowRegistry
from pgflow_starter.worker.workers import Workers

if TYPE_CHECKING:
    from pgflow_starter.ports import CancelScope, FlowStore, QueueListener

logger = logging.getLogger("pgflow_starter.registration")

IMPORT_PATIENCE = 2.0
"""Seconds that a dotted path waits for the import of another."""


class RegistrationPhases:
    """`phase_plan.Phases`. Each phase is idempotent; thread-safe for different modules."""

    def __init__(
        self,
        registry: FlowRegistry,
        flow_store: FlowStore,
        workers: Workers,
        listener: QueueListener | None,
        *,
        throttle_ms: int,
    ) -> None:
        self._registry = registry
        self._flow_store = flow_store
        self._workers = workers
        self._listener = listener
        self._throttle_ms = throttle_ms
        self._importing = threading.Lock()
        self._warned: dict[str, tuple[str, ...]] = {}

    def plan(self, spec: ModuleSpec, phase: Phase) -> Plan:
        """Where nothing has to be waited for, here; the worker with those of others; LISTEN by the listener."""
        match phase:
            case Phase.REGISTRY:
                # A definition of our own classes cannot hang; one of theirs, and what they override, may.
                if type(spec.module) in (Flow, Job):
                    return Here(partial(self._register, spec))
                return OnOwnThread(lambda _: self._register(spec))
            case Phase.WORKER:
                return Together(partial(self._start_worker, spec))
            case Phase.NOTIFY_DB:
                queues = self._workers.queues_of(self._slug(spec))
                silent = [queue for queue in queues if not self._flow_store.notifies(queue, self._throttle_ms)]
                # Where there are none, all is so already.
                return InLane(partial(self._enable_notify, silent)) if silent else Here(lambda: None)
            case Phase.NOTIFY_REGISTER:
                return Listen(partial(self._listen, spec))

    def run_together(self, specs: Sequence[ModuleSpec], scope: CancelScope) -> Sequence[bool]:
        """Start the workers of flows that are stored in the right shape, if they have none yet; for whom it is done.

        Raises DatabaseError when the database is away.
        """
        try:
            definitions = [self._registry.of(spec).definition for spec in specs]
            compiled = self._flow_store.verify(definitions, scope, notify=self._listener is not None)
            wanted = []
            for spec, definition in zip(specs, definitions, strict=True):
                if definition.slug in compiled:
                    wanted.append((spec.name, self._in_force(spec, compiled[definition.slug])))
            running = self._workers.ensure_new(wanted, scope)
            return [definition.slug in running for definition in definitions]
        except Exception as error:
            if isinstance(error, DatabaseError) and error.connection_lost:
                raise
            return [False] * len(specs)  # each by itself meets the error that is its own

    def _listen(self, spec: ModuleSpec, done: Callable[[BaseException | None], object]) -> None:
        slug, listener = self._slug(spec), self._listener
        queues = iter(self._workers.queues_of(slug))

        def listen_to_next(error: BaseException | None = None) -> None:
            queue = next(queues, None) if error is None else None
            if queue is not None and listener is not None:
                listener.listen(queue, partial(self._workers.wake, queue), listen_to_next)
                return
            if error is None:
                self._workers.listening(slug)
            done(error)

        if listener is not None:
            listen_to_next()

    def _enable_notify(self, queues: Sequence[str], scope: CancelScope) -> None:
        for queue in queues:
            self._flow_store.enable_notify(queue, self._throttle_ms, scope)

    def _slug(self, spec: ModuleSpec) -> str:
        return self._registry.of(spec).definition.slug

    def _register(self, spec: ModuleSpec) -> Identity:
        definition = self._registry.register(spec, self._definition(spec)).definition
        return Identity(definition.slug, definition.kind or spec.type)

    def _definition(self, spec: ModuleSpec) -> FlowDefinition:
        if not isinstance(spec.module, str):
            return definition_of(spec.module)
        # One import at a time: modules that import each other are seen half-made when threads import them at once. But
        # an import that hangs must not keep the others, so they wait for it just so long.
        mine = self._importing.acquire(timeout=IMPORT_PATIENCE)
        try:
            return definition_of(spec.module)
        finally:
            if mine:
                self._importing.release()

    def _start_worker(self, spec: ModuleSpec, scope: CancelScope) -> None:
        compiled = self._flow_store.compile(self._registry.of(spec).definition, scope)
        self._workers.ensure(spec.name, self._in_force(spec, compiled), scope)

    def _in_force(self, spec: ModuleSpec, compiled: Compiled) -> FlowDefinition:
        slug = compiled.definition.slug
        if self._listener is not None:  # it may have been compiled anew
            for queue in set(self._workers.queues_of(slug)).difference(compiled.queues or (slug,)):
                self._listener.unlisten(queue)
        self._workers.supply(slug, compiled.queues)
        # Said once, not at each attempt.
        if compiled.differences and self._warned.get(slug) != compiled.differences:
            self._warned[slug] = compiled.differences
            log = ModuleLog(logger, spec.name, slug)
            mended = f", until {_syncing(spec, compiled)}" if compiled.options_differ else ""
            log.warning("flow %r: %s; the database wins%s", slug, "; ".join(compiled.differences), mended)
        return compiled.definition


def _syncing(spec: ModuleSpec, compiled: Compiled) -> str:
    path = path_of(spec.module, compiled.definition)
    what = ", where MODULE is its dotted path," if path is None else ""
    return f"`pgflow-starter flow sync {path or 'MODULE'}`{what} applies the options of the code"
