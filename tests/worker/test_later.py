"""Runs that are started now and begin later."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider

import pgflow_starter as pgflow
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane
from pgflow_starter.postgres.stores.flows import compile_flow
from pgflow_starter.worker.claim_troubles import ClaimTroubles
from tests.support.starters import STRATEGIES, echo_job, running

WAIT = 30.0
HOUR = 3600.0
NEXT_CENTURY = datetime(2126, 1, 1, tzinfo=UTC)
# Nothing is found in these tests unless a worker is told of it, or knows when it is due.
SELDOM: dict[str, Any] = {
    "min_poll_interval": 300.0,
    "max_poll_interval": 300.0,
    "notify_fallback_interval": 600.0,
    "notify_throttle": 0.0,  # nor polls, for that, once more behind each notification
}

Admin = psycopg.Connection[Any]


@pytest.fixture
def admin(database: str) -> Iterator[Admin]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture(params=["fast lane", "core"])
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By which way runs are started."""
    if request.param == "core":
        monkeypatch.setattr(FastLane, "core", lambda self, conn: None)


@pytest.fixture(params=["traced", "untraced"])
def client(request: pytest.FixtureRequest, database: str, lane: None) -> Iterator[pgflow.PgflowClient]:
    provider = TracerProvider() if request.param == "traced" else None
    with pgflow.PgflowClient(database, tracer_provider=provider) as made:
        yield made


def compiled(admin: Admin, module: Any) -> Any:
    compile_flow(admin, module.__pgflow_definition__())
    return module


def order() -> pgflow.Flow:
    """Two steps that begin at once, one of them two hours late, and one behind them."""
    flow = pgflow.Flow("order")
    flow.step(slug="pay")(lambda given, ctx: given)
    flow.step(slug="remind", start_delay=7200)(lambda given, ctx: given)
    flow.step(slug="ship", depends_on=["pay", "remind"])(lambda given, ctx: given)
    return flow


def hidden(admin: Admin, run: pgflow.Run) -> list[float]:
    """For how many seconds the run's messages are."""
    rows = admin.execute(
        "select extract(epoch from q.vt - clock_timestamp())::float8 from pgmq.q_order q"
        " where q.message ->> 'run_id' = %s order by q.vt",
        (str(run.id),),
    ).fetchall()
    return [row[0] for row in rows]


def about(*seconds: float) -> Any:
    """So many, less what the test has taken since."""
    return pytest.approx([s - 50 for s in seconds], abs=50)


def test_its_first_messages_are_hidden_until_then_or_for_as_long_as_their_steps_are(
    client: pgflow.PgflowClient, admin: Admin, database: str
) -> None:
    flow = compiled(admin, order())
    assert hidden(admin, client.start_flow(flow, 1)) == about(0, 2 * HOUR)
    assert hidden(admin, client.start_flow(flow, 1, delay=HOUR)) == about(HOUR, 2 * HOUR)
    far = (NEXT_CENTURY - client.start_flow(flow, 1).started_at).total_seconds()  # type: ignore[operator]
    assert hidden(admin, client.start_flow(flow, 1, at=NEXT_CENTURY)) == about(far, far)
    for run in client.start_flows(flow, [1, 2], delay=3 * HOUR):
        assert hidden(admin, run) == about(3 * HOUR, 3 * HOUR)
    with psycopg.connect(database) as connection:
        many = client.start_flows(flow, [1, 2], delay=3 * HOUR, connection=connection)
        one = client.start_flow(flow, 3, delay=HOUR, connection=connection)
    assert [hidden(admin, run) for run in many] == [about(3 * HOUR, 3 * HOUR)] * 2
    assert hidden(admin, one) == about(HOUR, 2 * HOUR)


def test_a_time_that_is_over_is_at_once(client: pgflow.PgflowClient, admin: Admin) -> None:
    run = client.start_flow(compiled(admin, order()), 1, at=datetime.min.replace(tzinfo=UTC))
    assert hidden(admin, run) == about(0, 2 * HOUR)


def test_a_run_that_is_there_is_not_moved(client: pgflow.PgflowClient, admin: Admin, database: str) -> None:
    flow = compiled(admin, order())
    run = client.start_flow(flow, 1, key="a", delay=HOUR)
    client.start_flow(flow, 1, key="a", delay=9 * HOUR)
    with psycopg.connect(database) as connection:
        for delay in (3 * HOUR, 9 * HOUR):  # both begin when this transaction did
            both = client.start_flows(flow, [1, 2], keys=["a", "b"], delay=delay, connection=connection)
    assert [hidden(admin, r) for r in (run, *both)] == [about(HOUR, 2 * HOUR)] * 2 + [about(3 * HOUR, 3 * HOUR)]


