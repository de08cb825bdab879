"""`Load`: threads that enqueue, ask and look at the status all the while."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import pykka

import pgflow_starter as pgflow
from tests.chaos.world import World

SENDERS = 3
ANSWER_WITHIN = 10.0
SAMPLE_EVERY = 0.005
ASK_EVERY = 0.02
TARGETS = ("chaos_quick", "chaos_quick", "chaos_slow", "chaos_flow")


class Load:
    """Runs from entering to leaving the block; then the figures are there."""

    def __init__(self, world: World, seed: int, pause: float = 0.05) -> None:
        self._world = world
        self._pause = pause
        self._end = threading.Event()
        self._pending: deque[pykka.Future[Any]] = deque()
        self.status_seconds: list[float] = []
        self.problems: list[str] = []
        self.asks = self.unanswered = 0
        work = [*(partial(self._send, seed + i) for i in range(SENDERS)), self._ask, self._look]
        self._threads = [
            threading.Thread(target=self._guarded, args=(w,), name=f"load-{i}") for i, w in enumerate(work)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.problems.append(f"the load ended: {type(error).__name__}: {error}")

    def _send(self, seed: int) -> None:
        rng = random.Random(seed)
        number = 0
        while not self._end.wait(rng.uniform(0, 2 * self._pause)):
            number += 1
            run_id = UUID(int=rng.getrandbits(128), version=4)
            starter, target = rng.choice(self._world.starters), rng.choice(TARGETS)
            for _ in range(3):  # the id makes it the same run however often it is sent
                try:
                    starter.client.start_flow(target, number, run_id=run_id)
                except pgflow.PgflowError as error:
                    self._world.ledger.count(f"refused: {_kind(error)}")
                else:
                    self._world.ledger.returned(run_id)
                    break

    def _ask(self) -> None:
        proxies = [starter.proxy() for starter in self._world.starters]
        turn = 0
        while not self._end.wait(ASK_EVERY):
            turn += 1
            proxy = proxies[turn % len(proxies)]
            call = (proxy.status, proxy.ready, proxy.which_children)[turn % 3]
            self._pending.append(call())
            while len(self._pending) > 20:
                self._answer(self._pending.popleft())
        while self._pending:
            self._answer(self._pending.popleft())

    def _answer(self, future: pykka.Future[Any]) -> None:
        self.asks += 1
        try:
            future.get(timeout=ANSWER_WITHIN)
        except pykka.Timeout:
            self.unanswered += 1
        except Exception as error:
            self._world.ledger.count(f"ask raised: {type(error).__name__}")

    def _look(self) -> None:
        turn = 0
        while not self._end.wait(SAMPLE_EVERY):
            turn += 1
            starter = self._world.starters[turn % len(self._world.starters)]
            began = time.perf_counter()
            starter.status()
            self.status_seconds.append(time.perf_counter() - began)


def _kind(error: pgflow.PgflowError) -> str:
    if isinstance(error, pgflow.DatabaseError):
        return error.sqlstate or error.error_type
    return type(error).__name__
