"""Somebody makes a queue anew, without its trigger: at the safety poll inserts notify again."""

from __future__ import annotations

import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.trouble import Trouble
from pgflow_starter.postgres.setup.admin import queue_lock
from tests.neighbours.other_runtime import Admin
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

WAIT = 20.0
LOOKS = {"signal_strategy": "notify", "notify_fallback_interval": 0.2}
TRIGGER = "select count(*)::int from pg_trigger where tgname = 'trigger_notify_queue_insert_listeners'"
ROWS = "select count(*)::int from pgmq.notify_insert_throttle"


def _lose(admin: Admin, what: str) -> None:
    if what == "trigger":
        admin.execute("drop trigger trigger_notify_queue_insert_listeners on pgmq.q_echo")
    else:
        admin.execute("delete from pgmq.notify_insert_throttle where queue_name = 'echo'")


def _both(admin: Admin) -> bool:
    return [admin.execute(query).fetchone() for query in (TRIGGER, ROWS)] == [(2,), (2,)]


def _trouble(starter: pgflow.Starter) -> Trouble | None:
    return next(worker.trouble for worker in starter.workers() if worker.slug == "echo")


@pytest.mark.parametrize("what", ["trigger", "throttle row"])
def test_what_is_lost_is_enabled_again_and_said_once(
    database: str, admin: Admin, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [echo_job(), echo_job("beside")]
    with running(database, jobs=jobs, **LOOKS) as starter:
        starter.await_ready(WAIT)
        assert _both(admin)
        for times in (1, 2):
            _lose(admin, what)
            eventually(lambda: _both(admin), WAIT)
            told = [r for r in caplog.records if "was lost" in r.getMessage()]
            assert [(r.levelname, r.__dict__["pgflow_slug"]) for r in told] == [("WARNING", "echo")] * times
        assert starter.client.enqueue(jobs[0], 1).wait(WAIT).result == 1
    assert not [r for r in caplog.records if "trouble" in r.getMessage()]


def test_while_it_cannot_be_enabled_its_worker_is_in_trouble(
    database: str, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pgflow_starter")
    with running(database, jobs=[echo_job(), echo_job("beside")], **LOOKS) as starter:
        starter.await_ready(WAIT)
        with queue_lock(database, "echo"):
            _lose(admin, "trigger")
            trouble = eventually(lambda: _trouble(starter), WAIT)
            assert trouble is not None
            assert (trouble.kind, trouble.scope, trouble.error_type) == ("not_notified", "some", "55P03")
            assert starter.ready()
        eventually(lambda: _trouble(starter) is None, WAIT)
        assert _both(admin)
    told = [r.levelname for r in caplog.records if "not_notified" in r.getMessage()]
    assert told == ["WARNING", "INFO"]


def test_another_starters_throttle_is_left_as_it_is(database: str, admin: Admin) -> None:
    with running(database, jobs=[echo_job(), echo_job("beside")], **LOOKS) as starter:
        starter.await_ready(WAIT)
        admin.execute("update pgmq.notify_insert_throttle set throttle_interval_ms = 777 where queue_name = 'beside'")
        _lose(admin, "trigger")
        eventually(lambda: _both(admin), WAIT)
        assert admin.execute(
            "select throttle_interval_ms from pgmq.notify_insert_throttle where queue_name = 'beside'"
        ).fetchone() == (777,)
