"""The three probes: whether, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus

from pgflow_starter.clock import Clock
from pgflow_starter.core.state import ModuleState, ModuleStatus, StarterStatus
from pgflow_starter.core.symptoms import see, see_error, see_outage
from pgflow_starter.core.text import one_line
from pgflow_starter.core.trouble import TroubleScope
from pgflow_starter.web.response import Response, text
from pgflow_starter.web.snapshot import lost
from pgflow_starter.web.source import Source

PROBES = ("/livez", "/readyz", "/healthz")


class Probes:
    """Answers 200 or 503 with a text for people. Never waits; raises PgflowError when the starter has ended."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._known: dict[int, tuple[ModuleState, str]] = {}

    def livez(self) -> Response:
        """Whether the root supervisor lives."""
        self._source.status()
        return text(HTTPStatus.OK, "alive")

    def readyz(self) -> Response:
        """Whether every module is terminal."""
        status = self._source.status()
        open_ = [m for m in status.modules if not m.status.terminal]
        if status.ready:
            return text(HTTPStatus.OK, "\n".join(["ready", *self._failed(status)]))
        headline = f"not ready: {len(open_)} of {len(status.modules)} modules are not terminal"
        return self._refused([headline], open_, status)

    def healthz(self) -> Response:
        """Whether a module succeeded, no worker is lost, and none can do no work for a while."""
        status = self._source.status()
        workers = self._source.workers()
        missing = [f"worker of {w.slug}: lost, its module registers again" for w in workers if lost(w)]
        # For how long it has lasted is for the module to say, by a clock that nobody sets.
        unwell = [m for m in status.modules if m.status is not ModuleStatus.SUCCEEDED]
        unready = {m.slug for m in unwell}
        stuck = [
            f"worker of {w.slug}: {w.trouble.reason}{see(w.trouble.kind)}"
            for w in workers
            if w.trouble is not None and w.trouble.scope is TroubleScope.ALL and w.slug in unready
        ]
        if status.healthy and not (missing or stuck):
            return text(HTTPStatus.OK, "\n".join(["healthy", *self._failed(status)]))
        said = [] if status.healthy else [f"none of {len(status.modules)} modules has succeeded"]
        said += [f"{len(missing)} worker{'s are' if len(missing) > 1 else ' is'} lost"] if missing else []
        said += [f"{len(stuck)} worker{'s' if len(stuck) > 1 else ''} can do no work"] if stuck else []
        return self._refused([f"not healthy: {', '.join(said)}", *missing, *stuck], unwell, status)

    def _refused(self, said: list[str], modules: list[ModuleState], status: StarterStatus) -> Response:
        lines = [*said, *self._module_lines(modules)]
        if status.outage is not None:
            lines.append(
                f"database: away since {_at(status.outage.since)}: {one_line(status.outage.reason)}{see_outage()}"
            )
        return text(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(lines))

    def _failed(self, status: StarterStatus) -> list[str]:
        return self._module_lines([m for m in status.modules if m.status is ModuleStatus.FAILED_PERMANENT])

    def _module_lines(self, modules: Sequence[ModuleState]) -> list[str]:
        """A line for each. What does not change with time is kept: a probe may come between busy threads."""
        known, now = self._known, self._clock.now()
        # By identity, for a state is never changed; each is kept with its line, so that no other can take its id.
        kept = {id(m): known.get(id(m)) or (m, module_line(m)) for m in modules}
        self._known = kept
        return [text + _when(m, now) for m, text in kept.values()]


def module_line(state: ModuleState) -> str:
    """A module in one line: status, attempt, phase, what failed."""
    parts = [f"{one_line(state.module)}: {state.status}", f"attempt {state.attempts}"]
    if state.phase is not None:
        parts.append(f"in phase {state.phase}")
    if state.last_error is not None:
        error = state.last_error
        parts.append(f"phase {error.phase} failed [{error.error_type}]: {one_line(error.reason)}")
    if state.next_attempt_at is not None:
        parts.append(f"next attempt at {_at(state.next_attempt_at)}")
    permanent = state.last_error if state.status is ModuleStatus.FAILED_PERMANENT else None
    return ", ".join(parts) + ("" if permanent is None else see_error(permanent))


def _when(state: ModuleState, now: datetime) -> str:
    if state.next_attempt_at is None:
        return ""
    return f" (in {max(0.0, (state.next_attempt_at - now).total_seconds()):.1f} s)"


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
