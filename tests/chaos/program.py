"""`python -m tests.chaos.program`: a worker process to be killed. What it did it tells on its standard output.

A line for each thing, written at once: the kernel keeps for the parent what a process wrote before it was killed. It
sends until it reads a line, and ends with its standard input.
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import sys
import threading
import time

import pgflow_starter as pgflow
from tests.chaos import ticks
from tests.chaos.ledger import Key
from tests.chaos.modules import SETTINGS, modules
from tests.chaos.sender import Sender
from tests.support.threads import left_over

LOOK_EVERY = 0.05
THREADS_END_WITHIN = 5.0
STRATEGIES = (pgflow.SignalStrategy.NOTIFY, pgflow.SignalStrategy.POLLING)


def say(*words: object) -> None:
    """One line, in one write: short enough that no other comes in between."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def is_well(starter: pgflow.Starter) -> bool:
    """Whether all modules are up, and the database is not known to be away."""
    status = starter.status()
    return status.outage is None and all(m.status is pgflow.ModuleStatus.SUCCEEDED for m in status.modules)


def main(conninfo: str, seed: str, incarnation: str, pause: str, disabled: str, lives: str) -> None:
    """Work, send, tell; stop in order when the parent says so."""
    logging.disable(int(disabled))

    def seen(key: Key) -> None:
        say("handled", *key, time.monotonic())

    flows, jobs = modules(seen, int(seed))
    jobs += ticks.jobs(seen) if int(lives) else []
    settings = {**SETTINGS, **ticks.SETTINGS} if int(lives) else SETTINGS
    strategy = STRATEGIES[int(incarnation) % len(STRATEGIES)]
    enough = threading.Event()
    with pgflow.start(conninfo, flows=flows, jobs=jobs, signal_strategy=strategy, **settings) as starter:
        sender = Sender(
            [starter],
            random.Random(f"{seed} process {incarnation}"),
            lambda run_id: say("returned", run_id),
            lambda kind: say("refused", kind),
        )
        sending = threading.Thread(target=sender.send_until, args=(enough, float(pause)), name="sender")
        sending.start()
        try:
            _tell_until_the_end(starter, sending, enough)
        finally:
            enough.set()
            sending.join()
    say("left", *left_over(set(), THREADS_END_WITHIN))


def _tell_until_the_end(starter: pgflow.Starter, sending: threading.Thread, enough: threading.Event) -> None:
    told = ""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        while True:
            if not sending.is_alive() and not enough.is_set():
                sys.exit("the sender ended by itself")
            if selector.select(LOOK_EVERY):
                if not os.read(0, 100):
                    return
                enough.set()
            state = f"{'well' if is_well(starter) else 'unwell'} {'sending' if sending.is_alive() else 'quiet'}"
            if state != told:
                told = state
                say(state)


if __name__ == "__main__":
    main(*sys.argv[1:])
