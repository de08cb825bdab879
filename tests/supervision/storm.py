"""A storm: many threads call a supervisor at random while its children crash, hang and fail to start at random."""

from __future__ import annotations

import random
import threading
from collections import Counter
from functools import partial
from typing import Any

import pykka
from pykka.messages import ProxyCall

from pgflow_starter.supervision import (
    Actor,
    ChildSpec,
    ChildStartError,
    Restart,
    Strategy,
    SupervisionError,
    SupervisorActor,
    SupervisorFlags,
    SystemClock,
)
from pgflow_starter.supervision.link import Link
from tests.supervision.world import PATIENCE

IDS = "abcdef"
MOST_HANG = 25
"""Children that hang at a time, at most: each keeps its thread until the storm is over."""

SHUTDOWN = 0.02
HANGS = 0.3
"""Seconds that one that hangs takes to come back by itself: abandoned meanwhile, if anybody ends it."""

CRASHES = (ValueError, SystemExit, KeyboardInterrupt, MemoryError)


class Tossed(Actor):
    """A child in the storm."""

    thread_name = "pgflow-tossed"

    def __init__(self, child_id: str, storm: Storm) -> None:
        super().__init__()
        self.child_id = child_id
        self.storm = storm
        storm.may_fail("constructor")

    def on_start(self) -> None:
        with self.storm.lock:
            self.storm.threads[threading.current_thread()] = self.child_id
        self.storm.may_fail("on_start")

    def on_stop(self) -> None:
        self.storm.may_fail("on_stop")

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        if message == "hang":
            self.storm.over.wait(HANGS)
        return message


class Storm:
    """Rages until each caller has made its calls, or `seconds` are over. `faults` is what must not have happened."""

    def __init__(self, cls: type[SupervisorActor], strategy: Strategy, seed: int) -> None:
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.calm = threading.Event()
        self.threads: dict[threading.Thread, str] = {}
        self.faults: list[str] = []
        self.answers: Counter[str] = Counter()
        self._hung = 0
        self._seed = seed
        self._failing = random.Random(seed)
        flags = SupervisorFlags(strategy, max_restarts=10**9)
        start = partial(cls.start, "storm", [self._spec(i) for i in IDS], clock=SystemClock(), flags=flags)
        self.link = Link(lambda link, reason: None)
        self.calm.set()
        self.ref = self.link.start(start)
        self.calm.clear()

    def may_fail(self, where: str) -> None:
        """Fails now and then, unless it is calm."""
        with self.lock:
            fails = not self.calm.is_set() and self._failing.random() < 0.05
        if fails:
            raise RuntimeError(f"{where} fails")

    def rage(self, callers: int, calls: int, seconds: float = PATIENCE) -> None:
        """Make the calls; returns when all are made and the children have calmed down."""
        clock = SystemClock()
        until = clock.monotonic() + seconds

        def run(caller: int) -> None:
            dice = random.Random(self._seed * 1000 + caller)
            try:
                for _ in range(calls):
                    if clock.monotonic() > until:
                        return
                    self._act(dice)
            except BaseException as error:
                self.faults.append(f"caller {caller}: {error!r}")

        threads = [threading.Thread(target=run, args=(n,)) for n in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.calm.set()
        self._calm_down()

    def children(self) -> tuple[dict[str, bool], dict[str, int]]:
        """Who is listed and whether it is said to run; and the counts."""
        infos = self.call("which_children")
        return {info.id: info.alive for info in infos}, self.call("count_children")

    def running(self) -> list[str]:
        """The ids of those whose thread has not ended, abandoned ones included."""
        return sorted(child_id for thread, child_id in self.threads.items() if thread.is_alive())

    def await_running(self, wanted: list[str]) -> list[str]:
        """As `running`, once it is what is wanted, or after a while."""
        clock = SystemClock()
        until = clock.monotonic() + PATIENCE
        while self.running() != wanted and clock.monotonic() < until:
            for thread in list(self.threads):
                thread.join(0.001)
        return self.running()

    def call(self, method: str, *args: Any) -> Any:
        """The answer to a call. Raises what the supervisor answers."""
        return self._answer(self.ref, ProxyCall(attr_path=(method,), args=args, kwargs={}), method)

    def stop(self) -> None:
        """Stop the supervisor, let go who hangs, and wait for all threads."""
        self.ref.stop()
        self.over.set()
        for thread in list(self.threads):
            thread.join(PATIENCE)

    def _spec(self, child_id: str) -> ChildSpec:
        restart = tuple(Restart)[IDS.index(child_id) % 3]
        return ChildSpec(child_id, partial(Tossed.start, child_id, self), restart, SHUTDOWN)

    def _act(self, dice: random.Random) -> None:
        child_id = dice.choice(IDS)
        try:
            match dice.randrange(12):
                case 0 | 1:
                    self.call("start_child", self._spec(child_id))
                case 2 | 3:
                    self.call("ensure_child", self._spec(child_id))
                case 4:
                    self.call("restart_child", child_id)
                case 5:
                    self.call("terminate_child", child_id)
                case 6:
                    self.call("delete_child", child_id)
                case 7:
                    listed = [info.id for info in self.call("which_children")]
                    if len(listed) != len(set(listed)):
                        self.faults.append(f"listed twice: {listed}")
                case _:
                    self._toss(self.call("child", child_id), dice)
        except (SupervisionError, ChildStartError, pykka.ActorDeadError) as error:
            with self.lock:
                self.answers[getattr(error, "reason", type(error).__name__)] += 1

    def _toss(self, ref: pykka.ActorRef[Any] | None, dice: random.Random) -> None:
        if ref is None:
            return
        if dice.random() < 0.05:
            with self.lock:
                self._hung += 1
                hangs = self._hung <= MOST_HANG
            if hangs:
                ref.tell("hang")
                return
        error = dice.choice(CRASHES)("crash")
        match dice.randrange(4):
            case 0:
                ref.tell(error)
            case 1:
                ref.stop(block=False)
            case 2:
                self._answer(ref, "hello", "hello")
            case _:
                try:
                    self._answer(ref, error, "crash")
                except type(error):
                    return

    def _answer(self, ref: pykka.ActorRef[Any], message: Any, what: str) -> Any:
        future = ref.ask(message, block=False)
        try:
            answer = future.get(timeout=PATIENCE)
        except pykka.Timeout as error:
            if "is abandoned" not in str(error):
                self.faults.append(f"{what} was not answered")
            with self.lock:
                self.answers["abandoned"] += 1
            return None
        with self.lock:
            self.answers[what] += 1
        return answer

    def _calm_down(self) -> None:
        """Wait until nobody dies any more of what it was sent; who hangs is ended."""
        while True:
            ended = 0
            for child_id in IDS:
                ref = self.call("child", child_id)
                if ref is None:
                    continue
                try:
                    ref.ask("hello", timeout=HANGS / 3)
                except pykka.ActorDeadError:
                    ended += 1
                except pykka.Timeout:
                    ended += 1
                    self.call("terminate_child", child_id)
            if not ended:
                return
