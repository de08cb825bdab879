"""Lazy starters within one process: when they start, and what a stop or a signal beside the first call does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.config import Settings
from pgflow_starter.starter.per_process import Runtimes
from pgflow_starter.starter.runtime import Runtime
from tests.starter.forks import NOWHERE
from tests.support.starters import QUICK, echo_job, running
from tests.support.threads import ours


def test_a_lazy_starter_starts_at_its_first_call_and_neither_before_nor_by_repr_nor_by_with(database: str) -> None:
    with running(database, jobs=[echo_job()], lazy=True) as starter:
        assert repr(starter) == "Starter([echo])"
        assert ours() == set()
        starter.await_ready(10)
        assert starter.client.enqueue("echo", 1).wait(10).result == 1


def test_a_lazy_starters_settings_are_checked_by_start() -> None:
    with pytest.raises(ValueError, match=r"lazy must be True or False, got 'yes'; pool_size must be"):
        pgflow.start(NOWHERE, lazy="yes", pool_size=0)  # type: ignore[arg-type]


def test_a_lazy_starter_that_is_stopped_before_its_first_call_never_starts() -> None:
    starter = pgflow.start(NOWHERE, jobs=[echo_job()], lazy=True)
    starter.stop()
    for call in (starter.status, starter.ready, starter.await_ready, starter.proxy, lambda: starter.client):
        with pytest.raises(pgflow.StarterStopped):
            call()
    starter.stop()
    assert ours() == set()


def test_first_calls_at_once_start_one_runtime() -> None:
    starter = pgflow.start(NOWHERE, jobs=[echo_job()], lazy=True, **QUICK)
    together, found = threading.Barrier(8), set()

    def call() -> None:
        together.wait(10)
        starter.ready()
        found.add(starter.client)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    assert len(found) == 1
    assert sum(thread.name == "pgflow-database" for thread in ours()) == 1
    starter.stop()


def test_a_stop_beside_the_first_call_leaves_nothing_running() -> None:
    for _ in range(20):
        starter = pgflow.start(NOWHERE, jobs=[echo_job()], lazy=True, **QUICK)
        caller = threading.Thread(target=partial(_stopped_at_most, starter.ready))
        caller.start()
        starter.stop()
        caller.join(10)
        with pytest.raises(pgflow.StarterStopped):
            starter.ready()
        assert ours() == set()


def _stopped_at_most(call: Callable[[], object]) -> None:
    try:
        call()
    except pgflow.StarterStopped:
        return


class TestASignalHandlerOnTopOfTheFirstCall:
    """Told apart from a real one only by when it comes: just then."""

    def made(self, handler: Callable[[], object], *, while_starting: bool) -> Runtimes:
        handlers = [handler]

        def interrupted() -> None:
            while handlers:
                handlers.pop()()

        class Interrupted(Runtime):
            def start(self) -> None:
                if while_starting:
                    interrupted()
                super().start()

        def make() -> Runtime:
            if not while_starting:
                interrupted()
            return Interrupted(NOWHERE, (), Settings(shutdown_timeout=1))

        return Runtimes(make, lazy=True)

    @pytest.mark.parametrize("while_starting", [False, True])
    def test_may_make_a_call_itself(self, while_starting: bool) -> None:
        found: list[Any] = []
        runtimes = self.made(lambda: found.append(runtimes.get()), while_starting=while_starting)
        assert [runtimes.get()] == found
        runtimes.stop(None)()
        assert ours() == set()

    @pytest.mark.parametrize("while_starting", [False, True])
    def test_may_stop_it(self, while_starting: bool) -> None:
        def stop() -> None:
            runtimes.stop(None)()

        runtimes = self.made(stop, while_starting=while_starting)
        with pytest.raises(pgflow.StarterStopped):
            runtimes.get().board.check_open()
        runtimes.stop(None)()
        assert ours() == set()


def test_a_start_that_fails_leaves_the_next_call_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    starter = pgflow.start(NOWHERE, lazy=True, **QUICK)
    with monkeypatch.context() as patched:
        patched.setattr(Runtime, "start", _no_thread)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            starter.ready()
    assert starter.ready()
    starter.stop()


def _no_thread(_: Runtime) -> None:
    raise RuntimeError("can't start new thread")
