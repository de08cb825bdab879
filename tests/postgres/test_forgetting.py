"""Finished runs that are deleted: one of them, and all that are old, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.errors import DatabaseError, MissingRightsError, PgflowError, RunNotFoundError
from pgflow_starter.ports import Pruning
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.removals import prune_runs
from pgflow_starter.postgres.connections.connection import Session
from pgflow_starter.postgres.setup.grants import grants
from pgflow_starter.postgres.stores import forgetting
from pgflow_starter.postgres.stores.forgetting import pruning
from pgflow_starter.postgres.stores.worker_rows import MARK
from tests.postgres.rights_rig import WORKER, Admin, compiled
from tests.support.database import opened
from tests.support.old_runs import left, make_runs
from tests.support.starters import echo_job

MONTH = timedelta(days=30)


@pytest.fixture
def client(database: str, admin: Admin) -> Iterator[pgflow.PgflowClient]:
    """Of a database with a job, and another whose slug begins as its does."""
    compiled(admin, echo_job(), echo_job("echo_2"))
    with pgflow.PgflowClient(database) as client:
        yield client


def swept(steps: Pruning) -> tuple[int, int | None]:
    """How many were deleted in all, and what it said at the end."""
    deleted = 0
    while True:
        try:
            deleted += next(steps)
        except StopIteration as end:
            return deleted, end.value


def archived(admin: Admin, slug: str = "echo") -> int:
    row: Any = admin.execute(f"select count(*) from pgmq.a_{slug}".encode()).fetchone()
    return int(row[0])


def test_a_batch_more_than_one_transaction_takes_goes_in_two(
    database: str, client: pgflow.PgflowClient, admin: Admin
) -> None:
    make_runs(admin, 501)
    make_runs(admin, 3, slug="echo_2", days=29)
    with opened(database) as store:
        assert [count for count in pruning(store, pgflow.Retention(MONTH, MONTH)) if count] == [500, 1]
    assert left(admin, "pgmq.a_echo", "pgmq.a_echo_2") == {
        "pgflow.runs": 3, "pgflow.step_states": 3, "pgflow.step_tasks": 3, "pgmq.a_echo": 0, "pgmq.a_echo_2": 3
    }  # fmt: skip


def test_runs_of_many_tasks_go_in_transactions_of_their_own(
    database: str, client: pgflow.PgflowClient, admin: Admin
) -> None:
    make_runs(admin, 4)
    admin.execute("update pgflow.step_states set initial_tasks = 2500")
    with opened(database) as store:
        assert [count for count in pruning(store, pgflow.Retention(MONTH, MONTH)) if count] == [2, 2]


def test_completed_and_failed_runs_are_kept_each_for_its_time(client: pgflow.PgflowClient, admin: Admin) -> None:
    make_runs(admin, 1, days=40)
    failed = make_runs(admin, 1, days=40, status="failed")
    make_runs(admin, 1, days=20)
    assert client.prune(pgflow.Retention(None, timedelta(days=50))) == 0
    assert client.prune(pgflow.Retention()) == 1
    assert client.run(failed[0]).status == "failed"
    assert client.prune(timedelta(days=39)) == 1
    assert client.prune(timedelta(0), limit=5) == 1
    assert left(admin)["pgflow.runs"] == archived(admin) == 0


def test_no_more_than_the_limit_are_deleted_from_however_many_pages(
    client: pgflow.PgflowClient, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "PAGES", 1)
    make_runs(admin, 300)
    assert [client.prune(MONTH, limit=140) for _ in range(4)] == [140, 140, 20, 0]
    for limit in (0, True, 1.5):
        with pytest.raises(ValueError, match="limit must be an int from 1"):
            client.prune(MONTH, limit=limit)  # type: ignore[arg-type]


def test_a_run_that_is_not_finished_is_never_touched(client: pgflow.PgflowClient, admin: Admin) -> None:
    run = client.enqueue("echo", 1)
    admin.execute("update pgflow.runs set started_at = now() - interval '9 years'")
    assert client.prune(timedelta(0)) == 0
    with pytest.raises(PgflowError, match=f"run {run.id} is not finished, but started: .* cancel it first"):
        client.delete(run.id)
    assert left(admin, "pgmq.q_echo") == dict.fromkeys(left(admin, "pgmq.q_echo"), 1)


def test_one_run_is_deleted_with_all_that_is_its_and_is_not_there_then(
    client: pgflow.PgflowClient, admin: Admin
) -> None:
    first, second = make_runs(admin, 2, days=0.1)
    assert client.delete(str(first)) is None  # type: ignore[func-returns-value]
    assert left(admin, "pgmq.a_echo") == dict.fromkeys(left(admin, "pgmq.a_echo"), 1)
    assert client.run(second).finished
    for gone in (first, uuid4()):
        with pytest.raises(RunNotFoundError, match=f"there is no run {gone}"):
            client.delete(gone)
    with pytest.raises(ValueError, match="must be a UUID"):
        client.delete("first")


def test_what_is_left_in_the_queue_goes_as_well_and_a_message_of_the_same_number_stays(
    client: pgflow.PgflowClient, admin: Admin
) -> None:
    waits, _ = make_runs(admin, 2)
    admin.execute(
        "with moved as (delete from pgmq.a_echo where message ->> 'run_id' = %s returning *)"
        " insert into pgmq.q_echo (msg_id, vt, message) overriding system value select msg_id, vt, message from moved",
        (str(waits),),
    )
    # The other's number is another run's by now: its queue was dropped, and made anew.
    admin.execute("update pgmq.a_echo set message = message || jsonb_build_object('run_id', gen_random_uuid())")
    assert client.prune(MONTH) == 2
    assert (left(admin, "pgmq.q_echo")["pgmq.q_echo"], archived(admin)) == (0, 1)


def test_a_queue_or_an_archive_that_is_gone_keeps_no_run(client: pgflow.PgflowClient, admin: Admin) -> None:
    run, *_ = make_runs(admin, 2)
    admin.execute("drop table pgmq.a_echo; drop table pgmq.q_echo")
    client.delete(run)
    assert client.prune(MONTH) == 1


def test_what_somebody_has_locked_is_left_and_goes_the_next_time(
    database: str, client: pgflow.PgflowClient, admin: Admin
) -> None:
    locked, of_message, *_ = make_runs(admin, 5)
    with psycopg.connect(database) as other, opened(database) as store:
        other.execute("select from pgflow.runs where run_id = %s for update", (locked,))
        other.execute("select from pgmq.a_echo where message ->> 'run_id' = %s for update", (str(of_message),))
        assert swept(pruning(store, pgflow.Retention())) == (3, 2)
        other.rollback()
        assert client.prune(MONTH) == 2


def test_a_table_that_somebody_has_locked_holds_nobody_up_for_each_run(
    database: str, client: pgflow.PgflowClient, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, transaction = list[Session](), Session.transaction

    def counted(conn: Session) -> Any:
        tried.append(conn)
        return transaction(conn)

    monkeypatch.setattr(forgetting, "LOCKED_RUNS", 2)
    make_runs(admin, 20)
    with psycopg.connect(database) as other, opened(database) as store:
        other.execute("lock table pgmq.a_echo in access exclusive mode")
        monkeypatch.setattr(Session, "transaction", counted)
        assert swept(pruning(store, pgflow.Retention())) == (0, 20)
    assert len(tried) == 3
    assert client.prune(MONTH) == 20


def test_an_error_on_the_way_tells_how_many_were_deleted_before(
    database: str, client: pgflow.PgflowClient, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "PAGES", 1)
    make_runs(admin, 501)
    with psycopg.connect(database) as holder, opened(database) as store:

        def told(count: int) -> None:
            holder.execute("lock table pgflow.runs")

        with pytest.raises(DatabaseError, match=r"lock timeout; [1-9]\d* runs were deleted before$"):
            prune_runs(Calls(store), pgflow.Retention(MONTH, MONTH), told=told)


def test_only_one_prunes_at_a_time(database: str, client: pgflow.PgflowClient, admin: Admin) -> None:
    make_runs(admin, 501)
    with opened(database) as store:
        first = pruning(store, pgflow.Retention())
        assert next(first) == 500
        assert client.prune(MONTH) == 0
        first.close()
        assert client.prune(MONTH) == 1


def test_a_run_that_somebodys_row_refers_to_is_left_and_told_once_all_else_is_done(
    client: pgflow.PgflowClient, admin: Admin
) -> None:
    kept, *_ = make_runs(admin, 5)
    admin.execute("create table orders (run_id uuid references pgflow.runs)")
    admin.execute("insert into orders values (%s)", (kept,))
    with pytest.raises(DatabaseError, match=r'finished runs are left, for rows refer to them: .*"orders"') as raised:
        client.prune(MONTH)
    assert raised.value.sqlstate == "23503"
    assert left(admin, "pgmq.a_echo") == dict.fromkeys(left(admin, "pgmq.a_echo"), 1)
    with pytest.raises(DatabaseError, match='"orders"'):
        client.delete(kept)


def test_rows_of_workers_go_when_they_were_long_silent_and_hold_no_task(
    client: pgflow.PgflowClient, admin: Admin
) -> None:
    holding, gone, young, silent = (uuid4() for _ in range(4))
    for worker, days in ((holding, 200), (gone, 200), (young, 80), (silent, 0.5)):
        admin.execute(
            "insert into pgflow.workers (worker_id, queue_name, function_name, last_heartbeat_at)"
            " values (%s, 'echo', %s, now() - %s::float8 * interval '1 day')",
            (worker, f"{MARK}echo", days),
        )
    admin.execute("update pgflow.step_tasks set last_worker_id = %s", (gone,))
    client.enqueue("echo", 1)
    admin.execute(
        "update pgflow.step_tasks set status = 'started', started_at = now(), last_worker_id = %s", (holding,)
    )

    def workers() -> set[object]:
        return {row[0] for row in admin.execute("select worker_id from pgflow.workers").fetchall()}

    client.prune(pgflow.Retention(completed=None))
    assert workers() == {holding, gone, young, silent}
    client.prune(pgflow.Retention())
    assert workers() == {holding, young, silent}
    client.prune(timedelta(0))
    assert workers() == {holding, silent}  # half a day of silence is no death


def test_who_may_not_is_told_the_grant_and_may_with_it(
    database: str, client: pgflow.PgflowClient, worker: str, admin: Admin
) -> None:
    run, *_ = make_runs(admin, 3)
    grants(database, WORKER, apply=True)
    with pgflow.PgflowClient(worker) as least:
        for refused in (lambda: least.prune(MONTH), lambda: least.delete(run)):
            with pytest.raises(MissingRightsError, match=r"no DELETE on table .*db grant .*worker.* --prune\)$"):
                refused()
        assert left(admin)["pgflow.runs"] == 3
        assert "Deleting finished runs" in grants(database, WORKER, apply=True, prune=True)
        least.delete(run)
        assert least.prune(MONTH) == 2


def test_what_row_level_security_hides_is_no_success(
    database: str, client: pgflow.PgflowClient, worker: str, admin: Admin
) -> None:
    make_runs(admin, 1)
    grants(database, WORKER, apply=True, work_only=True, prune=True)
    admin.execute("alter table pgflow.step_states enable row level security")
    with (
        pgflow.PgflowClient(worker) as least,
        pytest.raises(MissingRightsError, match=r"row level security of pgflow\.s"),
    ):
        least.prune(MONTH)
