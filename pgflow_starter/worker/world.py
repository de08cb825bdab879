"""`WorkerWorld`: what the workers of a starter share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from pgflow_starter.clock import Clock, Timers
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.failure import Failures
from pgflow_starter.core.middleware import Middleware
from pgflow_starter.core.runs import EndedRun
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.dispatcher import Dispatcher
from pgflow_starter.threads.event_loop import EventLoop
from pgflow_starter.threads.lane import Lane
from pgflow_starter.worker.lookout import Lookout
from pgflow_starter.worker.poll_intervals import PollPolicy
from pgflow_starter.worker.tally import Tally

if TYPE_CHECKING:
    from pgflow_starter.ports import MessageObserver, TaskStore


class WorkerWorld(NamedTuple):
    """What the workers of a starter share. `lane` bounds how many polls and registrations are in the database.

    `ended` is told of runs that have ended and whose messages carry a trace context; it does not wait.
    `troubled(slug)` is called when a worker's trouble has lasted, or is over. `differences` says how a stored flow's
    shape differs from the code's; it blocks on I/O and raises DatabaseError. `away` tells an outage. `tally` counts
    what was written. `middleware` is entered around every handler's call, outermost first.
    """

    store: TaskStore
    messages: MessageObserver
    clock: Clock
    timers: Timers
    threads: ThreadCache
    event_loop: EventLoop
    dispatcher: Dispatcher
    lane: Lane
    lookout: Lookout
    policy: PollPolicy
    batch_size: int
    shutdown: Shutdown
    may_have_ended: Callable[[Sequence[UUID]], object]
    ended: Callable[[Sequence[EndedRun]], object]
    troubled: Callable[[str], object]
    differences: Callable[[FlowDefinition], Sequence[str]]
    failures: Failures
    away: Callable[[], bool]
    tally: Tally
    middleware: tuple[Middleware, ...] = ()
