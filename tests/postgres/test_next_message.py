"""What a claim says of messages that are not visible yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.task import Claimed
from pgflow_starter.postgres.stores import next_message
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.next_message import SOON
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.support.database import NoScope, opened
from tests.support.starters import echo_job

QUANTITY = 3
HIDE = "update pgmq.q_{} set vt = clock_timestamp() + make_interval(secs => %s) where vt <= clock_timestamp()"


class Queue:
    """That of a job, with a worker of it."""

    def __init__(self, slug: str, conninfo: str, store: PostgresTaskStore, flows: PostgresFlowStore) -> None:
        self._conninfo, self._job = conninfo, echo_job(slug)
        definition, worker, scope = definition_of(self._job), uuid4(), NoScope()
        flows.compile(definition, scope)
        flows.register_workers([(worker, slug)], scope)
        self._claim = partial(store.claim, definition, worker, QUANTITY, scope)

    def send(self, count: int, *, hidden_for: float | None = None) -> None:
        with pgflow.PgflowClient(self._conninfo) as client, psycopg.connect(self._conninfo, autocommit=True) as admin:
            client.enqueue_many(self._job, range(count))
            if hidden_for is not None:
                admin.execute(HIDE.format(self._job.slug).encode(), (hidden_for,))

    def claim(self, expected: int) -> Claimed:
        claimed = self._claim()
        assert (claimed.read, len(claimed.tasks)) == (expected, expected)
        return claimed


@pytest.fixture(params=["fast lane", "core"])
def queue_of(request: pytest.FixtureRequest, database: str) -> Iterator[Callable[[str], Queue]]:
    with opened(database) as db:
        store = PostgresTaskStore(db, fast_lane=request.param == "fast lane")
        yield lambda slug: Queue(slug, database, store, PostgresFlowStore(db, SystemClock()))


@pytest.fixture
def queue(queue_of: Callable[[str], Queue]) -> Queue:
    return queue_of("echo")


def about(seconds: float) -> Any:
    """So many, less what the test has taken since."""
    return pytest.approx(seconds - 30, abs=30)


def test_an_empty_claim_says_when_the_next_message_is_visible_however_far_ahead(queue: Queue) -> None:
    assert queue.claim(0).visible_in is None
    queue.send(2, hidden_for=3e7)
    assert queue.claim(0).visible_in == about(3e7)


def test_a_claim_that_took_some_says_to_look_again_in_a_moment(queue: Queue) -> None:
    queue.send(1, hidden_for=600)
    queue.send(1)
    assert queue.claim(1).visible_in == SOON


def test_a_claim_that_took_some_says_when_the_next_is_visible_within_that_moment(
    queue_of: Callable[[str], Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_message, "SOON", 1200.0)
    queue = queue_of("in_a_long_moment")  # statements are kept by the queue's name
    queue.send(1, hidden_for=600)
    queue.send(1)
    assert queue.claim(1).visible_in == about(600)


def test_a_full_claim_does_not_look(queue: Queue) -> None:
    queue.send(1, hidden_for=600)
    queue.send(QUANTITY)
    assert queue.claim(QUANTITY).visible_in is None
