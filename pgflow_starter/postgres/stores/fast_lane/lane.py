"""`FastLane`: whether it is on in a database and why not, and starting, claiming and settling by it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from pgflow_starter.clock import Clock
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.core.state import FastLaneState
from pgflow_starter.core.task import Outcome
from pgflow_starter.postgres.connections.connection import Connection, Session
from pgflow_starter.postgres.stores.carrying import ENDED, Carried, parameters
from pgflow_starter.postgres.stores.fast_lane.numbered import execute
from pgflow_starter.postgres.stores.fast_lane.shape import Shape
from pgflow_starter.postgres.stores.features import Features
from pgflow_starter.postgres.stores.free_runs import FREE, runs

if TYPE_CHECKING:  # loaded with the first one that is wanted
    from pgflow_starter.postgres.stores.fast_lane.wording import Wording

logger = logging.getLogger("pgflow_starter.fast_lane")

LOOK_AGAIN = 10.0
"""Seconds after which it is looked again at whether it can be on, where it is off."""

# As sessions have it, for the statements that follow in a transaction where a pooler may have them on any.
PLANS = """
select set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true),
       set_config('jit', 'off', true)
"""


class FastLane:
    """Whether it is on, by the core that there is. Thread-safe.

    That is looked at first when it is needed, again after any error and when something of that core has changed, and
    every `LOOK_AGAIN` seconds while it is off.
    """

    state: FastLaneState | None
    """Whether it was on when it was last needed, and why; None before that."""

    _wording_for: Callable[[Connection], Wording | str]

    def __init__(self, clock: Clock, *, wanted: bool = True) -> None:
        self._clock = clock
        self._wording: Wording | None = None
        self._look_at = inf
        self._changes = 0
        self._said = SaidOnce()
        self._changing = threading.RLock()  # around all of the above, and what the log says of it
        self.state = FastLaneState(on=False, reason="by the setting")
        if wanted:
            from pgflow_starter.postgres.stores.fast_lane.wording import wording_for

            self._wording_for, self._look_at, self.state = wording_for, -inf, None

    def core(self, conn: Connection) -> Wording | None:
        """What is said to the core that it stands in for, None where it is off. Raises psycopg's errors."""
        if self._clock.monotonic() >= self._look_at:
            changes = self._changes
            seen = self._wording_for(conn)
            with self._changing:
                if self._changes != changes:
                    return self._wording  # somebody knows better who looked later, or has found that it changed
                self._changes += 1
                if isinstance(seen, str):
                    self._off(seen, logging.INFO if self._wording is None else logging.WARNING)
                else:
                    self._wording, self._look_at = seen, inf
                    self.state = FastLaneState(on=True, reason=f"for core {seen.version}")
        return self._wording

    def forget(self) -> None:
        """The core may be another by now."""
        with self._changing:
            self._changes += 1
            if self._wording is not None:
                self._look_at = -inf

    def left(self, conn: Connection) -> None:
        """It left what the core's functions did then: for that is not common, or for the core is another by now.

        Raises psycopg's errors.
        """
        wording = self._wording
        if wording is not None and not wording.unchanged(conn):
            self.forget()

    def failed(self, error_type: str) -> None:
        """A statement of it raised that, an SQLSTATE, and the core's functions did what it was to do."""
        with self._changing:
            self._changes += 1
            self._off(f"a statement of its own failed with {error_type}, the core's functions did it", logging.WARNING)

    def _off(self, why: str, level: int) -> None:
        self._wording, self._look_at = None, self._clock.monotonic() + LOOK_AGAIN
        self.state = FastLaneState(on=False, reason=why)
        if self._said.note(why):
            logger.log(level, "the fast lane is off: %s", why)

    def _worked(self) -> None:
        with self._changing:
            if self._wording is not None and self._said.clear():
                logger.info("the fast lane is on again")

    def start(
        self, conn: Connection, slug: str, run_ids: Sequence[str], inputs: Sequence[str], columns: str
    ) -> list[Any]:
        """Start those of the runs that are common, in this transaction; their rows. Raises psycopg's errors."""
        statement = self.starting(conn, slug, run_ids, inputs, columns)
        if statement is None:
            return []
        rows: list[Any] = conn.execute(*statement, prepare=True).fetchall()
        if rows:
            self._worked()
        return rows

    def starting(
        self, conn: Connection, slug: str, run_ids: Sequence[str], inputs: Sequence[str], columns: str
    ) -> tuple[str, dict[str, Any]] | None:
        """The statement that does it, with its parameters; None where it is off."""
        wording = self.core(conn)
        return None if wording is None else wording.starting(conn, slug, run_ids, inputs, columns)

    def claim(self, conn: Session, features: Features, shape: Shape, parameters: dict[str, Any]) -> list[Any] | None:
        """Read messages and start their tasks, in one transaction and one round trip; None where it is off.

        The rows of `CLAIM` but for the first column. Raises psycopg's errors, with nothing done.
        """
        wording = self.core(conn)
        if wording is None:
            return None
        claim = wording.claiming(features, shape, parameters)
        if conn.keeps_settings:
            claimed = execute(conn, *claim)
        else:
            with conn.pipeline(), conn.transaction():
                conn.execute(PLANS)
                claimed = execute(conn, *claim)
        rows: list[Any] = claimed.fetchall()
        if rows[0][0]:
            return [row[1:] for row in rows]
        self.forget()
        return None

    def settle(
        self, conn: Session, outcomes: Sequence[Outcome], carried: Carried
    ) -> tuple[Any, set[int], list[Any]] | None:
        """Write those of the outcomes that are common, in one transaction and one round trip; None where it is off.

        The answer of `FREE`, the `id` of each outcome that is written, and the rows of `ENDED` for the runs that are
        `carried`, as what is sent for them carries that. Raises psycopg's errors, with nothing done.
        """
        wording = self.core(conn)
        if wording is None:
            return None
        parts = wording.settling(conn, outcomes, carried)
        with conn.pipeline(), conn.transaction():
            if not conn.keeps_settings:
                conn.execute(PLANS)
            free = conn.execute(FREE, {"all_runs": runs(outcomes)})
            answers = [(part, execute(conn, *said)) for part, said in parts]
            ended = execute(conn, ENDED, parameters(carried)) if carried else None
        written = set[int]()
        for part, answer in answers:
            row: Any = answer.fetchone()
            if row[1]:
                self._worked()
            else:
                self.forget()
            common = set(row[0] or ())
            written.update(id(o) for o in part if o.task.run_id in common)
        return free.fetchone(), written, [] if ended is None else ended.fetchall()
