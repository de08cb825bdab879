"""A machine and every message that it may meet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pgflow_starter.core.backoff import Backoff
from pgflow_starter.core.phases import Phase, phases_of
from pgflow_starter.core.state import ErrorClass, Identity, ModuleError, ModuleState, ModuleStatus, ModuleType
from pgflow_starter.modules import machine
from pgflow_starter.modules.machine import Machine, Step

T0 = datetime(2026, 1, 1, tzinfo=UTC)
NOW = T0 + timedelta(seconds=1)
BACKOFF = Backoff(base=1, maximum=30, jitter=0)
REGISTRY, WORKER = POLLING = phases_of("polling")
ORDERS = Identity("orders", ModuleType.JOB)
FIRST = Machine(ModuleState("shop", None, ModuleType.FLOW, ModuleStatus.PENDING, 0, None, None, None, T0), POLLING)


def error(error_class: ErrorClass = ErrorClass.TRANSIENT, reason: str = "no") -> ModuleError:
    return ModuleError(error_class, Phase.WORKER, reason, "08006", NOW)


def fail(m: Machine, token: int, error_class: ErrorClass) -> Step:
    return machine.phase_failed(m, token, error(error_class), BACKOFF, 0.5, NOW)


BY_TOKEN: dict[str, Callable[[Machine, int], Step]] = {
    "timer": lambda m, token: machine.timer_fired(m, token, NOW),
    "done": lambda m, token: machine.phase_done(m, token, ORDERS, NOW),
    "transient": lambda m, token: fail(m, token, ErrorClass.TRANSIENT),
    "permanent": lambda m, token: fail(m, token, ErrorClass.PERMANENT),
    "overdue": lambda m, token: machine.phase_overdue(m, token, error(reason="late"), BACKOFF, 0.5, NOW),
}
MESSAGES: dict[str, Callable[[Machine], Step]] = {
    "retry": lambda m: machine.begin(m, NOW),
    "back": lambda m: machine.database_back(m, NOW),
    "lost": lambda m: machine.worker_lost(m, error(reason="died"), NOW),
    "troubled": lambda m: machine.troubled(m, error(reason="stuck"), NOW),
    "over": lambda m: machine.untroubled(m, NOW),
    "retired": lambda m: machine.worker_retired(m, error(ErrorClass.PERMANENT, "deprecated"), NOW),
    **{name: (lambda m, send=send: send(m, m.token)) for name, send in BY_TOKEN.items()},  # type: ignore[misc]
}
