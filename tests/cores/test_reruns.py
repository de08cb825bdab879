"""A run is done again with what it was given, and linked to the one before, on every core."""

from __future__ import annotations

from typing import Any

import pytest

import pgflow_starter as pgflow
from tests.cores.by_steps import SLUG, STEPS, shop
from tests.cores.stand_in import Admin, new_role
from tests.support.starters import echo_job, running

WAIT = 20.0
EXACT = '{"amount": 12345678901234567890.123456789, "none": null, "small": 1e-30}'


def _headers(admin: Admin, queue: str) -> list[Any]:
    return [row[0] for row in admin.execute(f"select headers from pgmq.q_{queue} order by msg_id".encode())]


def test_a_run_is_done_again_with_the_very_input_that_is_stored(database: str, admin: Admin) -> None:
    with pgflow.PgflowClient(database) as client:
        old = client.enqueue(echo_job())
        admin.execute("update pgflow.runs set input = %s::jsonb", (EXACT,))
        client.cancel(old.id)
        new = client.rerun(str(old.id))
        assert (new.status, new.flow_slug, new.id != old.id) == ("started", "echo", True)
        assert admin.execute("select count(distinct input), count(*) from pgflow.runs").fetchone() == (1, 2)
    assert _headers(admin, "echo") == [{"pgflow_rerun_of": str(old.id)}]


def test_one_that_has_not_ended_is_not(database: str) -> None:
    with pgflow.PgflowClient(database) as client:
        old = client.enqueue(echo_job())
        with pytest.raises(pgflow.PgflowError, match="has not ended, it is started: wait for it, or cancel it, first"):
            client.rerun(old.id)


def test_the_messages_of_a_step_s_own_queue_are_linked_as_well(queues_database: str, by_steps: Admin) -> None:
    with pgflow.PgflowClient(queues_database) as client:
        old = client.start_flow(SLUG, [1])
        client.cancel(old.id)
        client.rerun(old.id)
        assert _headers(by_steps, f"{SLUG}__{STEPS[0]}") == [{"pgflow_rerun_of": str(old.id)}]
        with running(queues_database, flows=[shop().flow]):
            assert [run.result for run in (again.wait(WAIT) for again in client.rerun_all())] == [2]


def test_a_role_that_may_not_set_headers_does_it_without(database: str, admin: Admin) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client, running(database, jobs=[job]) as starter:
        old = client.enqueue(job, 7).wait(WAIT)
        with new_role(admin) as role:
            starter.client.start_flow(job, 8).wait(WAIT)
            admin.execute(f"grant usage on schema pgflow, pgmq, realtime to {role}".encode())
            admin.execute(f"grant select, insert, update on all tables in schema pgflow to {role}".encode())
            admin.execute(
                f"grant select on pgmq.meta to {role}; grant select, insert on pgmq.q_echo to {role}".encode()
            )
            with pgflow.PgflowClient(f"{database} user={role}") as least:
                assert least.rerun(old.id).wait(WAIT).result == 7


def test_all_that_a_filter_finds_are_done_again_in_batches_the_newest_first(
    database: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgflow_starter.postgres.client.reruns.BATCH", 2)
    with pgflow.PgflowClient(database) as client:
        old = [client.enqueue(job, n) for n, job in enumerate([echo_job("even"), echo_job("odd")] * 3)]
        for run in old[:5]:
            client.cancel(run.id)
        assert [run.input for run in client.rerun_all(limit=4)] == [4, 3, 2, 1]
        assert [run.input for run in client.rerun_all("even", since=old[2].started_at)] == [4, 2]
        assert client.rerun_all(status="completed") == []
        with pytest.raises(ValueError, match="status must be one of completed, failed, got 'started'"):
            client.rerun_all(status="started")  # type: ignore[arg-type]
        links = {header["pgflow_rerun_of"] for slug in ("even", "odd") for header in _headers(admin, slug) if header}
    assert links == {str(run.id) for run in old[1:5]}


def test_what_python_cannot_read_is_not_started_and_what_was_before_it_is_told(database: str, admin: Admin) -> None:
    with pgflow.PgflowClient(database) as client:
        old = [client.enqueue(job) for job in (echo_job("one"), echo_job("other"))]
        for run in old:
            client.cancel(run.id)
        admin.execute("update pgflow.runs set input = ('1' || repeat('0', 5000))::jsonb where flow_slug = 'one'")
        with pytest.raises(pgflow.PgflowError, match=f"the input of run {old[0].id} cannot be read"):
            client.rerun(old[0].id)
        with pytest.raises(pgflow.PgflowError, match="cannot be read") as caught:
            client.rerun_all()
        assert caught.value.__notes__[0].endswith("of 2 runs were started again before")
        assert client.runs(flow="one", status="started") == ()
