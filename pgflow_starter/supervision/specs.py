"""Child specifications, restart strategies and restart intensity, in OTP's words and with OTP's defaults."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from pgflow_starter.core.rules import is_number, refuse


class Restart(StrEnum):
    """When a child that ended is started again."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"

    def follows(self, *, abnormal: bool) -> bool:
        """Whether a child that ended is started again."""
        return self is Restart.PERMANENT or (self is Restart.TRANSIENT and abnormal)


class Strategy(StrEnum):
    """Who is restarted along with a child that died."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class ChildType(StrEnum):
    """Whether a child is itself a supervisor."""

    WORKER = "worker"
    SUPERVISOR = "supervisor"


DEFAULT_SHUTDOWN = 5.0


class Remembering(ABC):
    """A `start` that remembers what it has started: each child of a spec gets one of its own."""

    @abstractmethod
    def __call__(self) -> Any:
        """Make the actor."""

    @abstractmethod
    def anew(self) -> Remembering:
        """One that starts the same and has started nothing."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a supervisor starts, restarts and stops one child.

    `start` makes the actor and returns its ref: `functools.partial(MyActor.start, argument)`. `shutdown` is how many
    seconds the child gets to stop before its thread is abandoned (0: none, `math.inf`: for ever; default 5, for a
    supervisor infinity). Raises ValueError naming every bad value.
    """

    id: str
    start: Callable[[], Any]
    restart: Restart = Restart.PERMANENT
    shutdown: float | None = None
    type: ChildType = ChildType.WORKER

    def __post_init__(self) -> None:
        who = f"child spec {self.id!r}"
        shutdown = self.shutdown
        good_shutdown = shutdown is None or ((is_number(shutdown) or shutdown == math.inf) and shutdown >= 0)
        refuse(
            [
                "" if isinstance(self.id, str) and self.id else f"{who}: id must be a non-empty string",
                "" if callable(self.start) else f"{who}: start must be callable, got {self.start!r}",
                "" if self.restart in tuple(Restart) else f"{who}: restart must be one of {list(map(str, Restart))}",
                "" if self.type in tuple(ChildType) else f"{who}: type must be one of {list(map(str, ChildType))}",
                "" if good_shutdown else f"{who}: shutdown must be seconds from 0 to infinity, got {shutdown!r}",
            ]
        )
        object.__setattr__(self, "restart", Restart(self.restart))
        object.__setattr__(self, "type", ChildType(self.type))
        if shutdown is None:
            default = math.inf if self.type is ChildType.SUPERVISOR else DEFAULT_SHUTDOWN
            object.__setattr__(self, "shutdown", default)

    def of_one_child(self) -> ChildSpec:
        """What a child keeps of it: a spec is a value, and may make several children, with other ids or elsewhere."""
        return replace(self, start=self.start.anew()) if isinstance(self.start, Remembering) else self


@dataclass(frozen=True, slots=True)
class SupervisorFlags:
    """A supervisor's strategy and restart intensity: more than `max_restarts` within `max_seconds` and it gives up."""

    strategy: Strategy = Strategy.ONE_FOR_ONE
    max_restarts: int = 3
    max_seconds: float = 5.0

    def __post_init__(self) -> None:
        count, seconds = self.max_restarts, self.max_seconds
        good_count = isinstance(count, int) and not isinstance(count, bool) and count >= 0
        good_seconds = isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0
        refuse(
            [
                "" if self.strategy in tuple(Strategy) else f"strategy must be one of {list(map(str, Strategy))}",
                "" if good_count else f"max_restarts must be an int of at least 0, got {count!r}",
                "" if good_seconds else f"max_seconds must be a number above 0, got {seconds!r}",
            ]
        )
        object.__setattr__(self, "strategy", Strategy(self.strategy))


class RestartWindow:
    """Counts the restarts of one supervisor in a sliding window of `max_seconds` (monotonic, given by the caller).

    As in OTP: the restart that makes more than `max_restarts` within the window is one too many. Not thread-safe:
    a supervisor owns it.
    """

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self._at: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Count a restart at `now`; False when that is one too many."""
        self._at.append(now)
        while self._at and now - self._at[0] > self.max_seconds:
            self._at.popleft()
        return len(self._at) <= self.max_restarts


def check_children(specs: Iterable[ChildSpec]) -> tuple[ChildSpec, ...]:
    """The specs as a tuple. Raises ValueError for ids that occur twice, TypeError for what is no spec."""
    children = tuple(specs)
    for spec in children:
        if not isinstance(spec, ChildSpec):
            msg = f"children must be ChildSpec objects, got {spec!r}"
            raise TypeError(msg)
    ids = [c.id for c in children]
    refuse(f"child id {i!r} occurs twice" for i in sorted({i for i in ids if ids.count(i) > 1}))
    return children


def restarted_with(strategy: Strategy, ids: Sequence[str], failed: str) -> list[str]:
    """The children to restart when `failed` died, in start order."""
    if strategy is Strategy.ONE_FOR_ONE:
        return [failed]
    return list(ids) if strategy is Strategy.ONE_FOR_ALL else list(ids[ids.index(failed) :])
