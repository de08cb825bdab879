"""A failing task is in the log, and handlers that hang are named and bounded."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.support.starters import await_state, running
from tests.support.waiting import eventually

WAIT = 20.0
WORKERS = "pgflow_starter.workers"


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What handlers hang for, until the test's end at the latest."""
    event = threading.Event()
    yield event
    event.set()


def told(caplog: pytest.LogCaptureFixture, words: str = "failed in attempt") -> list[logging.LogRecord]:
    return [r for r in caplog.records if r.name == WORKERS and words in r.getMessage()]


def test_a_failing_task_is_a_warning_while_it_is_tried_again_and_then_an_error(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    flow = pgflow.Flow("shop", max_attempts=2, base_delay=0)

    @flow.map()
    def charge(item: Any, ctx: pgflow.TaskContext) -> None:
        if item == "ada":
            raise ValueError(f"no funds\nof {item}")

    with running(database, flows=[flow]) as starter:
        run = starter.client.start_flow(flow, ["bob", "ada"])
        assert run.wait(WAIT).status == "failed"
        first, last = eventually(lambda: told(caplog) if len(told(caplog)) == 2 else [])
    assert (first.levelno, last.levelno) == (logging.WARNING, logging.ERROR)
    assert first.getMessage().startswith(
        f"shop: step charge[1] of run {run.id} failed in attempt 1 of 2, to be tried ag"
    )
    assert first.getMessage().endswith(" s: ValueError: no funds of ada")
    assert last.getMessage() == (
        f"shop: step charge[1] of run {run.id} failed in attempt 2 of 2, for good: ValueError: no funds of ada"
    )
    assert isinstance(last.exc_info, tuple)
    assert isinstance(last.exc_info[1], ValueError)
    line = json.loads(pgflow.JsonFormatter().format(last))
    assert {name: line[name] for name in line if name.startswith("pgflow_")} == {
        "pgflow_module": "shop",
        "pgflow_slug": "shop",
        "pgflow_run_id": str(run.id),
        "pgflow_step": "charge",
        "pgflow_task_index": 1,
        "pgflow_attempt": 2,
        "pgflow_max_attempts": 2,
        "pgflow_error_type": "ValueError",
        "pgflow_error_message": "no funds\nof ada",
    }
    assert "in charge" in line["exception"]


def test_a_task_that_is_not_to_be_tried_again_is_an_error_at_once(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    @pgflow.job("never", max_attempts=3)
    def never(message: Any, ctx: pgflow.TaskContext) -> None:
        raise pgflow.PermanentError("no such customer")

    with running(database, jobs=[never]) as starter:
        assert starter.client.enqueue(never).wait(WAIT).status == "failed"
        (record,) = eventually(lambda: told(caplog))
    assert record.levelno == logging.ERROR
    assert "attempt 1 of 3, for good: pgflow_starter.errors.PermanentError: no such customer" in record.getMessage()
    assert record.__dict__["pgflow_error_type"] == "PermanentError"


def test_by_type_a_line_says_where_and_nothing_of_what(database: str, caplog: pytest.LogCaptureFixture) -> None:
    @pgflow.job("quoting", max_attempts=1)
    def quoting(message: Any, ctx: pgflow.TaskContext) -> None:
        try:
            raise KeyError(message)
        except KeyError as error:
            raise ValueError(message) from error

    with running(database, jobs=[quoting], log_errors="type") as starter:
        assert starter.client.enqueue(quoting, "t0k3n").wait(WAIT).status == "failed"
        (record,) = eventually(lambda: told(caplog))
    said = logging.Formatter().format(record) + pgflow.JsonFormatter().format(record)
    assert "t0k3n" not in said
    assert "raise" not in said
    assert record.exc_info is None
    head, *frames = record.getMessage().splitlines()
    assert head.endswith("failed in attempt 1 of 1, for good: ValueError")
    assert frames[0] == "ValueError"
    assert frames[-2] == "  caused by KeyError"
    assert frames[-1].startswith(f'    File "{__file__}", line ')
    assert record.__dict__["pgflow_traceback"] == "\n".join(frames)


def test_whatever_a_log_handler_does_the_outcome_is_written(database: str) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "failed in attempt" in record.getMessage():
                raise RuntimeError("no room")

    @pgflow.job("fails", max_attempts=2, base_delay=0)
    def fails(message: Any, ctx: pgflow.TaskContext) -> None:
        raise ValueError

    broken = Broken()
    logging.getLogger(WORKERS).addHandler(broken)
    try:
        with running(database, jobs=[fails]) as starter:
            runs = [starter.client.enqueue(fails, n) for n in range(5)]
            assert [run.wait(WAIT).status for run in runs] == ["failed"] * 5
    finally:
        logging.getLogger(WORKERS).removeHandler(broken)


def test_a_thread_that_is_left_behind_is_named_after_what_it_runs(
    database: str, caplog: pytest.LogCaptureFixture, release: threading.Event
) -> None:
    flow, entered = pgflow.Flow("shop"), threading.Event()

    @flow.step()
    def charge(order: Any, ctx: pgflow.TaskContext) -> None:
        entered.set()
        release.wait(60)

    with running(database, flows=[flow], shutdown_timeout=0.0) as starter:
        run = starter.client.start_flow(flow, None)
        assert entered.wait(WAIT)
    said = [r.getMessage() for r in caplog.records]
    assert f"shop: 1 tasks did not end in time and are given back: step charge of run {run.id}" in said
    (abandoned,) = [text for text in said if text.startswith("threads that hang and are abandoned: 1 (")]
    assert abandoned.endswith(" shop.charge)")


def test_a_worker_of_which_too_many_handlers_hang_claims_no_more_until_one_has_ended(
    database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgflow_starter.worker.troubles.LASTING", 0.5)
    hanging, begun = [threading.Event() for _ in range(4)], list[int]()

    @pgflow.job("hangs", timeout=1, max_attempts=1, max_concurrency=1)
    def hangs(number: int, ctx: pgflow.TaskContext) -> int:
        begun.append(number)
        if number < 4:
            hanging[number].wait(60)
        return number

    try:
        with running(database, jobs=[hangs]) as starter:
            runs = [starter.client.enqueue(hangs, number) for number in range(5)]
            for run in runs[:4]:
                assert run.wait(WAIT).status == "failed"
            trouble = eventually(lambda: starter.workers()[0].trouble)
            assert trouble is not None
            assert (str(trouble.kind), str(trouble.scope)) == ("handlers_hang", "all")
            assert "4 handlers of steps 'hangs' have not ended although they were given up" in trouble.reason
            failing = await_state(starter, hangs, lambda s: s.status == "retrying").last_error
            assert failing is not None
            assert (failing.phase, failing.error_type) == ("worker", "handlers_hang")
            assert not starter.ready()
            assert starter.workers()[0].abandoned == 4
            with psycopg.connect(database) as admin:
                queued = admin.execute("select count(*) from pgflow.step_tasks where status = 'queued'").fetchone()
            assert (queued, sorted(begun)) == ((1,), [0, 1, 2, 3])
            hanging[2].set()
            assert runs[4].wait(WAIT).result == 4
            assert starter.workers()[0].trouble is None
            starter.await_ready(WAIT)
            for event in hanging:
                event.set()
    finally:
        for event in hanging:
            event.set()
    assert len(told(caplog, "trouble (handlers_hang, scope all)")) == 1
    timeouts = told(caplog)
    assert [r.levelno for r in timeouts] == [logging.ERROR] * 4
    assert timeouts[0].getMessage().endswith("TimeoutError: the task has not ended within its timeout of 1 s")