def test_each_task_of_a_map_is_hidden_and_one_over_nothing_is_done_at_once(
    client: pgflow.PgflowClient, admin: Admin
) -> None:
    flow = pgflow.Flow("order")
    flow.map(slug="each")(lambda given, ctx: given)
    compiled(admin, flow)
    some, none = client.start_flows(flow, [[1, 2, 3], []], delay=HOUR)
    assert hidden(admin, some) == about(HOUR, HOUR, HOUR)
    for run in (none, client.start_flow(flow, [], delay=HOUR)):
        assert (run.status, hidden(admin, run)) == ("completed", [])


def test_the_delay_counts_from_the_call_and_not_from_the_transactions_beginning(
    database: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = compiled(admin, order())
    with pgflow.PgflowClient(database) as client, psycopg.connect(database) as connection:
        connection.execute("select pg_sleep(0.3)")
        run = client.start_flow(flow, 1, delay=HOUR, connection=connection)
        row: Any = connection.execute(
            "select min(vt) >= now() + interval '3600.3 s' from pgmq.q_order where message ->> 'run_id' = %s",
            (str(run.id),),
        ).fetchone()
    assert row == (True,)


@pytest.fixture
def sender(database: str, admin: Admin) -> Iterator[str]:
    """The connection string of a role that starts runs, and may not change messages."""
    compiled(admin, order())
    role = f"sender_{uuid.uuid4().hex}"
    for statement in (
        "create role {} login",
        "grant usage on schema pgmq, pgflow, realtime to {}",
        "grant select, insert on all tables in schema pgmq to {}",
        "grant usage on all sequences in schema pgmq to {}",
        "grant all on all tables in schema pgflow to {}",
    ):
        admin.execute(statement.format(role).encode())
    yield f"{database} user={role}"
    admin.execute(f"drop owned by {role}; drop role {role}".encode())


HIDING = {
    "by its rights": "",
    "by row level security": """
        grant update on pgmq.q_order to public; alter table pgmq.q_order enable row level security;
        create policy r on pgmq.q_order for select using (true);
        create policy w on pgmq.q_order for insert with check (true)
    """,
    "by row level security on tasks": """
        grant update on pgmq.q_order to public; alter table pgflow.step_tasks enable row level security;
        create policy w on pgflow.step_tasks for insert with check (true)
    """,
}


@pytest.mark.parametrize("hiding", HIDING)
def test_a_role_that_may_not_change_messages_is_told_and_starts_nothing(
    sender: str, admin: Admin, hiding: str, lane: None
) -> None:
    admin.execute(HIDING[hiding].encode())
    words = "nothing was started: a run of flow 'order' is delayed by an update of its messages"
    with pgflow.PgflowClient(sender) as client, psycopg.connect(sender) as connection:
        with pytest.raises(pgflow.MissingRightsError, match=words):
            client.start_flow("order", 1, delay=HOUR)
        with pytest.raises(pgflow.MissingRightsError, match=words):
            client.start_flows("order", [1, 2], delay=HOUR)
        with pytest.raises(pgflow.MissingRightsError, match=words):
            client.start_flow("order", 1, delay=HOUR, connection=connection)
        client.start_flow("order", "at once", connection=connection)
        connection.commit()
    assert admin.execute("select input from pgflow.runs").fetchall() == [("at once",)]


def test_bad_values_are_refused_before_anything_is_asked() -> None:
    with pgflow.PgflowClient("host=127.0.0.1 port=1") as client:
        for call in (client.start_flow, client.enqueue, client.start_flows, client.enqueue_many):
            with pytest.raises(ValueError, match="delay must be a number of seconds"):
                call("order", [1], delay=-1)
            with pytest.raises(ValueError, match="at must be an aware datetime"):
                call("order", [1], at=NEXT_CENTURY.replace(tzinfo=None))
            with pytest.raises(ValueError, match="not both"):
                call("order", [1], delay=1, at=NEXT_CENTURY)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("fast_lane", ["auto", "off"])
def test_a_worker_that_polls_seldom_takes_them_when_they_are_due(
    database: str, strategy: str, fast_lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClaimTroubles, "heed", lambda self, evidence: False)  # no message is found to lie about
    jobs = [echo_job(f"echo_{n}") for n in range(3)]  # the others are idle
    with running(database, jobs=jobs, signal_strategy=strategy, fast_lane=fast_lane, **SELDOM) as starter:
        starter.await_ready(WAIT)
        client = starter.client
        later = [*client.enqueue_many(jobs[0], [1, 2], delay=1.5), client.enqueue(jobs[1], 3, delay=0.5)]
        assert client.enqueue(jobs[0], "now").wait(WAIT).result == "now"  # by a claim that took some, and not these
        for run in later:
            ended = run.wait(WAIT)
            assert ended.started_at is not None
            assert ended.ended_at is not None
            assert ended.ended_at - ended.started_at >= timedelta(seconds=1.5 if run.flow_slug == "echo_0" else 0.5)
