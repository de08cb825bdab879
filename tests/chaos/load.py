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

import pykka

from tests.chaos.lives import Lives
from tests.chaos.sender import Sender
from tests.chaos.world import World

SENDERS = 3
SAMPLE_EVERY = 0.005
ASK_EVERY = 0.02
LIVES_APART = 3
"""Times the pause of a sender, between two runs whose lives are more than a start."""


class Load:
    """Runs from entering to leaving the block; then the figures are there."""

    def __init__(self, world: World, seed: int, pause: float = 0.05) -> None:
        self._world = world
        self._pause = pause
        self._end = threading.Event()
        self._pending: deque[pykka.Future[Any]] = deque()
        self.status_seconds: list[float] = []
        self.problems: list[str] = []
        self.lives = Lives(world, random.Random(f"{seed} lives"))
        work = [*(partial(self._send, seed + i) for i in range(SENDERS)), self._ask, self._look]
        work += [partial(self.lives.live_until, self._end, LIVES_APART * pause)] if world.lives else []
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
        ledger = self._world.ledger
        sender = Sender(
            self._world.starters,
            random.Random(seed),
            ledger.returned,
            lambda kind: ledger.count(f"refused: {kind}"),
        )
        sender.send_until(self._end, self._pause)

    def _ask(self) -> None:
        proxies = [starter.proxy() for starter in self._world.starters]
        turn = 0
        while not self._end.wait(ASK_EVERY):
            turn += 1
            proxy = proxies[turn % len(proxies)]
            call = (proxy.status, proxy.ready, proxy.which_children)[turn % 3]
            self._pending.append(call())
            while len(self._pending) > 20:
                self._world.asks.answer(self._pending.popleft())
        while self._pending:
            self._world.asks.answer(self._pending.popleft())

    def _look(self) -> None:
        turn = 0
        while not self._end.wait(SAMPLE_EVERY):
            turn += 1
            starter = self._world.starters[turn % len(self._world.starters)]
            began = time.perf_counter()
            starter.status()
            self.status_seconds.append(time.perf_counter() - began)
