"""`StartSettings`: the settings of `start`, for type checkers. What they mean, and their defaults, say `Settings`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from pgflow_starter.config import FastLaneUse, LogErrors
from pgflow_starter.core.backoff import Backoff
from pgflow_starter.core.middleware import Middleware
from pgflow_starter.core.phases import SignalStrategy
from pgflow_starter.errors import StarterTerminated

if TYPE_CHECKING:  # loaded where there are some
    from pgflow_starter.core.retention import Retention
    from pgflow_starter.core.schedule import Schedule


class StartSettings(TypedDict, total=False):
    """The keyword arguments of `start` and `child_spec` that are settings, for functions that hand them on."""

    signal_strategy: SignalStrategy | Literal["polling", "notify"]
    notify_throttle: float
    backoff: Backoff
    phase_timeout: float
    listen_conninfo: str | None
    pool_size: int
    max_concurrency: int
    batch_size: int
    min_poll_interval: float
    max_poll_interval: float
    notify_fallback_interval: float
    heartbeat_interval: float
    recovery_interval: float
    stale_threshold: float
    shutdown_timeout: float
    log_errors: LogErrors | Literal["full", "type"]
    fast_lane: FastLaneUse | Literal["auto", "off"]
    retention: Retention | None
    schedules: Iterable[Schedule]
    middleware: Iterable[Middleware]
    lazy: bool
    on_terminate: Callable[[StarterTerminated], object] | None
    tracer_provider: Any
    meter_provider: Any
    logger_provider: Any
