"""`Sender`: enqueues runs until it is told to end, each with an id of its own so that sending it twice is no harm."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pgflow_starter as pgflow
from tests.chaos.modules import TARGETS

TRIES = 3


class Sender:
    """To be run on a thread. `returned` is told of each run that a client's call returned, `refused` of the others."""

    def __init__(
        self,
        starters: Sequence[pgflow.Starter],
        rng: random.Random,
        returned: Callable[[UUID], object],
        refused: Callable[[str], object],
    ) -> None:
        self._starters = starters
        self._random = rng
        self._returned = returned
        self._refused = refused

    def send_until(self, end: threading.Event, pause: float) -> None:
        """Send with `pause` seconds between two runs on average."""
        rng, number = self._random, 0
        while not end.wait(rng.uniform(0, 2 * pause)):
            number += 1
            run_id = UUID(int=rng.getrandbits(128), version=4)
            self.send(rng.choice(self._starters), rng.choice(TARGETS), number, run_id)

    def send(self, starter: pgflow.Starter, target: str, given: Any, run_id: UUID) -> bool:
        """Start this run; whether the client's call returned it, at the last try at least."""
        for _ in range(TRIES):  # the id makes it the same run however often it is sent
            try:
                starter.client.start_flow(target, given, run_id=run_id)
            except pgflow.PgflowError as error:
                self._refused(kind_of(error))
            else:
                self._returned(run_id)
                return True
        return False


def kind_of(error: pgflow.PgflowError) -> str:
    """What to count it as."""
    if isinstance(error, pgflow.DatabaseError):
        return error.sqlstate or error.error_type
    return type(error).__name__
