"""`RegistrationPhases`: the four phases, over the registry, the database, the workers and the listener."""

from __future__ import annotations

import logging
import threading
from functools import partial

from pgflow_starter.actors.module_log import ModuleLog
from pgflow_starter.actors.registry import FlowRegistry
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.modules import ModuleSpec, definition_of
from pgflow_starter.core.state import Phase
from pgflow_starter.ports import CancelScope, FlowStore, QueueListener
from pgflow_starter.worker.workers import Workers

logger = logging.getLogger("pgflow_starter.registration")

IMPORT_PATIENCE = 2.0
"""Seconds that a dotted path waits for the import of another."""


class RegistrationPhases:
    """`ports.Phases`. Each phase is idempotent; thread-safe for different modules."""

    def __init__(
        self,
        registry: FlowRegistry,
        flow_store: FlowStore,
        workers: Workers,
        listener: QueueListener | None,
        *,
        throttle_ms: int,
        listen_timeout: float,
    ) -> None:
        self._registry = registry
        self._flow_store = flow_store
        self._workers = workers
        self._listener = listener
        self._throttle_ms = throttle_ms
        self._listen_timeout = listen_timeout
        self._importing = threading.Lock()
        self._warned: dict[str, tuple[str, ...]] = {}

    def run(self, spec: ModuleSpec, phase: Phase, scope: CancelScope) -> str | None:
        """Run one phase; the slug from the registry phase."""
        if phase is Phase.REGISTRY:
            slug = self._registry.register(spec, self._definition(spec)).definition.slug
            self._flow_store.expect(slug, notify=self._listener is not None)
            return slug
        definition = self._registry.of(spec).definition
        if phase is Phase.WORKER:
            self._start_worker(spec, definition, scope)
        elif phase is Phase.NOTIFY_DB:
            self._flow_store.enable_notify(definition.slug, self._throttle_ms, scope)
        elif self._listener is not None:
            wake = partial(self._workers.wake, definition.slug)
            self._listener.listen(definition.slug, wake, self._listen_timeout, scope)
            wake()  # what came before LISTEN was in force was announced to nobody
        return None

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

    def _start_worker(self, spec: ModuleSpec, definition: FlowDefinition, scope: CancelScope) -> None:
        compiled = self._flow_store.compile(definition, scope)
        # Said once, not at each attempt.
        if compiled.differences and self._warned.get(definition.slug) != compiled.differences:
            self._warned[definition.slug] = compiled.differences
            log = ModuleLog(logger, spec.name, definition.slug)
            log.warning("flow %r: %s; the database wins", definition.slug, "; ".join(compiled.differences))
        self._workers.ensure(spec.name, compiled.definition, scope)
