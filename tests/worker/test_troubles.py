"""One worker's troubles: since when, of which scope, told once at either end."""

from __future__ import annotations

import logging
import threading

import pytest

from pgflow_starter import Trouble, TroubleKind, TroubleScope
from pgflow_starter.core.trouble import LASTING
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.testing import ManualTimers
from pgflow_starter.worker.troubles import Troubles

CLAIMS, OUTCOMES, UNSTARTED = TroubleKind.CLAIMS_REFUSED, TroubleKind.OUTCOMES_REFUSED, TroubleKind.UNSTARTED
ALL, SOME = TroubleScope.ALL, TroubleScope.SOME


class Rig:
    def __init__(self) -> None:
        self.timers = ManualTimers()
        self.turns = 0
        self.stopping = False
        log = ModuleLog(logging.getLogger("pgflow_starter.workers"), "shop", "shop")
        self.troubles = Troubles(self.timers.clock, self.timers, log, self._turned, lambda: self.stopping)

    def _turned(self) -> None:
        self.turns += 1

    @property
    def lasting(self) -> Trouble | None:
        return self.troubles.of_all(lasting=True)

    @property
    def current(self) -> Trouble:
        assert self.troubles.current is not None
        return self.troubles.current


@pytest.fixture
def rig() -> Rig:
    return Rig()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_none_begins_while_the_worker_stops(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.stopping = True
    rig.troubles.begin(CLAIMS, "the starter stops", scope=ALL)
    assert (rig.troubles.current, told(caplog)) == (None, [])


def test_it_begins_when_the_call_that_failed_began_and_lasts_from_then(rig: Rig) -> None:
    clock = rig.timers.clock
    began, at = clock.monotonic(), clock.now()
    clock.advance(3)
    rig.troubles.begin(CLAIMS, "no", scope=ALL, error_type="42501", began=began)
    assert rig.current == Trouble(CLAIMS, "no", at, "42501", ALL)
    rig.timers.advance(LASTING - 3.1)
    assert (rig.lasting, rig.turns) == (None, 0)
    rig.timers.advance(0.1)
    assert (rig.lasting, rig.turns) == (rig.current, 1)
    rig.troubles.end(CLAIMS)
    assert (rig.troubles.current, rig.lasting, rig.turns) == (None, None, 2)


def test_it_is_told_once_at_either_end_however_often_it_is_met(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(100):
        rig.troubles.begin(CLAIMS, "permission denied", scope=ALL, error_type="42501")
        rig.timers.advance(1)
    for _ in range(3):
        rig.troubles.end(CLAIMS, OUTCOMES)
    assert told(caplog) == [
        (
            "shop: trouble (claims_refused, scope all): permission denied [42501];"
            " see docs/troubleshooting.md#claims-refused"
        ),
        "shop: the trouble is over (claims_refused, scope all)",
    ]


def test_another_error_behind_it_changes_the_reason_and_not_its_beginning(rig: Rig) -> None:
    rig.troubles.begin(CLAIMS, "locked", scope=ALL, error_type="55P03")
    since = rig.current.since
    rig.timers.advance(5)
    rig.troubles.begin(CLAIMS, "locked still", scope=ALL, error_type="55P03")
    assert (rig.current.reason, rig.turns) == ("locked still", 0)
    rig.troubles.begin(CLAIMS, "denied", scope=ALL, error_type="42501")
    assert (rig.current.reason, rig.current.since, rig.turns) == ("denied", since, 1)  # its module is to tell it


def test_of_scope_some_it_never_lasts_and_of_scope_all_since_it_is(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.troubles.begin(OUTCOMES, "one")
    rig.timers.advance(10 * LASTING)
    assert rig.lasting is None
    rig.troubles.begin(OUTCOMES, "every one", scope=ALL)
    assert rig.current.since == rig.timers.clock.now()
    rig.timers.advance(LASTING)
    assert rig.lasting == rig.current
    turns = rig.turns
    rig.troubles.begin(OUTCOMES, "one")
    assert (rig.lasting, rig.turns) == (None, turns + 1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_the_gravest_is_told_and_then_the_oldest(rig: Rig) -> None:
    rig.troubles.begin(UNSTARTED, "foreign")
    rig.timers.advance(1)
    rig.troubles.begin(OUTCOMES, "all of them", scope=ALL)
    assert rig.current.kind is OUTCOMES
    rig.timers.advance(1)
    rig.troubles.begin(CLAIMS, "too", scope=ALL)
    assert rig.current.kind is OUTCOMES
    rig.troubles.end(OUTCOMES)
    assert rig.current.kind is CLAIMS
    rig.troubles.end(CLAIMS)
    assert rig.current.kind is UNSTARTED


def test_a_reason_is_one_line(rig: Rig) -> None:
    rig.troubles.begin(CLAIMS, "two\nlines\x1b[31m" + "x" * 5000)
    assert rig.current.reason.startswith("two lines[31mxxx")
    assert len(rig.current.reason) == 1000
    assert rig.current.to_dict()["since"] == rig.current.since.isoformat()


def test_begun_and_ended_by_many_threads_it_is_over_when_all_have_ended(rig: Rig) -> None:
    barrier = threading.Barrier(8)

    def meet() -> None:
        barrier.wait()
        for _ in range(200):
            rig.troubles.begin(CLAIMS, "no", scope=ALL)
            rig.troubles.end(CLAIMS)

    threads = [threading.Thread(target=meet) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rig.troubles.current is None
    rig.timers.advance(2 * LASTING)
    assert rig.lasting is None


def test_where_work_moves_it_is_of_scope_some_and_of_all_again_only_when_nothing_has_moved_for_long(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock, moved_at = rig.timers.clock, rig.timers.clock.monotonic()
    for _ in range(50):  # every second thing that is tried goes well
        rig.timers.advance(1)
        rig.troubles.judge(OUTCOMES, "no", every=True, moved_at=moved_at)
        moved_at = clock.monotonic()
        rig.troubles.work_moves(OUTCOMES)
    assert (rig.current.scope, rig.lasting) == (SOME, None)
    assert len(told(caplog)) == 2
    rig.timers.advance(LASTING - 0.1)
    rig.troubles.judge(OUTCOMES, "no", every=True, moved_at=moved_at)
    assert rig.current.scope is SOME
    rig.timers.advance(0.1)
    rig.troubles.judge(OUTCOMES, "no", every=False, moved_at=moved_at)
    assert rig.current.scope is SOME
    rig.troubles.judge(OUTCOMES, "no", every=True, moved_at=moved_at)
    assert rig.lasting == rig.current


def test_the_time_of_an_outage_does_not_count(rig: Rig) -> None:
    rig.troubles.begin(CLAIMS, "locked", scope=ALL)
    rig.timers.advance(LASTING - 1)
    rig.troubles.renew()
    rig.timers.advance(LASTING - 1)
    assert rig.lasting is None
    rig.timers.advance(1)
    assert rig.lasting == rig.current
