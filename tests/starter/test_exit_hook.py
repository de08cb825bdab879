"""The interpreter's exit, beside a stop that ends."""

from __future__ import annotations

import os
from queue import SimpleQueue

import pytest

import pgflow_starter as pgflow
from pgflow_starter.starter import per_process
from pgflow_starter.starter.runtime import Runtime
from tests.support.pauses import Between
from tests.support.starters import opened

WAIT = 30.0


def test_a_stop_that_ends_while_the_exit_counts_who_runs_does_it_no_harm(empty_database: str) -> None:
    raised = SimpleQueue[BaseException | None]()

    def at_exit(runtime: Runtime) -> None:
        try:
            per_process.stop_at_exit(runtime, os.getpid())
        except BaseException as error:
            raised.put(error)
        else:
            raised.put(None)

    with opened(empty_database) as (starter, runtime), Between(per_process, "for each in", "running.pop(") as pair:
        pair.beside(lambda: at_exit(runtime))
        pair.reached()
        starter.stop()
        assert runtime not in per_process.running
        pair.go_on()
        assert raised.get(timeout=WAIT) is None
    with pytest.raises(pgflow.StarterStopped):
        starter.status()
