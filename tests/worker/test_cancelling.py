"""A run that is cancelled while a worker has to do with it."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.threads.cache import ThreadCache
from tests.support.starters import running
from tests.support.statements import Statement, recorded
from tests.support.waiting import eventually
from tests.worker import test_crew
from tests.worker.test_crew import Rig, task

WAIT = 30.0

threads = test_crew.threads


class Stubborn:
    """A job whose handler waits until it is told that it is cancelled, and fails then."""

    def __init__(self, release: threading.Event) -> None:
        self.begun: list[Any] = []
        self.told: list[Any] = []
        self.job = pgflow.job("stubborn", max_concurrency=1)(self.run)
        self._release = release

    def run(self, message: Any, ctx: pgflow.TaskContext) -> Any:
        self.begun.append(message)
        if message != "quick":
            while not ctx.cancelled.wait(0.05):
                if self._release.is_set():
                    return message
            self.told.append(message)
            raise InterruptedError("told so")
        return message


def test_a_handler_is_told_at_once_and_what_waits_for_its_slot_never_begins(
    database: str, release: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stubborn = Stubborn(release)
    with running(database, jobs=[stubborn.job]) as starter:
        client = starter.client
        one = client.enqueue(stubborn.job, "one")
        eventually(lambda: stubborn.begun, WAIT)
        two = client.enqueue(stubborn.job, "two")
        assert client.cancel(two.id).status == "failed"
        # Its heartbeat is not due for another ten seconds, most likely.
        cancelled = client.cancel(one.id, "not that one")
        assert one.wait(WAIT) == cancelled
        assert client.enqueue(stubborn.job, "quick").wait(WAIT).status == "completed"
        assert (stubborn.begun, stubborn.told) == (["one", "quick"], ["one"])
        assert one.refresh().error == "not that one"
    assert [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")] == []


def test_another_process_hears_of_it_with_its_heartbeat_and_asks_while_something_runs(
    database: str, release: threading.Event
) -> None:
    stubborn = Stubborn(release)
    quick = {"heartbeat_interval": 0.1, "recovery_interval": 0.1, "stale_threshold": 30.0}
    with pgflow.PgflowClient(database) as elsewhere, running(database, jobs=[stubborn.job], **quick) as starter:
        assert elsewhere.enqueue(stubborn.job, "quick").wait(WAIT).status == "completed"
        with recorded() as statements:

            def asked() -> list[Statement]:
                return [s for s in statements if s.where.startswith("worker_rows") and "r.status" in s.text]

            for _ in range(3):  # the first may have begun before
                statements.clear()
                eventually(lambda: [s for s in statements if "last_heartbeat_at" in s.text], WAIT)
            assert asked() == []
            run = elsewhere.enqueue(stubborn.job, "one")
            eventually(asked, WAIT)
            elsewhere.cancel(run.id)
            eventually(lambda: stubborn.told, WAIT)
        eventually(lambda: starter.workers()[0].running == 0, WAIT)


def test_a_handler_whose_run_was_deleted_since_the_last_heartbeat_is_told_as_well(
    database: str, release: threading.Event
) -> None:
    stubborn = Stubborn(release)
    quick = {"heartbeat_interval": 0.1, "recovery_interval": 0.1, "stale_threshold": 30.0}
    with running(database, jobs=[stubborn.job], **quick) as starter:
        starter.client.enqueue(stubborn.job, "one")
        eventually(lambda: stubborn.begun, WAIT)
        with psycopg.connect(
            database
        ) as admin:  # cancelled and deleted, as no heartbeat sees the one without the other
            for table in ("step_tasks", "step_states", "runs"):
                admin.execute(f"delete from pgflow.{table}".encode())
        eventually(lambda: stubborn.told, WAIT)
        eventually(lambda: starter.workers()[0].running == 0, WAIT)


def test_a_step_beside_one_that_failed_is_told_as_well(database: str, release: threading.Event) -> None:
    stubborn, flow = Stubborn(release), pgflow.Flow("pair", max_attempts=1)
    flow.step(slug="long")(stubborn.run)

    @flow.step()
    def bad(given: Any, ctx: pgflow.TaskContext) -> None:
        eventually(lambda: stubborn.begun, WAIT)
        raise LookupError

    quick = {"heartbeat_interval": 0.1, "recovery_interval": 0.1, "stale_threshold": 30.0}
    with running(database, flows=[flow], **quick) as starter:
        starter.client.start_flow(flow).wait(WAIT)
        eventually(lambda: stubborn.told, WAIT)


@pytest.mark.parametrize("claiming", [True, False])
def test_what_was_claimed_ahead_or_is_brought_by_a_claim_under_way_never_begins(
    threads: ThreadCache,
    release: threading.Event,
    claiming: bool,
) -> None:
    begun: list[int] = []

    def handler(number: int) -> None:
        begun.append(number)
        release.wait()

    rig = Rig(handler, threads, slots=1)
    rig.crew.claim_begins()
    rig.crew.launch([task(0), task(1), task(2)])
    eventually(lambda: begun)
    (running_one,) = [flight for flight in rig.flights.all() if flight.begun < 1e9]
    rig.crew.call_off([UUID(int=1), UUID(int=2), UUID(int=4)], claiming=claiming)
    assert rig.landed.acquire(timeout=WAIT)
    assert running_one.cancelled.is_set()
    rig.crew.launch([task(3)])  # by a claim that began before
    rig.crew.claim_begins()
    rig.crew.launch([task(3)])  # of a run that was started anew
    release.set()
    eventually(lambda: not len(rig.flights))
    assert begun == [0, 2, *([3] if claiming else [3, 3])]


def test_a_task_is_called_off_at_the_last_moment_before_it_begins(threads: ThreadCache) -> None:
    begun: list[int] = []
    rig = Rig(begun.append, threads, slots=1)

    class CalledOff:
        """An observer to whom it happens that the run ends."""

        def __enter__(self) -> Any:
            rig.crew.call_off([UUID(int=1)], claiming=False)
            return lambda outcome, failure: None

        def __exit__(self, *_: object) -> None: ...

    rig.messages.processing = lambda given, received: CalledOff()
    rig.crew.launch([task(0)])
    assert rig.landed.acquire(timeout=WAIT)
    assert (begun, rig.store.batches, len(rig.flights)) == ([], [], 0)
