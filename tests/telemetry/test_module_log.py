"""Log lines: each names its module and slug, and a long outage is one warning."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter import DatabaseError, DefinitionError
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.module_log import ModuleLog
from tests.modules.rig import AWAY, Rig
from tests.support.starters import opened
from tests.support.waiting import eventually

MODULES = "pgflow_starter.modules"
WAIT = 20.0
LOCKED = DatabaseError("canceling statement due to lock timeout", sqlstate="55P03")


@pytest.fixture
def rig(caplog: pytest.LogCaptureFixture) -> Iterator[Rig]:
    caplog.set_level(logging.DEBUG, "pgflow_starter")
    rig = Rig()
    yield rig
    rig.stop()


def _lines(caplog: pytest.LogCaptureFixture, level: int, logger: str = MODULES) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == logger and r.levelno == level]


def test_fifty_failed_attempts_are_one_warning(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    starting = DatabaseError("the database system is starting up", sqlstate="57P03", connection_lost=True)
    rig.phases.on("worker", *[AWAY, AWAY, starting, AWAY, starting] * 10)
    rig.start()
    for _ in range(50):
        delay = rig.ended()
        assert delay is not None
        rig.advance(delay)
    assert rig.ended() is None
    (warning,) = _lines(caplog, logging.WARNING)
    assert warning == (
        "shop (orders): retrying after attempt 2, phase worker: server closed the connection [OperationalError];"
        " next attempt in 2.0 s"
    )
    assert _lines(caplog, logging.ERROR) == []
    assert _lines(caplog, logging.INFO)[-1] == "shop (orders): succeeded in attempt 51"
    levels = Counter(r.levelno for r in caplog.records)
    assert levels[logging.WARNING] == 1
    for record in caplog.records:
        if record.name == MODULES:
            assert record.__dict__["pgflow_module"] == "shop"
            assert record.__dict__["pgflow_slug"] in (None, "orders")
            assert record.__dict__["pgflow_attempt"] >= 1


def test_each_turn_to_retrying_is_a_warning_of_its_own(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.phases.on("worker", LOCKED, None, LOCKED, None)
    rig.start()
    for _ in range(2):
        delay = rig.ended()
        assert delay is not None
        rig.advance(delay)
        assert rig.ended() is None
        rig.board.retry_now("shop")
    assert rig.ended() is None
    assert len(_lines(caplog, logging.WARNING)) == 2


def test_what_fails_in_an_outage_is_no_line_of_the_module(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.phases.on("worker", AWAY, AWAY, LOCKED, LOCKED, None)
    rig.start()
    for attempt in range(4):
        delay = rig.ended()
        assert delay is not None
        assert len(_lines(caplog, logging.WARNING)) == (attempt == 3)
        rig.away = attempt < 2  # from the first attempt's end on, which nobody knew then
        rig.advance(delay)
    assert rig.ended() is None
    (warning,) = _lines(caplog, logging.WARNING)
    assert warning.startswith("shop (orders): retrying after attempt 4, phase worker: canceling statement")
    assert len(_lines(caplog, logging.INFO)) == 1


def test_a_connection_that_breaks_again_without_an_outage_is_a_warning(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.phases.on("worker", AWAY, None, AWAY, AWAY, None)
    rig.start()
    for again in (False, True):
        for delay in iter(rig.ended, None):
            rig.advance(delay)
        assert len(_lines(caplog, logging.WARNING)) == again
        if not again:
            rig.board.retry_now("shop")


def test_a_module_that_failed_for_good_is_an_error(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.phases.on("registry", DefinitionError("shop is no flow"))
    rig.start()
    rig.ended()
    assert _lines(caplog, logging.ERROR) == [
        (
            "shop: failed_permanent after attempt 1, phase registry: shop is no flow [DefinitionError];"
            " see docs/troubleshooting.md#definition-refused"
        )
    ]


def test_workers_that_cannot_poll_or_write_say_so_once(database: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pgflow_starter")
    away = DatabaseError("permission denied for table step_tasks", sqlstate="42501")
    job = pgflow.job("echo")(lambda message, ctx: message)
    with opened(database, jobs=[job]) as (starter, runtime):
        starter.await_ready(WAIT)
        (cell,) = runtime.parts.workers.cells()
        store = runtime.parts.workers.store
        failing: dict[str, Any] = {"claim": store.claim, "settle": store.settle}
        failures: Counter[str] = Counter()

        def refuse(call: str) -> Any:
            def refusing(*_: object) -> Any:
                failures[call] += 1
                raise away

            return refusing

        store.settle = refuse("settle")  # type: ignore[method-assign] # the double is told what to do
        starter.client.enqueue(job, 1)
        eventually(lambda: failures["settle"] > 20)
        store.claim = refuse("claim")  # type: ignore[method-assign] # the double is told what to do

        def polled_often() -> bool:
            cell.claims.poll_soon()
            return failures["claim"] > 20

        eventually(polled_often)
        store.settle = failing["settle"]  # type: ignore[method-assign] # the double is told what to do
        store.claim = failing["claim"]  # type: ignore[method-assign] # the double is told what to do
        over = "echo: the trouble is over (claims_refused, scope all)"
        eventually(lambda: over in _lines(caplog, logging.INFO, "pgflow_starter.workers"))
    loud = [r for r in caplog.records if r.name == "pgflow_starter.workers" and r.levelno > logging.INFO]
    denied = "permission denied for table step_tasks; `pgflow-starter db check` says what the role has not,"
    grant = f"{denied} `db grant ROLE` prints what it needs [42501]"
    claims, outcomes = sorted(r.getMessage() for r in loud)
    see = "; see docs/troubleshooting.md#"
    assert claims == f"echo: trouble (claims_refused, scope all): tasks cannot be claimed: {grant}{see}claims-refused"
    assert outcomes.startswith("echo: trouble (outcomes_refused, scope all): outcomes of 1 runs cannot be written")
    assert outcomes.endswith(f"{grant}{see}outcomes-refused")
    assert {r.__dict__["pgflow_module"] for r in loud} == {"echo"}


def test_a_line_is_told_by_who_says_it(caplog: pytest.LogCaptureFixture) -> None:
    log = ModuleLog(logging.getLogger("pgflow_starter.workers"), "100%s", "shop")
    log.warning("%d of them", 2, queue="x")
    (record,) = caplog.records
    assert record.getMessage() == "100%s (shop): 2 of them"
    assert record.funcName == "test_a_line_is_told_by_who_says_it"
    assert record.__dict__["pgflow_queue"] == "x"


def test_news_are_news_once_and_again_when_they_were_over() -> None:
    news = SaidOnce()
    assert not news.clear()
    assert [news.note("a"), news.note("a"), news.note("b")] == [True, False, True]
    assert news.clear()
    assert not news.clear()
    assert news.note("b")
