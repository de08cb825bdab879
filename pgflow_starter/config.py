"""`Settings`: every setting of `start`, its default and its bound, in one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pgflow_starter.core.backoff import Backoff
from pgflow_starter.core.middleware import Middleware, middleware_problems
from pgflow_starter.core.phases import SignalStrategy
from pgflow_starter.core.rules import is_number
from pgflow_starter.errors import StarterTerminated

if TYPE_CHECKING:  # loaded where there are some
    from pgflow_starter.core.retention import Retention
    from pgflow_starter.core.schedule import Schedule


class LogErrors(StrEnum):
    """How much a log and a span say of a task that failed; see `Failures`."""

    FULL = "full"
    TYPE = "type"


class FastLaneUse(StrEnum):
    """Whether the fast lane may be used."""

    AUTO = "auto"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a starter; all times in seconds. Made by `settings_from`, which checks them."""

    signal_strategy: SignalStrategy = SignalStrategy.POLLING
    """How workers learn of messages: `polling`, or `notify` for LISTEN on one more connection, with a safety poll."""
    notify_throttle: float = 0.25
    """Between two notifications of a queue; at 0 every insert notifies."""
    backoff: Backoff = field(default_factory=Backoff)
    """The delay from a module's failed attempt to the next."""
    phase_timeout: float = 30.0
    """Longest one phase of a registration may take before it is cancelled, to be tried again."""
    listen_conninfo: str | None = field(default=None, repr=False)
    """The connection string for LISTEN, where `conninfo` leads to a transaction pooler; without it `conninfo`."""
    pool_size: int = 10
    """Connections at most, the one for LISTEN apart."""
    max_concurrency: int = 10
    """Tasks at a time of one worker; a flow's or job's own `max_concurrency` overrides it."""
    batch_size: int = 10
    """Messages that one poll of a worker takes at most. Where tasks take no time, ten polls are one claim."""
    min_poll_interval: float = 1.0
    """The shortest pause between two polls of an idle worker. One that had work within the last 5 s pauses 0.1 s at
    most, but as long as this where it is more than 1 s."""
    max_poll_interval: float = 5.0
    """The same once it has been idle for a while."""
    notify_fallback_interval: float = 30.0
    """The safety poll under `notify`: notifications are hints, and some never come."""
    heartbeat_interval: float = 10.0
    """Between two signs of life of a worker in the database."""
    recovery_interval: float = 15.0
    """Between two looks for tasks whose worker has died."""
    stale_threshold: float = 60.0
    """Age of a worker's last heartbeat from which on its tasks are run elsewhere."""
    shutdown_timeout: float = 30.0
    """How long `stop()` lets running tasks end."""
    log_errors: LogErrors = LogErrors.FULL
    """What the log and the span of a failing task say: `full`, with message and traceback, or `type`, the exception's
    type and where it was raised, without message and source lines, for these may quote what the task was about."""
    fast_lane: FastLaneUse = FastLaneUse.AUTO
    """`auto`: set-based statements do what the core's functions do, where these are ones that they were proven to
    equal; `off`: the core's functions always."""
    retention: Retention | None = None
    """How long finished runs are kept; without it for ever. What is older is deleted in batches, by one process at a
    time, which has one of the pool's connections meanwhile and works a tenth of the time at most."""
    schedules: tuple[Schedule, ...] = ()
    """Flows and jobs that are started on time: `Schedule` objects."""
    middleware: tuple[Middleware, ...] = ()
    """Functions that make a context manager of a `TaskContext`: entered around every handler's call, the first one
    outermost."""
    lazy: bool = False
    """Start at the first call, once in each process that makes one: for servers that fork."""
    on_terminate: Callable[[StarterTerminated], object] | None = None
    """Called with the `StarterTerminated` when the root supervisor gave up."""
    tracer_provider: Any = None
    """OpenTelemetry's traces; without it the global provider."""
    meter_provider: Any = None
    """OpenTelemetry's metrics; without it the global provider."""
    logger_provider: Any = None
    """OpenTelemetry's logs; without it the global provider."""


# name: (what it must be, least, most, least excluded); a day bounds what has no bound of its own.
_DAY = 86_400.0
_NUMBERS: dict[str, tuple[float, float, bool]] = {
    "notify_throttle": (0.0, 3600.0, False),
    "phase_timeout": (0.0, _DAY, True),
    "min_poll_interval": (0.0, 300.0, True),
    "max_poll_interval": (0.0, 300.0, True),
    "notify_fallback_interval": (0.0, 600.0, True),
    "heartbeat_interval": (0.0, _DAY, True),
    "recovery_interval": (0.0, _DAY, True),
    "stale_threshold": (0.0, _DAY, True),
    "shutdown_timeout": (0.0, _DAY, False),
}
_WORDS: dict[str, type[StrEnum]] = {
    "signal_strategy": SignalStrategy,
    "log_errors": LogErrors,
    "fast_lane": FastLaneUse,
}
_PROVIDERS = {"tracer_provider": "get_tracer", "meter_provider": "get_meter", "logger_provider": "get_logger"}
_COUNTS: dict[str, tuple[int, int]] = {
    "pool_size": (1, 1000),
    "max_concurrency": (1, 10_000),
    "batch_size": (1, 10_000),
}


