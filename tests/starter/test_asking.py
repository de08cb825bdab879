"""status, module_status, ready, healthy, await_ready: the table of the calls."""

from __future__ import annotations

import json
import signal
import threading
import types
from datetime import timedelta

import pytest

import pgflow_starter as pgflow
from pgflow_starter import ModuleStatus
from tests.support.starters import STRATEGIES, await_state, echo_job, opened, running, state


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_modules_the_starter_is_ready_and_healthy_at_once(database: str, strategy: str) -> None:
    with running(database, signal_strategy=strategy) as starter:
        assert starter.ready()
        assert starter.healthy()
        starter.await_ready(timeout=0)
        status = starter.status()
        assert status.modules == ()
        assert status.ready_at is not None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_modules_of_all_kinds_succeed_in_their_first_attempt(database: str, strategy: str) -> None:
    flow = pgflow.Flow("a_flow")
    flow.step(slug="only")(lambda given, ctx: given)
    with running(database, flows=[flow], jobs=[echo_job()], signal_strategy=strategy) as starter:
        starter.await_ready(10)
        first, second = starter.status().modules
        assert (first.module, first.slug, first.type, first.status, first.attempts) == (
            "a_flow",
            "a_flow",
            "flow",
            "succeeded",
            1,
        )
        assert (second.module, second.type) == ("echo", "job")
        assert first.phase is None
        assert first.last_error is None
        assert first.next_attempt_at is None
        assert first.updated_at.utcoffset() == timedelta(0)


def test_what_is_no_flow_fails_for_good_and_is_not_tried_again(database: str) -> None:
    junk = object()
    with running(database, flows=[junk]) as starter:
        starter.await_ready(10)
        failed = state(starter, junk)
        assert failed.status is ModuleStatus.FAILED_PERMANENT
        assert failed.attempts == 1
        assert failed.next_attempt_at is None
        assert failed.last_error is not None
        assert (failed.last_error.phase, failed.last_error.error_class) == ("registry", "permanent")
        assert "__pgflow_definition__" in failed.last_error.reason


def test_a_starter_whose_modules_all_failed_is_ready_but_not_healthy(database: str) -> None:
    with running(database, flows=[object()]) as starter:
        starter.await_ready(10)
        assert starter.ready()
        assert not starter.healthy()


def test_one_success_is_healthy(database: str) -> None:
    with running(database, flows=[object()], jobs=[echo_job()]) as starter:
        starter.await_ready(10)
        assert starter.healthy()


def test_an_unknown_module_has_no_state_and_retrying_it_does_nothing(database: str) -> None:
    with running(database, jobs=[echo_job()]) as starter:
        starter.await_ready(10)
        assert starter.module_status("nobody") is None
        assert starter.module_status(echo_job("echo")) is None  # another object, if of the same slug
        before = starter.status()
        starter.retry_now("nobody")
        starter.retry_now(object())  # type: ignore[arg-type]
        assert starter.status() is before


def test_modules_are_found_by_object_then_name_then_slug(database: str) -> None:
    class Orders:
        @staticmethod
        def __pgflow_definition__() -> pgflow.FlowDefinition:
            return pgflow.FlowDefinition("orders", (pgflow.StepDefinition("only", lambda given, ctx: given),))

    module = types.ModuleType("shop_flows")
    module.__pgflow_definition__ = echo_job("shop").__pgflow_definition__  # type: ignore[attr-defined]
    with running(database, flows=[Orders, module]) as starter:
        starter.await_ready(10)
        assert state(starter, Orders).module == Orders.__qualname__
        assert state(starter, Orders.__qualname__) is state(starter, "orders")
        assert state(starter, module) is state(starter, "shop_flows") is state(starter, "shop")


def test_the_status_is_json_ready_data(database: str) -> None:
    with running(database, flows=[object()], jobs=[echo_job()]) as starter:
        starter.await_ready(10)
        data = json.loads(json.dumps(starter.status().to_dict()))
        assert data["ready"] is True
        assert {m["status"] for m in data["modules"]} == {"succeeded", "failed_permanent"}
        assert data["modules"][0]["last_error"]["error_class"] == "permanent"


def test_await_ready_tells_where_each_open_module_stands(empty_database: str, release: threading.Event) -> None:
    entered = threading.Event()

    class Slow:
        @staticmethod
        def __pgflow_definition__() -> pgflow.FlowDefinition:
            entered.set()
            release.wait()
            return pgflow.FlowDefinition("slow", (pgflow.StepDefinition("only", lambda given, ctx: given),))

    with opened(empty_database, flows=[Slow, failing := object()]) as (starter, runtime):
        assert entered.wait(30)
        await_state(starter, failing, lambda s: s.status.terminal)
        with pytest.raises(pgflow.NotReadyError, match=r"Slow.*pending, in phase registry, attempt 1") as caught:
            starter.await_ready(timeout=0.2)
        assert isinstance(caught.value, TimeoutError)
        assert "1 of 2 modules" in str(caught.value)
        assert runtime.board.waiting == 0
        release.set()


def test_await_ready_without_a_timeout_waits_until_it_is_so(database: str) -> None:
    with running(database, jobs=[echo_job()]) as starter:
        starter.await_ready(timeout=None)
        assert starter.ready()
        starter.await_ready(timeout=None)


def test_await_ready_is_woken_by_stop(empty_database: str, release: threading.Event) -> None:
    class Slow:
        @staticmethod
        def __pgflow_definition__() -> None:
            release.wait()

    seen: list[BaseException] = []
    with running(empty_database, flows=[Slow]) as starter:

        def wait() -> None:
            try:
                starter.await_ready(timeout=None)
            except pgflow.PgflowError as error:
                seen.append(error)

        waiter = threading.Thread(target=wait)
        waiter.start()
        release.set()
        starter.stop()
        waiter.join(5)
    # either it saw the end of the phase first, or the stop
    assert all(isinstance(error, pgflow.StarterStopped) for error in seen)
    assert not waiter.is_alive()


def test_a_signal_handler_can_interrupt_await_ready(empty_database: str, release: threading.Event) -> None:
    class Slow:
        @staticmethod
        def __pgflow_definition__() -> None:
            release.wait()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with running(empty_database, flows=[Slow]) as starter:

            def wait() -> None:
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                starter.await_ready(timeout=None)

            with pytest.raises(KeyboardInterrupt):
                wait()
            release.set()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_ready_at_keeps_its_first_value(database: str) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        starter.await_ready(10)
        first = starter.status().ready_at
        starter.retry_now(job)
        starter.await_ready(10)
        assert starter.status().ready_at == first
