"""Actors die, from outside and from inside: states, attempts and waiting callers outlive them."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import psycopg
import pykka
import pytest

import pgflow_starter as pgflow
from pgflow_starter import ModuleActor, ModuleStatus, StarterActor
from tests.support.starters import await_state, echo_job, opened, running, state
from tests.support.waiting import eventually


def _kill(actor_class: type[Any]) -> None:
    for ref in pykka.ActorRegistry.get_by_class(actor_class):
        ref.stop()


def test_module_and_starter_actors_are_in_pykkas_registry(database: str) -> None:
    with running(database, jobs=[echo_job("a"), echo_job("b")]) as starter:
        starter.await_ready(10)
        assert len(pykka.ActorRegistry.get_by_class(ModuleActor)) == 2
        assert len(pykka.ActorRegistry.get_by_class(StarterActor)) == 1


def test_the_calls_of_the_proxy_are_futures_and_survive_a_restart(database: str) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        proxy = starter.proxy()
        proxy.await_ready(timeout=10).get()
        for _ in range(3):
            assert proxy.status().get(timeout=5) == starter.status()
            assert proxy.module_status(job).get(timeout=5) == state(starter, job)
            assert proxy.ready().get(timeout=5) is True
            assert proxy.healthy().get(timeout=5) is True
            assert proxy.which_children().get(timeout=5)[0].id == "root"
            _kill(StarterActor)
        attempts = state(starter, job).attempts
        assert proxy.retry_now(job).get(timeout=5) is None
        eventually(lambda: state(starter, job).attempts == attempts + 1)


def test_a_call_sent_to_a_starter_actor_that_is_gone_is_sent_again(database: str) -> None:
    with running(database, jobs=[echo_job()]) as starter:
        starter.await_ready(10)
        proxy = starter.proxy()
        futures = []
        for i in range(200):
            futures.append(proxy.ready())
            if i % 20 == 0:
                for ref in pykka.ActorRegistry.get_by_class(StarterActor):
                    ref.stop(block=False)
        assert all(future.get(timeout=10) for future in futures)


def test_a_call_that_meets_one_death_after_the_other_is_answered_in_the_end(database: str) -> None:
    def starter_actor(besides: object = None) -> Any:
        alive = [ref for ref in pykka.ActorRegistry.get_by_class(StarterActor) if ref != besides]
        return alive[0] if alive else None

    with running(database, jobs=[echo_job()]) as starter:
        starter.await_ready(10)
        for _ in range(10):
            first = eventually(starter_actor)
            first.stop(block=False)
            future = starter.proxy().ready()
            eventually(partial(starter_actor, first)).stop(block=False)
            assert future.get(timeout=10) is True


def test_states_and_attempts_survive_another_librarys_stop_all(database: str) -> None:
    jobs = [echo_job(f"j{i}") for i in range(10)]
    with running(database, flows=[object()], jobs=jobs, signal_strategy="notify") as starter:
        starter.await_ready(10)
        before = starter.status()
        pykka.ActorRegistry.stop_all()
        eventually(lambda: len(pykka.ActorRegistry.get_by_class(ModuleActor)) == 11)
        eventually(lambda: pykka.ActorRegistry.get_by_class(StarterActor))
        assert starter.status().modules == before.modules
        assert starter.client.enqueue(jobs[0], 5).wait(10).result == 5
        starter.retry_now(jobs[0])
        eventually(lambda: state(starter, jobs[0]).attempts == 2)


def test_a_module_actor_that_dies_while_a_phase_runs_takes_its_result_up_again(
    database: str, release: threading.Event
) -> None:
    entered = threading.Event()
    calls: list[int] = []

    class Gated:
        @staticmethod
        def __pgflow_definition__() -> pgflow.FlowDefinition:
            calls.append(1)
            entered.set()
            release.wait()
            return echo_job("gated").__pgflow_definition__()

    with running(database, flows=[Gated]) as starter:
        assert entered.wait(10)
        _kill(ModuleActor)
        eventually(lambda: pykka.ActorRegistry.get_by_class(ModuleActor))
        release.set()
        starter.await_ready(10)
        assert state(starter, Gated).status is ModuleStatus.SUCCEEDED
        assert state(starter, Gated).attempts == 1
        assert len(calls) == 1


def test_waiting_callers_outlive_the_actors(database: str, release: threading.Event) -> None:
    class Gated:
        @staticmethod
        def __pgflow_definition__() -> pgflow.FlowDefinition:
            release.wait()
            return echo_job("gated").__pgflow_definition__()

    with running(database, flows=[Gated]) as starter:
        done = threading.Event()

        def wait() -> None:
            starter.await_ready(timeout=20)
            done.set()

        waiter = threading.Thread(target=wait)
        waiter.start()
        _kill(ModuleActor)
        _kill(StarterActor)
        release.set()
        assert done.wait(10)
        waiter.join(5)


def test_a_worker_that_dies_makes_its_module_retrying_until_it_is_wired_again(database: str) -> None:
    job = echo_job()
    seen: list[pgflow.ModuleState] = []
    with opened(database, jobs=[job], signal_strategy="notify") as (starter, runtime):
        starter.await_ready(10)
        board = runtime.board
        publish = board.publish

        def watch(cell: Any, machine: Any) -> None:
            seen.append(machine.state)
            publish(cell, machine)

        board.publish = watch  # type: ignore[method-assign] # the double is told what to do
        cell = runtime.parts.workers.cells()[0]
        assert cell.ref is not None
        cell.ref.stop()
        eventually(lambda: seen and seen[-1].status is ModuleStatus.SUCCEEDED)
        assert (seen[0].status, seen[0].phase) == (ModuleStatus.RETRYING, "worker")
        assert seen[0].last_error is not None
        starter.await_ready(10)
        assert starter.client.enqueue(job, "again").wait(10).result == "again"
        assert next(c for c in starter.which_children() if c.id == "echo").restarts == 1


def test_the_end_of_the_root_is_told_to_every_caller(database: str) -> None:
    with opened(database, jobs=[echo_job()]) as (starter, runtime):
        starter.await_ready(10)
        root = runtime.root
        root.tell(SystemExit)  # a message that it does not know is none of its business ...
        assert starter.ready()
        root.stop()  # ... but its end is
        runtime.join(10)
        with pytest.raises(pgflow.StarterTerminated):
            starter.status()
        with pytest.raises(pgflow.StarterTerminated):
            starter.await_ready(1)
        starter.stop()


def test_a_worker_that_dies_while_the_schema_is_away_is_wired_again_when_that_is_back(database: str) -> None:
    job = echo_job()
    with (
        opened(database, jobs=[job]) as (starter, runtime),
        psycopg.connect(database, autocommit=True) as admin,
    ):
        starter.await_ready(10)
        admin.execute("alter schema pgflow rename to pgflow_away")
        worker = runtime.parts.workers.cells()[0].ref
        assert worker is not None
        worker.stop()
        last = await_state(starter, job, lambda s: s.attempts >= 3 and s.phase is None).last_error
        assert last is not None
        assert last.error_class == "transient"
        assert "pgflow" in last.reason
        admin.execute("alter schema pgflow_away rename to pgflow")
        starter.await_ready(10)
        assert starter.client.enqueue(job, 1).wait(10).result == 1
