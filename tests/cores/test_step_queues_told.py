"""Flows of which each step has a queue: what is wrong with one of these is told, with what mends it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter.core.trouble import Trouble, TroubleKind, TroubleScope
from pgflow_starter.postgres.setup.grants import grants
from tests.cores.by_steps import QUEUES, SLUG, shop, waiting
from tests.cores.stand_in import Admin, attempts, claim_and_die, new_role
from tests.support.commands import call
from tests.support.starters import STRATEGIES, await_state, running
from tests.support.waiting import eventually

WAIT = 20.0
LINES, PRICE, TOTAL = QUEUES


def _trouble(starter: pgflow.Starter, kind: TroubleKind) -> Trouble:
    """That of its only worker, once it has some of the kind."""

    def found() -> list[Trouble]:
        (worker,) = starter.workers()
        return [] if worker.trouble is None or worker.trouble.kind is not kind else [worker.trouble]

    return eventually(found, WAIT)[0]


def _troubles(starter: pgflow.Starter) -> list[Trouble]:
    """The gravest of each of its workers."""
    return [worker.trouble for worker in starter.workers() if worker.trouble is not None]


def _begun(client: pgflow.PgflowClient, by_steps: Admin, flow: pgflow.Flow) -> list[pgflow.Run]:
    """Two runs, the one at its second step; all tasks are queued."""
    runs = [client.start_flow(flow, [2, 3]) for _ in range(2)]
    claim_and_die(by_steps, SLUG, "lines")
    by_steps.execute("select pgflow.complete_task(%s, 'lines', 0, '[2, 3]')", (runs[0].id,))
    by_steps.execute("update pgflow.step_tasks set status = 'queued', started_at = null where status = 'started'")
    return runs


def _is_over(starter: pgflow.Starter) -> None:
    eventually(lambda: [w.trouble for w in starter.workers()] == [None], WAIT)


def test_messages_that_are_gone_from_one_are_told_with_the_statement_that_sends_them_anew(
    queues_database: str, by_steps: Admin
) -> None:
    flow = shop().flow
    with pgflow.PgflowClient(queues_database) as client:
        runs = _begun(client, by_steps, flow)
        by_steps.execute(f"update pgmq.q_{LINES} set vt = clock_timestamp() + interval '1 hour'".encode())
        by_steps.execute(f"delete from pgmq.q_{PRICE}".encode())
        with running(queues_database, flows=[flow]) as starter:
            starter.await_ready(WAIT)
            found = _trouble(starter, TroubleKind.MESSAGES_LOST)
            assert f"2 of 3 queued tasks have no message in pgmq.q_{PRICE}" in found.reason
            by_steps.execute(found.reason.partition("sent anew by: ")[2].encode())
            assert waiting(by_steps)[0] == 1  # the message of the other run's first step is the only one still
            by_steps.execute(f"update pgmq.q_{LINES} set vt = clock_timestamp()".encode())
            assert [run.wait(WAIT).result for run in runs] == [10, 10]
            _is_over(starter)


def test_messages_that_are_gone_from_two_are_told_one_queue_after_the_other(
    queues_database: str, by_steps: Admin
) -> None:
    flow = shop().flow
    with pgflow.PgflowClient(queues_database) as client:
        runs = _begun(client, by_steps, flow)
        for queue in (LINES, PRICE):
            by_steps.execute(f"delete from pgmq.q_{queue}".encode())
        with running(queues_database, flows=[flow]) as starter:
            starter.await_ready(WAIT)
            found = _trouble(starter, TroubleKind.MESSAGES_LOST)
            assert f"3 of 3 queued tasks have no message in pgmq.q_{LINES}" in found.reason
            by_steps.execute(found.reason.partition("sent anew by: ")[2].encode())
            assert runs[1].wait(WAIT).result == 10
            eventually(lambda: PRICE in _trouble(starter, TroubleKind.MESSAGES_LOST).reason, WAIT)
            found = _trouble(starter, TroubleKind.MESSAGES_LOST)
            by_steps.execute(found.reason.partition("sent anew by: ")[2].encode())
            assert runs[0].wait(WAIT).result == 10
            _is_over(starter)


def test_messages_of_nobody_in_one_are_told_and_put_aside(queues_database: str, by_steps: Admin) -> None:
    with running(queues_database, flows=[shop().flow]) as starter:
        starter.await_ready(WAIT)
        by_steps.execute("select pgmq.send(%s, '{\"foreign\": true}')", (PRICE,))
        found = _trouble(starter, TroubleKind.UNSTARTED)
        assert f"messages in pgmq.q_{PRICE} belong to no task" in found.reason
        assert starter.client.start_flow(shop().flow, [2]).wait(WAIT).result == 4  # with a message of the same id
        by_steps.execute("select pgmq.purge_queue(%s)", (PRICE,))
        _is_over(starter)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_that_is_gone_is_told_with_the_statement_that_mends_it_while_the_others_go_on(
    queues_database: str, by_steps: Admin, strategy: str
) -> None:
    flow, calls = shop()
    with running(queues_database, flows=[flow], signal_strategy=strategy) as starter:
        starter.await_ready(WAIT)
        by_steps.execute("select pgmq.drop_queue(%s)", (TOTAL,))
        runs = [starter.client.start_flow(flow, [n]) for n in (2, 3)]
        eventually(lambda: calls["price"] == 2)
        found = eventually(lambda: [t for t in _troubles(starter) if f"{TOTAL} is gone" in t.reason], WAIT)[0]
        assert found.kind in (TroubleKind.CLAIMS_REFUSED, TroubleKind.OUTCOMES_REFUSED)
        eventually(lambda: {t.scope for t in _troubles(starter)} == {TroubleScope.SOME}, WAIT)
        with running(queues_database, flows=[flow]) as late:
            ended = await_state(late, flow, lambda s: s.status is pgflow.ModuleStatus.FAILED_PERMANENT)
        assert ended.last_error is not None
        mending = ended.last_error.reason.partition("anew, empty: ")[2]
        assert found.reason.endswith(mending)
        assert starter.ready()
        by_steps.execute(mending.encode())
        assert [run.wait(WAIT).result for run in runs] == [4, 6]
        _is_over(starter)


def test_while_all_are_gone_the_module_is_wired_no_more(queues_database: str, by_steps: Admin) -> None:
    flow = shop().flow
    with running(queues_database, flows=[flow]) as starter:
        starter.await_ready(WAIT)
        by_steps.execute("select pgmq.drop_queue(queue_name) from pgmq.meta")
        ended = await_state(starter, flow, lambda s: s.last_error is not None and "is gone" in s.last_error.reason)
        assert ended.status is pgflow.ModuleStatus.RETRYING
        assert ended.last_error is not None
        by_steps.execute(ended.last_error.reason.partition("anew, empty: ")[2].encode())
        starter.await_ready(WAIT)
        assert starter.client.start_flow(flow, [2]).wait(WAIT).result == 4


def test_one_that_is_locked_is_told_and_passed_over(queues_database: str, by_steps: Admin) -> None:
    flow = shop().flow
    with (
        pgflow.PgflowClient(queues_database) as client,
        psycopg.connect(queues_database) as holder,
    ):
        runs = _begun(client, by_steps, flow)
        by_steps.execute(f"update pgmq.q_{LINES} set vt = clock_timestamp()".encode())
        holder.execute(f"lock table pgmq.q_{LINES} in access exclusive mode".encode())
        with running(queues_database, flows=[flow], max_concurrency=1, batch_size=1) as starter:
            assert runs[0].wait(WAIT).result == 10
            found = _trouble(starter, TroubleKind.CLAIMS_REFUSED)
            assert (found.scope, found.error_type) == (TroubleScope.SOME, "55P03")
            assert f"tasks of step 'lines' cannot be claimed: pgmq.q_{LINES} is locked" in found.reason
            assert starter.ready()
            holder.rollback()
            assert runs[1].wait(WAIT).result == 10
            _is_over(starter)


def test_while_all_are_locked_nothing_is_claimed(queues_database: str, by_steps: Admin) -> None:
    flow = shop().flow
    with running(queues_database, flows=[flow]) as starter, psycopg.connect(queues_database) as holder:
        starter.await_ready(WAIT)
        holder.execute(f"lock table {', '.join(f'pgmq.q_{queue}' for queue in QUEUES)}".encode())
        eventually(lambda: _trouble(starter, TroubleKind.CLAIMS_REFUSED).scope is TroubleScope.ALL, WAIT)
        holder.rollback()
        assert starter.client.start_flow(flow, [2]).wait(WAIT).result == 4
        _is_over(starter)


def test_the_trigger_of_one_is_made_anew(queues_database: str, by_steps: Admin) -> None:
    trigger = f"from pg_trigger where tgrelid = 'pgmq.q_{PRICE}'::regclass"
    with running(
        queues_database, flows=[shop().flow], signal_strategy="notify", notify_fallback_interval=0.1
    ) as starter:
        starter.await_ready(WAIT)
        by_steps.execute("select pgmq.disable_notify_insert(%s)", (PRICE,))
        eventually(lambda: by_steps.execute(f"select {trigger}".encode()).fetchone() is not None, WAIT)
        _is_over(starter)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_least_rights_are_enough(queues_database: str, by_steps: Admin, strategy: str) -> None:
    flow, calls = shop()
    with new_role(by_steps) as role:
        script = grants(queues_database, role, apply=True)
        assert all(f"pgmq.q_{queue}" in script for queue in QUEUES)
        worker = make_conninfo(queues_database, user=role)
        with running(worker, flows=[flow], signal_strategy=strategy) as starter:
            starter.await_ready(WAIT)
            assert starter.client.start_flow(flow, [1, 2]).wait(WAIT).result == 6
            assert [w.trouble for w in starter.workers()] == [None]
        assert call("db", "check", "--dsn", worker).exit_code == 0
        by_steps.execute(f"revoke update on pgmq.q_{PRICE} from {role}".encode())
        assert f"GRANT UPDATE ON TABLE pgmq.q_{PRICE} TO {role}" in call("db", "check", "--dsn", worker).output
        with running(worker, flows=[flow], signal_strategy=strategy) as starter:
            ended = await_state(starter, flow, lambda s: s.status is pgflow.ModuleStatus.FAILED_PERMANENT)
            assert ended.last_error is not None
            mending = ended.last_error.reason.partition(f"pgmq.q_{PRICE}: ")[2].partition(" (all that")[0]
            by_steps.execute(mending.encode())
            starter.retry_now(flow)
            starter.await_ready(WAIT)
            assert starter.client.start_flow(flow, [1, 2]).wait(WAIT).result == 6
    assert calls["total"] == 2


@pytest.mark.parametrize("many", [False, True])
def test_a_trace_goes_on_through_all_steps(queues_database: str, by_steps: Admin, many: bool) -> None:
    flow, provider = shop().flow, TracerProvider()
    with running(queues_database, flows=[flow], tracer_provider=provider) as starter:
        with provider.get_tracer("test").start_as_current_span("request") as request:
            inputs: list[Any] = [[1], [2]] if many else [[1]]
            runs = starter.client.start_flows(flow, inputs) if many else [starter.client.start_flow(flow, inputs[0])]
        assert [run.wait(WAIT).status for run in runs] == ["completed"] * len(inputs)
        trace = format(request.get_span_context().trace_id, "032x")
        sent = "select coalesce(headers ->> 'traceparent', '') from pgmq.a_"
        carried = by_steps.execute(f"{sent}{LINES} union all {sent}{PRICE} union all {sent}{TOTAL}".encode()).fetchall()
    assert [trace in str(row[0]) for row in carried] == [True] * 3 * len(inputs)
    assert all(attempts(by_steps, run.id)[0] == 1 for run in runs)


def test_a_queue_of_the_flows_name_is_another_s_and_gets_no_trace(queues_database: str, by_steps: Admin) -> None:
    by_steps.execute("select pgmq.create(%s)", (SLUG,))
    by_steps.execute("select pgmq.send(%s, '1') from generate_series(1, 5)", (SLUG,))
    provider = TracerProvider()
    with pgflow.PgflowClient(queues_database, tracer_provider=provider) as client:
        client.start_flow(shop().flow, [1])
    other, ours = (f"select distinct headers ? 'traceparent' from pgmq.q_{queue}" for queue in (SLUG, LINES))
    assert by_steps.execute(other.encode()).fetchall() == [(None,)]
    assert by_steps.execute(ours.encode()).fetchall() == [(True,)]
