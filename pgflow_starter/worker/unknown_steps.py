"""`UnknownSteps`: one worker's trouble with tasks of steps that its code does not have, until the shapes match again.

Another runtime, or another version of the code, has compiled the flow anew. The tasks are given back to workers that
have their step; those of the known steps go on.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from functools import partial

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.trouble import TroubleKind
from pgflow_starter.threads.cache import run_patiently
from pgflow_starter.worker.troubles import Troubles
from pgflow_starter.worker.world import WorkerWorld

RECHECK = 5.0
"""Seconds between two looks at the stored shape while it is another."""


class UnknownSteps:
    """Of one worker. Thread-safe; never waits."""

    def __init__(self, definition: FlowDefinition, world: WorkerWorld, troubles: Troubles) -> None:
        self._definition = definition
        self._world = world
        self._troubles = troubles
        self._lock = threading.Lock()
        self._steps: set[str] = set()
        self._began = 0.0
        self._round = 0

    def met(self, steps: Collection[str]) -> None:
        """A claim has met tasks of these steps, and gave them back."""
        if not steps:
            return
        with self._lock:
            first = not self._steps
            self._steps.update(steps)
            if first:
                self._began = self._world.clock.monotonic()
        if first:
            self._check_soon(self._round)

    def forget(self) -> None:
        """The worker has stopped: nobody looks any more."""
        with self._lock:
            self._steps.clear()
            self._round += 1

    def _check_soon(self, this: int) -> None:
        run_patiently(self._world.threads, self._world.timers, partial(self._check, this))

    def _check(self, this: int) -> None:
        """Compare the shapes: it is over, or said, and looked at again in this round. Blocks on I/O."""
        if this != self._round:
            return
        differences: Sequence[str] = ["how the stored flow differs is not known yet"]
        try:
            differences = self._world.differences(self._definition)
        except Exception:  # an outage is logged where it was found
            if self._troubles.of(TroubleKind.UNKNOWN_STEP) is not None:  # what is known of it is more
                self._world.timers.after(RECHECK, partial(self._check_soon, this))
                return
        with self._lock:
            if this != self._round:
                return
            steps = sorted(self._steps)
            if not differences:
                self._steps.clear()
        if not differences:
            self._troubles.end(TroubleKind.UNKNOWN_STEP)
            return
        self._troubles.begin(
            TroubleKind.UNKNOWN_STEP,
            f"tasks of {', '.join(map(repr, steps))} are given back, for the code here has no such step"
            f" ({'; '.join(differences)}): deploy the code that has it",
            began=self._began,
        )
        self._world.timers.after(RECHECK, partial(self._check_soon, this))
