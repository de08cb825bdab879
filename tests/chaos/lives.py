"""`Lives`: runs that start later, under keys, that are cancelled, done again, put off; and what must come of them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from tests.chaos.modules import TARGETS
from tests.chaos.sender import TRIES, kind_of
from tests.chaos.world import World

_never = threading.Event()
T = TypeVar("T")

DELAYS = (0.5, 3.0)
SOON = 0.2
"""Seconds after which a run is cancelled at the latest."""
CLOCKS = 0.05
"""Seconds by which the clocks of server and machine may differ meanwhile."""
LATE = 0.5
"""Seconds that a handler may take, once it was begun, to say so."""


class Lives:
    """To be run on a thread. What it was told is wrong, and what `problems` finds in the end, must not be."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._random = rng
        self._number = 0
        self._ended_or_not: list[UUID] = []
        self._begin_at: dict[UUID, float] = {}
        """Before that, on the monotonic clock, none of the run's tasks may begin."""
        self._reasons: dict[UUID, str] = {}
        """Why runs were to be cancelled."""
        self._cancelled: dict[UUID, tuple[float, str, bool]] = {}
        """When that had been done, by which starter, and whether no task can have begun before."""
        self._told: list[str] = []

    def live_until(self, end: threading.Event, pause: float) -> None:
        """One after another, with `pause` seconds in between on average."""
        acts = (self._delayed, self._keyed, self._cancelled_soon, self._cancelled_before, self._again, self._snoozing)
        while not end.wait(self._random.uniform(0, 2 * pause)):
            self._number += 1
            self._random.choice(acts)()

    @property
    def may_have_failed(self) -> set[UUID]:
        """The runs that somebody wanted cancelled."""
        return set(self._reasons)

    def problems(self) -> list[str]:
        """What should not be, to be asked when all has ended and the starters are still there."""
        begun, gone = self._world.ledger.begun(), self._world.ledger.forgotten()
        told = list(self._told)
        for run_id, at in self._begin_at.items():
            early = at - min((when for when, _ in begun.get(run_id, ())), default=at)
            if early > CLOCKS:
                told.append(f"run {run_id} began {early:.3f} s before its time")
        for run_id, (at, starter, waited) in self._cancelled.items():
            times = begun.get(run_id, ())
            if late := [(by, when - at) for when, by in times if waited or (by == starter and when > at + LATE)]:
                told.append(f"run {run_id} began after {starter} had cancelled it, by so many seconds: {late}")
        for run_id, reason in self._reasons.items():
            told += () if run_id in gone else self._wrong_end(run_id, reason)
        return told

    def _wrong_end(self, run_id: UUID, reason: str) -> Iterator[str]:
        try:
            run = self._world.starters[0].client.run(run_id)
        except pgflow.PgflowError as error:
            yield f"a run was cancelled, and then: {error}"
            return
        ends = {("failed", reason)} if run_id in self._cancelled else {("failed", reason), ("completed", None)}
        if (run.status, run.error) not in ends:
            yield f"run {run_id} is {run.status}, {run.error}, and was to be cancelled: {reason}"

    def _delayed(self) -> None:
        run_id, delay = self._id(), self._random.uniform(*DELAYS)
        self._start_later(self._starter(), run_id, delay)

    def _start_later(self, starter: pgflow.Starter, run_id: UUID, delay: float) -> pgflow.Run | None:
        target, number = self._random.choice(TARGETS), self._number
        self._begin_at[run_id] = time.monotonic() + delay
        at = {"delay": delay} if self._random.random() < 0.5 else {"at": SystemClock().now() + timedelta(seconds=delay)}
        run = self._tried(lambda: starter.client.start_flow(target, number, run_id=run_id, **at))
        self._started("runs delayed", run)
        return run

    def _keyed(self) -> None:
        target, key = self._random.choice(TARGETS), f"key {self._number}"
        wanted, inputs = pgflow.run_id_of(target, key), [self._number, self._number + 1]
        first = self._tried(lambda: self._starter().client.start_flow(target, inputs[0], key=key))
        self._started("runs of a key", first)
        again = self._tried(lambda: self._starter().client.start_flow(target, inputs[1], key=key))
        if first is None or again is None or wanted in self._world.ledger.forgotten():
            return
        if {first.id, again.id} != {wanted} or not again.input_differs or again.input != inputs[0]:
            self._told.append(f"{key} of {target} is {wanted}, and was {first} and then {again}")

    def _cancelled_soon(self) -> None:
        run_id, target, number = self._id(), self._random.choice(TARGETS), self._number
        run = self._tried(lambda: self._starter().client.start_flow(target, number, run_id=run_id))
        if run is not None:
            _never.wait(self._random.uniform(0, SOON))
            self._cancel(run_id)

    def _cancelled_before(self) -> None:
        run_id = self._id()
        if self._start_later(self._starter(), run_id, DELAYS[1]) is not None:
            self._cancel(run_id)

    def _cancel(self, run_id: UUID) -> None:
        which = self._random.randrange(len(self._world.starters))
        reason = self._reasons[run_id] = f"cancelled by the {self._number}th"
        run = self._tried(lambda: self._world.starters[which].client.cancel(run_id, reason))
        at = time.monotonic()
        if run is None:
            return
        self._world.ledger.count("runs cancelled")
        if run.status == "failed":
            self._cancelled[run_id] = at, self._world.names[which], at < self._begin_at.get(run_id, 0)
        elif run.status != "completed":
            self._told.append(f"run {run_id} was cancelled and is {run.status}")

    def _again(self) -> None:
        if self._ended_or_not:
            run_id = self._random.choice(self._ended_or_not)
            self._started("runs done again", self._tried(lambda: self._starter().client.rerun(run_id)))

    def _snoozing(self) -> None:
        run_id, until = self._id(), time.monotonic() + self._random.uniform(*DELAYS)
        start = self._starter().client.enqueue
        self._started("runs put off", self._tried(lambda: start("chaos_snooze", until, run_id=run_id)))

    def _started(self, what: str, run: pgflow.Run | None) -> None:
        if run is not None:
            self._world.ledger.count(what)
            self._world.ledger.returned(run.id)
            self._ended_or_not.append(run.id)

    def _starter(self) -> pgflow.Starter:
        return self._random.choice(self._world.starters)

    def _id(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    def _tried(self, call: Callable[[], T]) -> T | None:
        """What it returned at last: it may be said again."""
        for _ in range(TRIES):
            try:
                return call()
            except pgflow.PgflowError as error:
                self._world.ledger.count(f"refused: lives, {kind_of(error)}")
        return None
