"""Many modules that start together, with all that can come between: none is forgotten, none harms another."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import psycopg
import pykka
import pytest

import pgflow_starter as pgflow
from pgflow_starter import ModuleStatus
from tests.support.starters import STRATEGIES, echo_job, running, state
from tests.support.threads import ours
from tests.support.waiting import eventually

WAIT = 30.0


def jobs(count: int, name: str = "job") -> list[pgflow.Job]:
    return [echo_job(f"{name}_{n}") for n in range(count)]


def warm(database: str, *modules: pgflow.Job) -> None:
    """Their flows are stored from now on."""
    with running(database, jobs=modules) as starter:
        starter.await_ready(WAIT)


def statuses(starter: pgflow.Starter) -> Counter[str]:
    return Counter(str(module.status) for module in starter.status().modules)


def terminate_all(admin: psycopg.Connection[Any]) -> None:
    admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )


# What is not as it should be with one of them


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_new_ones_are_created_and_known_ones_start_whatever_is_wrong_with_others(database: str, strategy: str) -> None:
    known = jobs(70)
    warm(database, *known)
    reshaped = pgflow.Flow("job_7")
    reshaped.step(slug="different")(lambda given, ctx: given)
    listed = [job for job in known if job.slug != "job_7"] + jobs(20, "new")
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("select pgmq.drop_queue('job_9')")
    twin = echo_job("job_3")
    with running(database, flows=[reshaped], jobs=[*listed, twin], signal_strategy=strategy) as starter:
        starter.await_ready(WAIT)
        failed = {m.module: m.last_error for m in starter.status().modules if m.last_error}
        assert set(failed) == {"job_7", "job_3"}
        assert state(starter, listed[3]).status is ModuleStatus.SUCCEEDED
        assert "another shape than the code" in state(starter, reshaped).last_error.reason  # type: ignore[union-attr]
        assert "is taken by job_3" in state(starter, twin).last_error.reason  # type: ignore[union-attr]
        assert {m.attempts for m in starter.status().modules} == {1}
        runs = [starter.client.enqueue(job, n) for n, job in enumerate(listed)]
        assert [run.wait(WAIT).result for run in runs] == [*range(len(listed))]


def test_without_pgflow_each_of_them_says_so(empty_database: str) -> None:
    with running(empty_database, jobs=jobs(5)) as starter:
        starter.await_ready(WAIT)
        assert statuses(starter) == {"failed_permanent": 5}
        for module in starter.status().modules:
            assert module.last_error is not None
            assert "are not installed" in module.last_error.reason


def test_with_the_database_away_each_of_them_is_tried_again() -> None:
    with running("host=127.0.0.1 port=1", jobs=jobs(70)) as starter:
        eventually(lambda: statuses(starter) == {"retrying": 70})
        for module in starter.status().modules:
            assert module.last_error is not None
            assert "refused" in module.last_error.reason


# Held up


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_held_up_by_anothers_lock_they_are_cancelled_and_come_back_when_it_is_released(
    database: str, strategy: str
) -> None:
    known = jobs(70)
    warm(database, *known)
    with psycopg.connect(database) as holder:
        holder.execute("lock table pgflow.workers in access exclusive mode")
        with running(database, jobs=known, signal_strategy=strategy, phase_timeout=1.5) as starter:
            eventually(lambda: all(module.last_error for module in starter.status().modules), WAIT)
            for module in starter.status().modules:
                assert module.last_error is not None
                # Whoever notices first: the phase's own timer, or the limit of the call that it is in.
                assert "within 1.5 s" in module.last_error.reason
            holder.rollback()
            starter.await_ready(WAIT)
            assert statuses(starter) == {"succeeded": 70}
            with psycopg.connect(database) as admin:
                registered = admin.execute("select count(distinct queue_name) from pgflow.workers").fetchone()
            assert registered == (70,)


def test_a_stop_while_they_are_held_up_returns_in_time_and_fails_no_attempt(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    known = jobs(70)
    warm(database, *known)
    with psycopg.connect(database) as holder:
        holder.execute("lock table pgflow.workers in access exclusive mode")
        starter = pgflow.start(database, jobs=known, shutdown_timeout=1)
        eventually(lambda: Counter(str(m.phase) for m in starter.status().modules) == {"worker": 70})
        stopper = threading.Thread(target=starter.stop)
        stopper.start()
        stopper.join(10)
        assert not stopper.is_alive()
        eventually(lambda: not ours())  # what hung when the time was up has been cancelled, and ends
    assert not [r for r in caplog.records if "retrying after attempt" in r.getMessage()]


# Stopped, killed, cut off while they start


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_stop_at_any_moment_of_the_start_leaves_nothing_and_fails_no_attempt(
    database: str, strategy: str, caplog: pytest.LogCaptureFixture
) -> None:
    known = jobs(100)
    warm(database, *known[:50])
    chance = random.Random(strategy)
    for _ in range(6):
        starter = pgflow.start(database, jobs=known, signal_strategy=pgflow.SignalStrategy(strategy))
        begun = chance.randrange(100)
        eventually(lambda n=begun, s=starter: sum(m.attempts for m in s.status().modules) >= n)  # type: ignore[misc]
        done = chance.randrange(40)
        eventually(lambda n=done, s=starter: statuses(s)["succeeded"] >= n)  # type: ignore[misc]
        starter.stop(timeout=5)
        eventually(lambda: not ours())
    assert not [r for r in caplog.records if "retrying after attempt" in r.getMessage()]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_actors_that_are_killed_during_the_start_go_on_where_they_were(database: str, strategy: str) -> None:
    known = jobs(60)
    warm(database, *known[:30])
    with running(database, jobs=known, signal_strategy=strategy) as starter:
        for count in (1, 20, 40):
            eventually(lambda n=count: statuses(starter)["succeeded"] >= n)  # type: ignore[misc]
            pykka.ActorRegistry.stop_all(block=False)
        starter.await_ready(WAIT)
        assert statuses(starter) == {"succeeded": 60}
        assert starter.client.enqueue(known[0], 5).wait(WAIT).result == 5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_connections_that_are_cut_during_the_start_are_made_anew(database: str, strategy: str) -> None:
    known = jobs(100)
    warm(database, *known[:50])
    with (
        psycopg.connect(database, autocommit=True) as admin,
        running(database, jobs=known, signal_strategy=strategy) as starter,
    ):
        for count in (0, 10, 50):
            eventually(lambda n=count: statuses(starter)["succeeded"] >= n)  # type: ignore[misc]
            terminate_all(admin)
        starter.await_ready(WAIT)
        assert statuses(starter) == {"succeeded": 100}
        runs = [starter.client.enqueue(job, 1) for job in known[::10]]
        assert {run.wait(WAIT).status for run in runs} == {"completed"}


def test_attempts_that_are_asked_for_all_the_time_end_well(database: str) -> None:
    known = jobs(20)
    with running(database, jobs=known, signal_strategy="notify") as starter:

        def storm(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(200):
                starter.retry_now(chance.choice(known))

        callers = [threading.Thread(target=storm, args=(seed,)) for seed in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(WAIT)
        eventually(lambda: {(str(m.status), m.phase) for m in starter.status().modules} == {("succeeded", None)}, WAIT)
        with psycopg.connect(database) as admin:
            assert admin.execute("select count(*) from pgflow.workers").fetchone() == (20,)
