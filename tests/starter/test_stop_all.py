"""Another library calls `pykka.ActorRegistry.stop_all()`, again and again: it takes nobody down for good."""

from __future__ import annotations

import threading

import pykka
import pytest

import pgflow_starter as pgflow
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually


@pytest.mark.parametrize(("modules", "calls", "pause"), [(1, 100, 0.0), (5, 100, 0.0), (5, 200, 0.02)])
def test_a_starter_outlives_any_number_of_them(database: str, modules: int, calls: int, pause: float) -> None:
    jobs = [echo_job(f"echo{i}") for i in range(modules)]
    ended: list[pgflow.StarterTerminated] = []
    never = threading.Event()
    with running(database, jobs=jobs, on_terminate=ended.append) as starter:
        starter.await_ready(20)
        for _ in range(calls):
            pykka.ActorRegistry.stop_all()
            never.wait(pause)
        eventually(starter.ready, 20)
        assert [starter.client.enqueue(job, 1).wait(20).result for job in jobs] == [1] * modules
        assert not ended
