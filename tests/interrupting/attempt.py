"""One try: a starter with a task that runs, and two SIGINTs."""

from __future__ import annotations

import random
import signal
import threading
import time
from dataclasses import dataclass

from pgflow_starter import PgflowClient
from tests.support.programs import read_until, running

FIRST_WITHIN = 1.0
"""Seconds after the task's beginning in which the first comes."""

SECOND_FROM, SECOND_WITHIN = 0.1, 1.0
"""Seconds after the first in which the second comes; no person is quicker, and the kernel may make one of two."""

SLOW = 1.5
"""Seconds from the second to the end that are promised."""


@dataclass(frozen=True)
class Attempt:
    """Seconds from the second SIGINT to the program's end, its exit code, what it said, and when which was sent."""

    seconds: float
    code: int
    log: str
    moments: tuple[float, float]

    @property
    def good(self) -> bool:
        """Whether it went in time, and in order."""
        return self.code == 128 + signal.SIGINT and self.seconds <= SLOW


def attempt(database: str, chance: random.Random, *more: str) -> Attempt:
    """Start it, send both at random moments, wait for its end. `more` are options of `run`."""
    moments = chance.uniform(0, FIRST_WITHIN), chance.uniform(SECOND_FROM, SECOND_WITHIN)
    program = ("-m", "pgflow_starter", "run", "tests.interrupting.shop:sleep", "--notify", *more)
    pause = threading.Event()
    with running(*program, env={"PGFLOW_DSN": database}) as process:
        read_until(process.stderr, "ready: 1 of 1 modules succeeded")
        with PgflowClient(database) as client:
            client.enqueue("sleep")
        read_until(process.stdout, "sleep begun")
        for moment in moments:
            pause.wait(moment)
            process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        _, log = process.communicate()
        return Attempt(time.monotonic() - sent, process.returncode, log, moments)
