"""Runs listed: by status, flow and age, page after page, whatever begins or goes away meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from tests.postgres.rights_rig import Admin, compiled
from tests.support.starters import echo_job

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


@pytest.fixture
def client(database: str, admin: Admin) -> Iterator[pgflow.PgflowClient]:
    """Of a database with two jobs and no run of them."""
    compiled(admin, echo_job(), echo_job("other"))
    with pgflow.PgflowClient(database) as made:
        yield made


def began(admin: Admin, run: pgflow.Run, when: object, status: str = "started") -> UUID:
    """Have it look as if it began then, and ended at once where it did."""
    ended = {"completed": ", completed_at = started_at", "failed": ", failed_at = started_at"}
    admin.execute("update pgflow.runs set started_at = %s where run_id = %s", (when, run.id))
    admin.execute(
        f"update pgflow.runs set status = %s, remaining_steps = 0{ended.get(status, '')} where run_id = %s".encode(),
        (status, run.id),
    )
    return run.id


def pages(client: pgflow.PgflowClient, limit: int, *, by_id: bool = False) -> Iterator[list[UUID]]:
    """One after the other, each asked for with the last run of the one before."""
    after: Any = None
    while page := client.runs(limit=limit, after=after):
        yield [run.id for run in page]
        after = str(page[-1].id) if by_id else page[-1]


@pytest.mark.parametrize("by_id", [False, True], ids=["after a run", "after an id"])
def test_pages_have_each_run_once_also_of_those_that_began_together(
    client: pgflow.PgflowClient, admin: Admin, by_id: bool
) -> None:
    runs = client.enqueue_many("echo", range(7))
    for run in runs[:5]:
        began(admin, run, NOON)
    for run in runs[5:]:
        began(admin, run, NOON - timedelta(microseconds=1))
    expected = [run.id for part in (runs[:5], runs[5:]) for run in sorted(part, key=lambda r: r.id, reverse=True)]
    found = list(pages(client, 2, by_id=by_id))
    assert [len(page) for page in found] == [2, 2, 2, 1]
    assert [run for page in found for run in page] == expected


def test_a_run_that_begins_meanwhile_is_on_no_later_page(client: pgflow.PgflowClient, admin: Admin) -> None:
    old = [began(admin, run, NOON - timedelta(hours=n)) for n, run in enumerate(client.enqueue_many("echo", range(4)))]
    turning = pages(client, 2)
    assert next(turning) == old[:2]
    new = client.enqueue("other", "new").id
    assert next(turning) == old[2:]
    assert next(pages(client, 1)) == [new]


def test_a_page_goes_on_after_a_run_that_is_deleted_but_not_after_its_bare_id(
    client: pgflow.PgflowClient, admin: Admin
) -> None:
    first, second = client.enqueue_many("echo", [1, 2])
    began(admin, first, NOON)
    began(admin, second, NOON - timedelta(hours=1))
    (last,) = client.runs(limit=1)
    as_run = client.run(first.id)
    for table in ("step_tasks", "step_states", "runs"):
        admin.execute(f"delete from pgflow.{table} where run_id = %s".encode(), (first.id,))
    assert [run.id for run in client.runs(after=last)] == [run.id for run in client.runs(after=as_run)] == [second.id]
    with pytest.raises(pgflow.RunNotFoundError, match=f"there is no run {first.id} to go on from"):
        client.runs(after=first.id)
    assert client.runs(after=second.id) == ()


def test_a_run_whose_time_python_has_not_can_be_gone_on_from(client: pgflow.PgflowClient, admin: Admin) -> None:
    endless, other = client.enqueue_many("echo", [1, 2])
    began(admin, endless, "infinity")
    (last,) = client.runs(limit=1)
    assert (last.id, last.started_at) == (endless.id, None)
    assert [run.id for run in client.runs(after=last)] == [other.id]


def test_runs_are_found_by_status_and_flow_and_age(client: pgflow.PgflowClient, admin: Admin) -> None:
    job = echo_job()
    now = SystemClock().now()
    ids = {
        (slug, status, hours): began(admin, client.enqueue(slug), now - timedelta(hours=hours), status)
        for slug in ("echo", "other")
        for status in ("started", "completed", "failed")
        for hours in (1, 30)
    }

    def found(**which: Any) -> set[UUID]:
        return {run.id for run in client.runs(**which)}

    assert found() == set(ids.values())
    for status in ("started", "completed", "failed"):
        assert found(status=status) == {run for key, run in ids.items() if key[1] == status}
    assert found(flow=job) == found(flow="echo") == {run for key, run in ids.items() if key[0] == "echo"}
    assert found(flow="nobody") == set()
    recent = {run for key, run in ids.items() if key[2] == 1}
    assert found(since=timedelta(days=1)) == recent
    assert found(since=now.astimezone(timezone(timedelta(hours=9))) - timedelta(days=1)) == recent
    local_mean = timezone(timedelta(hours=2, microseconds=500_000))  # no offset that PostgreSQL reads
    assert found(since=now.astimezone(local_mean) - timedelta(days=1)) == recent
    assert found(since=timedelta.max) == set(ids.values())
    assert found(since=timedelta(), flow="echo") == set()
    assert found(status="failed", flow=job, since=timedelta(days=1)) == {ids["echo", "failed", 1]}
    (page,) = client.runs(status="failed", flow=job, limit=1)
    assert [run.id for run in client.runs(status="failed", flow=job, after=page)] == [ids["echo", "failed", 30]]
    assert (page.flow_slug, page.status, page.ended_at) == ("echo", "failed", page.started_at)
    assert [(s.slug, s.status, s.tasks, s.remaining) for s in page.steps] == [("echo", "started", 1, 1)]


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"status": "done"}, "status must be one of started, completed, failed, got 'done'"),
        ({"since": datetime(2024, 5, 6)}, "since must be a datetime with a time zone"),  # noqa: DTZ001 - on purpose
        ({"since": timedelta(seconds=-1)}, "or a timedelta that is not negative"),
        ({"since": 3600}, "since must be"),
        ({"since": datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))}, "since must be .* years 1 to 9999"),
        ({"limit": 0}, "limit must be an int from 1 to 10,000, got 0"),
        ({"limit": 10_001}, "limit must be"),
        ({"limit": 1.5}, "limit must be"),
        ({"after": "seven"}, "must be a UUID, got 'seven'"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused_before_the_database_is(asked: dict[str, Any], problem: str) -> None:
    with pgflow.PgflowClient("host=127.0.0.1 port=1") as client, pytest.raises(ValueError, match=problem):
        client.runs(**asked)


def test_an_id_of_nobody_is_not_gone_on_from(client: pgflow.PgflowClient) -> None:
    client.enqueue("echo")
    with pytest.raises(pgflow.RunNotFoundError):
        client.runs(after=uuid4())
