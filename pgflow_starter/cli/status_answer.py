"""What a running starter answers at its `/status`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pgflow_starter.cli.telling import visible
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import (
    ErrorClass,
    FastLaneState,
    MissedTicks,
    ModuleError,
    ModuleState,
    ModuleStatus,
    ModuleType,
    Outage,
    ScheduleResult,
    ScheduleState,
    StarterStatus,
)
from pgflow_starter.core.symptoms import see
from pgflow_starter.core.text import one_line

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One worker, as it is told over HTTP."""

    slug: str
    state: str
    slots: int
    running: int
    completed: int
    failed: int
    unwritten: int
    trouble: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `data` is all of it; `now` the moment of it on the starter's own clock.

    `status` is None for a starter that has ended: `ended` says why.
    """

    data: dict[str, Any]
    now: datetime
    status: StarterStatus | None
    workers: tuple[WorkerLine, ...] = ()
    ended: str = ""

    @property
    def well(self) -> bool:
        """Whether it is ready and healthy, and no worker is lost."""
        s = self.status
        return s is not None and s.ready and s.healthy and all(w.state != "lost" for w in self.workers)


def read(body: bytes, now: datetime) -> Answer:
    """The answer in this JSON; `now` counts where it does not tell its own. Raises ValueError for anything else."""
    try:
        data = json.loads(body)
        json.dumps(data)  # what is nested too deeply to be told again is refused here
        if "reason" in data and "modules" not in data:
            return Answer(data, now, None, (), visible(one_line(f"{data['error']}: {data['reason']}")))
        told = _moment(data.get("now")) or now
        return Answer(data, told, _status(data), tuple(map(_worker, data.get("workers", ()))))
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _status(data: dict[str, Any]) -> StarterStatus:
    outage, lane = data.get("outage"), data.get("fast_lane")
    return StarterStatus(
        # Nothing but a plain yes: the exit code rests on it.
        ready=data["ready"] is True,
        healthy=data["healthy"] is True,
        started_at=_moment(data["started_at"]) or _NEVER,
        ready_at=_moment(data["ready_at"]),
        modules=tuple(map(_module, data["modules"])),
        outage=None
        if outage is None
        else Outage(_moment(outage["since"]) or _NEVER, visible(one_line(outage["reason"]))),
        fast_lane=None if lane is None else FastLaneState(lane["on"] is True, visible(one_line(lane["reason"]))),
        schedules=tuple(map(_schedule, data.get("schedules", ()))),
    )


def _schedule(data: dict[str, Any]) -> ScheduleState:
    run_id, result, error, late = (data[f"last_{what}"] for what in ("run_id", "result", "error", "late"))
    return ScheduleState(
        name=visible(data["name"]),
        slug=visible(data["slug"]),
        cron=visible(data["cron"]),
        timezone=visible(data["timezone"]),
        next_at=_moment(data["next_at"]),
        last_tick=_moment(data["last_tick"]),
        last_run_id=None if run_id is None else UUID(run_id),
        last_result=None if result is None else ScheduleResult(result),
        last_error=None if error is None else visible(one_line(error)),
        last_late=None if late is None else float(late),
        # A starter of an older version does not say.
        starting=_moment(data.get("starting")),
        last_error_type=None if data.get("last_error_type") is None else visible(data["last_error_type"]),
        failing_since=_moment(data.get("failing_since")),
        missed=_missed(data.get("missed")),
    )


def _missed(data: dict[str, Any] | None) -> MissedTicks | None:
    if data is None:
        return None
    first, last = (_moment(data[name]) or _NEVER for name in ("first", "last"))
    return MissedTicks(int(data["count"]), first, last, visible(one_line(data["reason"])))


def _module(data: dict[str, Any]) -> ModuleState:
    error = data["last_error"]
    return ModuleState(
        module=visible(data["module"]),
        slug=None if data["slug"] is None else visible(data["slug"]),
        type=ModuleType(data["type"]),
        status=ModuleStatus(data["status"]),
        attempts=int(data["attempts"]),
        phase=None if data["phase"] is None else Phase(data["phase"]),
        last_error=None if error is None else _error(error),
        next_attempt_at=_moment(data["next_attempt_at"]),
        updated_at=_moment(data["updated_at"]) or _NEVER,
        failing_since=_moment(data.get("failing_since")),  # a starter of an older version does not say
    )


def _error(data: dict[str, Any]) -> ModuleError:
    return ModuleError(
        ErrorClass(data["error_class"]),
        Phase(data["phase"]),
        visible(one_line(data["reason"])),
        visible(data["error_type"]),
        _moment(data["at"]) or _NEVER,
    )


def _worker(data: dict[str, Any]) -> WorkerLine:
    trouble = data.get("trouble")  # a starter of an older version does not say
    stuck = trouble is not None and trouble["scope"] == "all"
    state = next((word for word in ("draining", "lost") if data[word]), "stuck" if stuck else "running")
    slots, running, completed, failed, unwritten = (
        int(data[name]) for name in ("slots", "running", "completed", "failed", "unwritten")
    )
    said = "" if trouble is None else f"{visible(one_line(trouble['reason'], 1000))}{see(trouble['kind'])}"
    return WorkerLine(visible(data["slug"]), state, slots, running, completed, failed, unwritten, said)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {text}")
    return moment
