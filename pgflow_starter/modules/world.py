"""`ModuleWorld`: what the module actors of a starter share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pgflow_starter.clock import Clock, Timers
from pgflow_starter.core.backoff import Backoff
from pgflow_starter.core.trouble import Trouble
from pgflow_starter.modules.board import Board
from pgflow_starter.modules.phase_batches import PhaseBatches
from pgflow_starter.modules.phase_plan import Phases
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.dispatcher import Dispatcher
from pgflow_starter.threads.lane import Lane

if TYPE_CHECKING:
    from pgflow_starter.ports import Observer, Redact


class ModuleWorld(NamedTuple):
    """What the module actors of a starter share.

    `trouble_of(slug, lasting)` says what keeps its worker from all work, or has for a while; `away` tells an outage.
    """

    board: Board
    phases: Phases
    backoff: Backoff
    phase_timeout: float
    clock: Clock
    draw_unit: Callable[[], float]
    timers: Timers
    threads: ThreadCache
    dispatcher: Dispatcher
    lane: Lane
    batches: PhaseBatches
    observer: Observer
    redact: Redact
    trouble_of: Callable[[str | None, bool], Trouble | None]
    away: Callable[[], bool]
    shutdown: Shutdown
