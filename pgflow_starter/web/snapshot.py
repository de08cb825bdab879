"""`Snapshots`: all that a starter says without asking its database, as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pgflow_starter.clock import Clock
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.json_ready import json_ready
from pgflow_starter.core.state import ChildInfo, StarterStatus, WorkerState
from pgflow_starter.web.source import Source


@dataclass(frozen=True, slots=True)
class Facts:
    """What was the case at one moment. Two that are equal say the same."""

    status: StarterStatus
    workers: tuple[WorkerState, ...]
    children: tuple[ChildInfo, ...]
    definitions: tuple[FlowDefinition, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data, as `status.schema.json` describes it, but for the time."""
        return {
            **self.status.to_dict(),
            "workers": [{**json_ready(w), "lost": lost(w)} for w in self.workers],
            "children": json_ready(self.children),
            "flows": [_flow(d) for d in self.definitions],
        }


class Snapshots:
    """Looks, and writes down what it saw; what is unchanged is written once. Never waits. Thread-safe."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._written: tuple[Facts, str] | None = None

    def look(self) -> Facts:
        """The facts now. Raises PgflowError when the starter has ended."""
        source = self._source
        facts = Facts(source.status(), source.workers(), source.which_children(), source.definitions())
        written = self._written
        return written[0] if written is not None and written[0] == facts else facts

    def write(self, facts: Facts) -> str:
        """The facts as one line of JSON, with the time now: readers' clocks may be wrong."""
        written = self._written
        if written is None or written[0] is not facts:
            written = self._written = (facts, json.dumps(facts.to_dict(), separators=(",", ":")))
        return f'{{"now":"{self._clock.now().isoformat()}",{written[1][1:]}'


def lost(worker: WorkerState) -> bool:
    """Whether a worker is away that nobody wanted to go."""
    return not worker.alive and not worker.draining


def _flow(definition: FlowDefinition) -> dict[str, Any]:
    steps = [{"slug": s.slug, "kind": str(s.kind), "depends_on": list(s.depends_on)} for s in definition.steps]
    return {"slug": definition.slug, "kind": str(definition.kind), "steps": steps}