def settings_from(conninfo: object, given: Mapping[str, Any]) -> Settings:
    """The settings, checked. Shows no connection string.

    Raises ValueError naming every bad setting and its bound, MissingExtraError for schedules where cronsim is missing.
    """
    for name in ("schedules", "middleware"):
        if isinstance(given.get(name), Iterable) and not isinstance(given[name], str):
            given = {**given, name: tuple(given[name])}
    problems = list(_problems(conninfo, given))
    if problems:
        raise ValueError("; ".join(problems))
    return Settings(**{**given, **{name: kind(given[name]) for name, kind in _WORDS.items() if name in given}})


def bounds(name: str) -> str:
    """What a setting may be, in words; nothing where that is not a matter of numbers."""
    if name in _COUNTS:
        least, most = _COUNTS[name]
        return f"{least} to {most:,}"
    if name not in _NUMBERS:
        return ""
    low, high, exclusive = _NUMBERS[name]
    return f"{'above ' if exclusive else ''}{low:g} to {high:,.0f} s"


def _problems(conninfo: object, given: Mapping[str, Any]) -> Iterator[str]:
    known = {f.name for f in fields(Settings)}
    for name in given:
        if name not in known:
            import difflib  # takes a while, and is hardly ever needed

            near = difflib.get_close_matches(name, known, n=1)
            yield f"unknown setting {name!r}" + (f" (did you mean {near[0]!r}?)" if near else "")
    if not isinstance(conninfo, str):
        yield f"conninfo must be a libpq connection string or URI, got {type(conninfo).__name__}"
    if given.get("listen_conninfo") is not None and not isinstance(given["listen_conninfo"], str):
        yield f"listen_conninfo must be a libpq connection string or URI, got {type(given['listen_conninfo']).__name__}"
    for name, kind in _WORDS.items():
        if given.get(name, next(iter(kind))) not in tuple(kind):
            yield f"{name} must be {' or '.join(map(repr, map(str, kind)))}, got {given[name]!r}"
    yield from _schedules_problems(given.get("schedules", ()), given.get("retention"))
    yield from middleware_problems(given.get("middleware", ()))
    if given.get("on_terminate") is not None and not callable(given["on_terminate"]):
        yield f"on_terminate must be a function of one argument, got {given['on_terminate']!r}"
    if not isinstance(given.get("lazy", False), bool):
        yield f"lazy must be True or False, got {given['lazy']!r}"
    if not isinstance(given.get("backoff", Backoff()), Backoff):
        yield f"backoff must be a Backoff, got {given['backoff']!r}"
    yield from _retention_problems(given.get("retention"), given.get("pool_size"))
    for name, method in _PROVIDERS.items():
        if given.get(name) is not None and not _offers(given[name], method):
            yield f"{name} must be an OpenTelemetry provider with {method}(), got {type(given[name]).__name__}"
    bad: set[str] = set()
    for name in (*_NUMBERS, *_COUNTS):
        problem = _number_problem(name, given[name]) if name in given else None
        if problem:
            bad.add(name)
            yield problem
    values = {f.name: given.get(f.name, getattr(Settings(), f.name)) for f in fields(Settings)}
    shortest, longest = values["min_poll_interval"], values["max_poll_interval"]
    if not bad & {"min_poll_interval", "max_poll_interval"} and shortest > longest:
        yield f"min_poll_interval must be at most max_poll_interval, got {shortest!r} > {longest!r}"
    least = 3 * values["heartbeat_interval"] if "heartbeat_interval" not in bad else 0
    if "stale_threshold" not in bad and not _at_least(values["stale_threshold"], least):
        yield f"stale_threshold must be at least 3 * heartbeat_interval = {least!r}, got {values['stale_threshold']!r}"


def _retention_problems(retention: object, pool_size: object) -> Iterator[str]:
    if retention is None:
        return
    from pgflow_starter.core.retention import Retention

    if not isinstance(retention, Retention):
        yield f"retention must be a Retention or None, got {retention!r}"
    elif pool_size == 1:
        yield "pool_size must be at least 2 with a retention, which has one connection while it prunes, got 1"


def _schedules_problems(given: object, retention: object) -> Iterator[str]:
    if given == ():
        return
    from pgflow_starter.core.retention import Retention
    from pgflow_starter.core.schedule import retention_problems, schedules_problems

    problems = list(schedules_problems(given))
    yield from problems
    if not problems and isinstance(retention, Retention) and isinstance(given, Iterable):
        yield from retention_problems(tuple(given), retention.completed, retention.failed)


def _offers(provider: object, method: str) -> bool:
    try:
        return callable(getattr(provider, method, None))
    except Exception:  # somebody's own __getattr__
        return False


def _at_least(value: float, least: float) -> bool:
    # 3 * 0.1 is more than 0.3 in binary, and nobody's mistake.
    return value >= least or math.isclose(value, least)


def _number_problem(name: str, value: object) -> str | None:
    if name in _COUNTS:
        least, most = _COUNTS[name]
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return None
        return f"{name} must be an int from {least} to {most}, got {value!r}"
    low, high, exclusive = _NUMBERS[name]
    if is_number(value) and low <= value <= high and not (exclusive and value == low):
        return None
    bound = f"above {low:g} and at most {high:g}" if exclusive else f"from {low:g} to {high:g}"
    return f"{name} must be a number of seconds {bound}, got {value!r}"
