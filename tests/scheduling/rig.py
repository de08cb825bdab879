"""A scheduler under a real supervisor, over a scripted database, with manual timers and a clock moved by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from pykka.messages import ProxyCall

from pgflow_starter import Backoff, MissedTicks, Schedule, ScheduleState
from pgflow_starter.scheduling.board import ScheduleBoard
from pgflow_starter.scheduling.scheduler_actor import SchedulerActor, SchedulerWorld
from pgflow_starter.scheduling.starting import TickStarter
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.supervision import ChildSpec, SupervisorActor, SupervisorFlags
from pgflow_starter.testing import ManualClock, ManualTimers
from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.lane import Lane, LaneCall, Turn
from tests.support.waiting import eventually

WAIT = 30.0
ROUNDS = 200
"""Times that it is asked for more until it counts as one that never rests."""


class SetClock(ManualClock):
    """Somebody may set the wall clock; the monotonic one does not notice."""

    set_by = timedelta()

    def now(self) -> datetime:
        return super().now() + self.set_by


class AtOnce(Lane):
    """Makes each call on its caller's thread, or waits with it until the test goes on."""

    def __init__(self, threads: ThreadCache) -> None:
        super().__init__(threads, 1)
        self.held: list[Callable[[], object]] | None = None
        self.full = False
        self.made = 0

    def run(self, call: Callable[[], object], turn: Turn = Turn.BEGINS) -> LaneCall:
        if self.full:
            msg = "can't start new thread"
            raise RuntimeError(msg)
        self.made += 1
        if self.held is None:
            call()
        else:
            self.held.append(call)
        return LaneCall(call)


class Scripted:
    """`TickStarter`: each start takes the next line of the script, and succeeds when there is none."""

    def __init__(self) -> None:
        self.script: deque[BaseException] = deque()
        self.always: BaseException | None = None
        self.runs: dict[UUID, str] = {}
        self.started: list[str] = []
        self.since: datetime | None = None
        self.unanswered: deque[BaseException] = deque()
        self.tries = 0

    def start(self, schedule: Schedule, run_id: UUID) -> bool:
        self.tries += 1
        if self.always is not None:
            raise self.always
        if self.script:
            raise self.script.popleft()
        if run_id in self.runs:
            return False
        self.runs[run_id] = schedule.title
        self.started.append(schedule.title)
        return True

    def known(self, slug: str, run_ids: Sequence[UUID]) -> tuple[datetime | None, frozenset[UUID]]:
        if self.unanswered:
            raise self.unanswered.popleft()
        return self.since, frozenset(self.runs.keys() & set(run_ids))


class Rig:
    """One scheduler, and what a test holds it by."""

    def __init__(
        self,
        *schedules: Schedule,
        database: TickStarter | None = None,
        clock: SetClock | None = None,
        away: Callable[[], bool] | None = None,
    ) -> None:
        self.clock = clock or SetClock()
        self.timers = ManualTimers(self.clock)
        self.database = Scripted()
        self.board = ScheduleBoard(schedules, self.clock.now())
        self.shutdown = Shutdown()
        self.away = False
        self._away = away or (lambda: self.away)
        self.late: list[tuple[str, float]] = []
        self.missed: list[tuple[str, MissedTicks]] = []
        self.lane = AtOnce(ThreadCache("pgflow-test"))
        world = SchedulerWorld(
            board=self.board,
            starter=database or self.database,
            clock=self.clock,
            timers=self.timers,
            lane=self.lane,
            backoff=Backoff(base=1, maximum=30, jitter=0),
            draw_unit=lambda: 0.5,
            away=self._away,
            observer=self,
            redact=lambda text: text.replace("secret", "***"),
            shutdown=self.shutdown,
        )
        self._supervisor = SupervisorActor.start(
            "root",
            [ChildSpec("scheduler", partial(SchedulerActor.start, world))],
            clock=self.clock,
            flags=SupervisorFlags(max_restarts=5),
        )
        eventually(lambda: self.board.ref, what="the scheduler")
        self.settle()

    def tick_started(self, name: str, late: float) -> None:
        """As `ScheduleObserver.tick_started`."""
        self.late.append((name, late))

    def ticks_missed(self, name: str, missed: MissedTicks) -> None:
        """As `ScheduleObserver.ticks_missed`."""
        self.missed.append((name, missed))

    @property
    def reachable(self) -> bool:
        """Whether the database is not known to be away."""
        return not self._away()

    @property
    def state(self) -> ScheduleState:
        """Of the first schedule."""
        return self.board.states()[0]

    def settle(self) -> None:
        """Until the scheduler has done all that it was told so far, and what came of it."""
        for _ in range(ROUNDS):
            made, ref = self.lane.made, self.board.ref
            assert ref is not None
            for _ in range(2):  # the first comes behind an errand's end, the second behind what that led to
                ref.ask(ProxyCall(attr_path=("name",), args=(), kwargs={}), timeout=WAIT)
            if made == self.lane.made:
                return
        msg = "the scheduler does not come to rest"
        raise AssertionError(msg)

    def advance(self, seconds: float) -> None:
        """Move the clock on, timer by timer: each is heard before the next is due."""
        until = self.clock.monotonic() + seconds
        while (wait := self.timers.next_in) is not None and self.clock.monotonic() + wait <= until:
            self.timers.advance(wait)
            self.settle()
        self.timers.advance(max(0.0, until - self.clock.monotonic()))
        self.settle()

    def back(self) -> None:
        """The database can be reached again."""
        self.away = False
        self.board.database_back()
        self.settle()

    def crash(self) -> None:
        """End the actor, and wait for its successor."""
        dead = self.board.ref
        assert dead is not None
        dead.tell(ProxyCall(attr_path=("nothing_of_that_name",), args=(), kwargs={}))
        eventually(lambda: self.board.ref is not dead, what="the restart")
        self.settle()

    def stop(self) -> None:
        """Of all of it."""
        self._supervisor.stop()


def ticks_at(rig: Rig, schedule: Schedule, *seconds: float) -> set[UUID]:
    """The ids of the runs of the ticks so many seconds after the start of the test's time."""
    began = rig.board.began
    return {schedule.run_id(began + timedelta(seconds=s)) for s in seconds}
