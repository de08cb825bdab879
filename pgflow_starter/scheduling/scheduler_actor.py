"""`SchedulerActor`: has a run started at each tick of each schedule, by timed messages to itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from math import inf
from typing import Any, NamedTuple

from pgflow_starter.clock import Clock, Timer, Timers
from pgflow_starter.core.backoff import Backoff
from pgflow_starter.core.classify import error_type, reason
from pgflow_starter.core.missed import Gap, with_earlier
from pgflow_starter.core.state import MissedTicks, ScheduleResult
from pgflow_starter.core.symptoms import TICKS_MISSED
from pgflow_starter.core.text import one_line, text_of
from pgflow_starter.core.ticks import GRACE, due
from pgflow_starter.errors import DatabaseError, PgflowError
from pgflow_starter.ports import Redact, ScheduleObserver
from pgflow_starter.scheduling.board import ScheduleBoard, ScheduleCell
from pgflow_starter.scheduling.messages import Begin, DatabaseBack, Ended, Look
from pgflow_starter.scheduling.starting import Errand, TickStarter, look_back, look_into
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.supervision.actor import Actor
from pgflow_starter.threads.cache import AGAIN_INTERVAL
from pgflow_starter.threads.lane import Lane

logger = logging.getLogger("pgflow_starter.schedules")

ARMED_FOR = 60.0
"""Seconds after which the wall clock is looked at again at the latest: it may have been set."""

FOR_OTHERS = 5.0
"""Seconds for which others may still be at ticks that were left: their clocks differ, their calls take time."""

TOLD_FOR = 3600.0
"""Seconds that missed ticks are told after a later one was started."""

PAUSED = "this process stood still: paused, suspended or short of CPU"
AWAY = "the database was away"
UNDER_WAY = "a call of the database was still under way"
CLOCK_SET = "the clock was set ahead, or the machine slept"


class SchedulerWorld(NamedTuple):
    """What the scheduler asks of others. `away` tells an outage of the database."""

    board: ScheduleBoard
    starter: TickStarter
    clock: Clock
    timers: Timers
    lane: Lane
    backoff: Backoff
    draw_unit: Callable[[], float]
    away: Callable[[], bool]
    observer: ScheduleObserver
    redact: Redact
    shutdown: Shutdown


class SchedulerActor(Actor):
    """One per starter that has schedules. Never waits for the database; what it knows is on the board's cells."""

    thread_name = "pgflow-scheduler"

    def __init__(self, world: SchedulerWorld) -> None:
        super().__init__()
        self._world = world
        self._timer: Timer | None = None

    def on_start(self) -> None:
        self._world.board.ref = self.actor_ref
        self.actor_ref.tell(Begin())

    def on_receive(self, message: Any) -> None:
        world = self._world
        if world.shutdown.begun:
            return  # nothing begins any more, and what the end cuts short has not failed
        match message:
            case Begin():
                self._tend_each(world.board.cells)
            case Look():
                now = world.clock.monotonic()
                self._tend_each([cell for cell in world.board.cells if cell.look_at <= now])
            case Ended(key):
                self._tend_each([world.board.cells[key]])
            case DatabaseBack():
                for cell in world.board.cells:
                    cell.forget_failures()
                self._tend_each(world.board.cells)
            case _:
                super().on_receive(message)

    def _tend_each(self, cells: Sequence[ScheduleCell]) -> None:
        world = self._world
        for cell in cells:
            if -inf < cell.look_at < world.clock.monotonic() - GRACE.total_seconds():
                cell.held = PAUSED
            wait = self._tend(cell, world.clock.now())
            cell.look_at = world.clock.monotonic() + min(ARMED_FOR, wait)
        delay = min(cell.look_at for cell in world.board.cells) - world.clock.monotonic()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = world.timers.after(delay, partial(world.board.tell, Look()))

    def _tend(self, cell: ScheduleCell, now: datetime) -> float:
        """Do what there is to do for one; in how many seconds there is more, if nobody tells before."""
        world, errand = self._world, cell.errand
        next_at = next(cell.ticks(now), None)
        world.board.publish(cell, next_at=next_at)
        if world.clock.monotonic() - cell.goes_well_since >= TOLD_FOR:
            cell.goes_well_since = inf
            world.board.publish(cell, missed=None)
        until_next = inf if next_at is None else (next_at - now).total_seconds()
        if errand is not None:
            if not errand.done:
                cell.held = cell.held or UNDER_WAY
                world.board.publish(cell, starting=errand.tick)
                return until_next
            cell.errand = None
            world.board.publish(cell, starting=None)
            self._judge(cell, errand, now, next_at)
        if world.away():
            cell.held = AWAY
            return until_next  # its end is told, and what was missed is judged then
        if cell.not_before is not None and now < cell.not_before:
            return until_next
        if cell.done is None:
            look = partial(look_back, cell.schedule, cell.ticks, world.board.began, world.starter)
            return min(until_next, self._send(cell, look))
        # Where the clock was set back, ticks come again, and find their runs there.
        done = cell.done if cell.done <= now + GRACE else now
        found = due(cell.schedule, cell.ticks, done, now)
        cell.done = found.done
        known_from = max(done, world.board.began - GRACE)  # what was due before that is not this process's to tell
        if found.left is not None and known_from < found.done:
            if cell.gap is None:
                cell.gap_since = world.clock.monotonic()
            cell.gap = Gap(known_from, found.done, cell.held or CLOCK_SET).wider(cell.gap)
            cell.goes_well_since = inf
        if found.tick is None:
            cell.held = None
            if cell.gap is None:
                return until_next
            for_others = cell.gap_since + FOR_OTHERS - world.clock.monotonic()
            if for_others > 0:
                return min(until_next, for_others)
            into = partial(look_into, cell.gap, cell.schedule, cell.ticks, world.starter)
            return min(until_next, self._send(cell, into, gap=cell.gap))
        if found.tick != cell.tried:
            cell.tried = found.tick
            cell.forget_failures()
        start = partial(world.starter.start, cell.schedule, cell.schedule.run_id(found.tick))
        return min(until_next, self._send(cell, start, found.tick))

    def _send(
        self, cell: ScheduleCell, call: Callable[[], object], tick: datetime | None = None, gap: Gap | None = None
    ) -> float:
        """Have it done where that may wait, unless it failed a moment ago; in how many seconds it is to be tried."""
        world = self._world
        wait = cell.retry_at - world.clock.monotonic()
        if wait > 0:
            return wait
        errand = cell.errand = Errand(tick, gap, call, partial(world.board.tell, Ended(cell.key)))
        try:
            world.lane.run(errand.run)
        except RuntimeError:  # no thread to be had
            cell.errand = None
            return AGAIN_INTERVAL
        return GRACE.total_seconds()  # then it is told that it takes long

    def _judge(self, cell: ScheduleCell, errand: Errand, now: datetime, next_at: datetime | None) -> None:
        if errand.gap is not None:
            self._judge_gap(cell, errand)
            return
        if errand.error is not None:
            self._failed(cell, errand, errand.error, next_at)
            return
        cell.forget_failures()
        if cell.failing.clear():
            logger.info("schedule %s goes well again", cell.schedule.title)
        if errand.tick is None:
            assert isinstance(errand.result, datetime)
            cell.done = errand.result
            self._world.board.publish(cell, last_error=None, last_error_type=None, failing_since=None)
            return
        cell.done = errand.tick
        if cell.goes_well_since == inf and cell.gap is None:
            cell.goes_well_since = self._world.clock.monotonic()
        late = max(timedelta(), now - errand.tick).total_seconds() if errand.result else None
        if late is not None:
            self._world.observer.tick_started(cell.schedule.title, late)
        self._world.board.publish(
            cell,
            last_tick=errand.tick,
            last_run_id=cell.schedule.run_id(errand.tick),
            last_result=ScheduleResult.STARTED if errand.result else ScheduleResult.THERE,
            last_error=None,
            last_error_type=None,
            failing_since=None,
            last_late=late,
        )

    def _failed(self, cell: ScheduleCell, errand: Errand, error: BaseException, next_at: datetime | None) -> None:
        world = self._world
        text = world.redact(one_line(text_of(error)) if isinstance(error, PgflowError) else reason(error))
        cell.failures += 1
        cell.held = f"it could not be started: {text}"
        if not errand.failed_for_good:
            cell.retry_at = world.clock.monotonic() + world.backoff.delay(cell.failures, world.draw_unit())
        elif errand.tick is None or isinstance(error, PgflowError):  # may be mended by then: `catch_up` judges
            cell.not_before = next_at
        else:
            cell.done = errand.tick
        failed: dict[str, Any] = {"last_error": text, "last_error_type": error_type(error)}
        if world.board.state_of(cell).failing_since is None:
            failed["failing_since"] = errand.tick or world.clock.now()
        if errand.tick is not None:
            failed |= {"last_tick": errand.tick, "last_run_id": None, "last_late": None}
            failed |= {"last_result": ScheduleResult.FAILED}
        world.board.publish(cell, **failed)
        # An outage is logged where it was found.
        quiet = (isinstance(error, DatabaseError) and error.connection_lost) or not cell.failing.note(text)
        logger.log(logging.DEBUG if quiet else logging.WARNING, "schedule %s: %s", cell.schedule.title, text)

    def _judge_gap(self, cell: ScheduleCell, errand: Errand) -> None:
        world = self._world
        if errand.error is not None:  # asked again, with the same backoff as a tick
            cell.failures += 1
            cell.retry_at = world.clock.monotonic() + world.backoff.delay(cell.failures, world.draw_unit())
            return
        cell.gap = None
        if errand.result is None:
            return
        assert isinstance(errand.result, MissedTicks)
        missed, state = errand.result, world.board.state_of(cell)
        if state.last_tick is not None and state.last_tick > missed.last:
            cell.goes_well_since = world.clock.monotonic()
        world.board.publish(cell, missed=with_earlier(missed, state.missed))
        world.observer.ticks_missed(cell.schedule.title, missed)
        logger.warning(
            "schedule %s: %d tick%s missed and left, from %s to %s: %s (catch_up is %r); see %s",
            cell.schedule.title,
            missed.count,
            " was" if missed.count == 1 else "s were",
            missed.first.isoformat(),
            missed.last.isoformat(),
            missed.reason,
            str(cell.schedule.policy),
            TICKS_MISSED.place,
        )
