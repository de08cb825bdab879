"""A run that cannot be cancelled: it says why, and nothing was done."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter.postgres.client import cancelling
from pgflow_starter.postgres.setup.grants import grants
from pgflow_starter.postgres.stores.failed_runs import fail_run
from tests.postgres.rights_rig import QUOTED, WORKER, Admin
from tests.support.starters import echo_job


def test_there_is_no_such_run_or_the_reason_is_no_text(database: str) -> None:
    with pgflow.PgflowClient(database) as client:
        with pytest.raises(pgflow.RunNotFoundError, match="there is no run 0"):
            client.cancel("00000000-0000-0000-0000-000000000000")
        with pytest.raises(ValueError, match="reason must be text, got int"):
            client.cancel(uuid4(), 7)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="run_id must be a UUID"):
            client.cancel("the first")


def test_a_run_in_the_place_of_its_id_is_not_shown(database: str) -> None:
    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(echo_job(), "hunter2")
        for call in (client.run, client.cancel, client.rerun, client.delete):
            with pytest.raises(ValueError, match=r"^run_id must be a UUID, got a Run$"):
                call(run)  # type: ignore[arg-type]


@pytest.mark.parametrize("locked", ["select from pgflow.runs for update", "select from pgmq.q_echo for update"])
def test_what_somebody_has_locked_is_told_in_time_and_left_as_it_is(database: str, admin: Admin, locked: str) -> None:
    soon = make_conninfo(database, tcp_user_timeout=3000)
    with pgflow.PgflowClient(database) as client, psycopg.connect(database) as holder:
        run = client.enqueue(echo_job())
        holder.execute(locked.encode())
        with (
            pgflow.PgflowClient(soon) as impatient,
            pytest.raises(pgflow.DatabaseError, match=r"somebody holds a lock on it .* nothing was done"),
        ):
            impatient.cancel(run.id)
        assert run.refresh().status == "started"
        assert admin.execute("select status, attempts_count from pgflow.step_tasks").fetchall() == [("queued", 0)]
        holder.rollback()
        assert client.cancel(run.id).status == "failed"


@pytest.mark.parametrize(
    ("privilege", "target"), [("UPDATE", "TABLE pgflow.step_tasks"), ("DELETE", "TABLE pgmq.q_echo")], ids=" ".join
)
def test_a_right_that_is_missing_is_named_with_the_grant(
    database: str, worker: str, admin: Admin, privilege: str, target: str
) -> None:
    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(echo_job())
    grants(database, WORKER, apply=True)
    admin.execute(f"revoke {privilege} on {target} from {QUOTED}".encode())
    with pgflow.PgflowClient(worker) as client:
        with pytest.raises(pgflow.MissingRightsError, match=f"GRANT {privilege} ON {target} TO"):
            client.cancel(run.id)
        assert run.id == client.run(run.id).id
        assert client.run(run.id).status == "started"
        admin.execute(f"grant {privilege} on {target} to {QUOTED}".encode())
        assert client.cancel(run.id).status == "failed"


def test_a_row_that_does_not_change_is_told(database: str, admin: Admin) -> None:
    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(echo_job())
        admin.execute("create function ignore() returns trigger language plpgsql as 'begin return null; end'")
        admin.execute("create trigger ignore before update on pgflow.runs for each row execute function ignore()")
        with pytest.raises(pgflow.PgflowError, match=r"run .* does not change: see .* triggers of pgflow\.runs"):
            client.cancel(run.id)
        admin.execute("drop trigger ignore on pgflow.runs")
        assert [step.status for step in run.steps()] == ["started"]


def test_a_task_that_began_after_the_transaction_takes_another_one(
    database: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[bool] = []

    def fail(conn: psycopg.Connection[tuple[object, ...]], *given: object) -> None:
        if not tries:
            tries.append(True)
            # As a claim does, which locks no run; of a clock that has gone on since this transaction began.
            conn.execute("select now()")
            admin.execute("update pgflow.step_tasks set status = 'started', started_at = clock_timestamp()")
        fail_run(conn, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(cancelling, "fail_run", fail)
    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(echo_job())
        assert client.cancel(run.id).status == "failed"
