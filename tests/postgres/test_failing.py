"""What is told as failing: a run that somebody cancelled is not, and one of which a handler has such words is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.cancelled import ON_THE_PAGE
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.told_errors import ToldErrors
from pgflow_starter.postgres.client.views import Views
from tests.postgres.rights_rig import Admin
from tests.support.database import opened

ATTEMPTS = 2


@pytest.fixture
def order() -> pgflow.Flow:
    flow = pgflow.Flow("order", max_attempts=ATTEMPTS, base_delay=0)
    flow.step(slug="charge")(lambda given, ctx: None)
    return flow


@pytest.fixture
def views(database: str) -> Iterator[Views]:
    with opened(database) as opened_database:
        made = Views(Calls(opened_database), ToldErrors(True, str))
        yield made
        made.close()


def attempted(admin: Admin, run: pgflow.Run[Any], times: int) -> None:
    """A worker has begun its task so often, and is at it."""
    change = "update pgflow.step_tasks set status = 'started', attempts_count = %s where run_id = %s"
    admin.execute(change, (times, run.id))


def told(views: Views) -> list[tuple[int, str | None]]:
    return [(each.failed, each.error) for each in views.failing(patience=30.0).failures]


@pytest.mark.parametrize("reason", ["cancelled", ON_THE_PAGE, "cancelled by the night shift"])
@pytest.mark.parametrize("attempts", range(ATTEMPTS))
def test_a_run_that_is_cancelled_with_an_attempt_left_is_no_failure(
    database: str, admin: Admin, views: Views, order: pgflow.Flow, reason: str, attempts: int
) -> None:
    with pgflow.PgflowClient(database) as client:
        run = client.start_flow(order)
        if attempts:
            attempted(admin, run, attempts)
        assert client.cancel(run.id, reason).error == reason
    assert told(views) == []


@pytest.mark.parametrize(("reason", "failures"), [("cancelled", 0), (ON_THE_PAGE, 0), ("cancelled by hand", 1)])
def test_at_its_last_attempt_it_is_none_with_a_reason_of_ours_alone(
    database: str, admin: Admin, views: Views, order: pgflow.Flow, reason: str, failures: int
) -> None:
    with pgflow.PgflowClient(database) as client:
        run = client.start_flow(order)
        attempted(admin, run, ATTEMPTS)
        client.cancel(run.id, reason)
    assert told(views) == [(1, reason)] * failures


def test_a_run_without_a_task_that_could_fail_is_cancelled_alike(
    database: str, admin: Admin, views: Views, order: pgflow.Flow
) -> None:
    with pgflow.PgflowClient(database) as client:
        run = client.start_flow(order)
        admin.execute("delete from pgflow.step_tasks")
        client.cancel(run.id)
    assert told(views) == []


@pytest.mark.parametrize("words", ["cancelled by the customer", "cancelled_orders.Gone: of order 7"])
def test_what_a_handler_raises_is_told_however_it_begins(
    database: str, admin: Admin, views: Views, order: pgflow.Flow, words: str
) -> None:
    with pgflow.PgflowClient(database) as client:
        run = client.start_flow(order)
        attempted(admin, run, ATTEMPTS)
        admin.execute("select pgflow.fail_task(%s, 'charge', 0, %s)", (run.id, words))
        assert client.run(run.id).status == "failed"
    assert told(views) == [(1, words)]
