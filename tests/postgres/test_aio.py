"""`client.aio`: the client's calls for coroutines, on a real database."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.client.calls import AWAITED
from pgflow_starter.postgres.client.client import Client
from tests.support.starters import echo_job, running
from tests.support.threads import ours
from tests.support.waiting import eventually

WAIT = 30.0
NO_CALLS = {"on_database", "may_have_ended"}
"""Of a client: what a starter makes it with, and what its workers tell it."""


class _Hanging:
    """A job whose definition hangs until it is released."""

    def __init__(self, release: threading.Event) -> None:
        self._release = release

    def __pgflow_definition__(self) -> pgflow.FlowDefinition:
        self._release.wait()
        return echo_job().__pgflow_definition__()


@pytest.fixture
def client(database: str) -> Iterator[pgflow.PgflowClient]:
    with pgflow.PgflowClient(database) as opened:
        yield opened


def _public(kind: type[Any]) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}


def test_no_call_of_the_client_is_forgotten_and_each_takes_what_the_clients_own_does() -> None:
    calls, awaited = _public(Client), _public(pgflow.AioClient)
    assert set(calls) - NO_CALLS == set(awaited)
    assert all(inspect.iscoroutinefunction(call) for call in awaited.values())
    for name in awaited.keys() - {"wait"}:
        assert list(inspect.signature(awaited[name]).parameters) == list(inspect.signature(calls[name]).parameters)
        assert awaited[name].__doc__


def test_a_run_has_the_same_fields_and_calls() -> None:
    runs, awaited = _public(pgflow.Run), _public(pgflow.AioRun)
    assert set(runs) == set(awaited)
    for name in ("refresh", "steps", "wait"):
        assert inspect.iscoroutinefunction(awaited[name])
        assert str(inspect.signature(awaited[name])).replace("Aio", "") == str(inspect.signature(runs[name]))


def test_they_answer_what_the_clients_own_calls_do(database: str) -> None:
    job = echo_job()

    async def main(client: pgflow.PgflowClient) -> None:
        aio = client.aio
        run = await aio.enqueue(job, {"n": 1}, run_id=(chosen := uuid4()))
        assert (run.id, run.flow_slug, run.input, run.finished) == (chosen, "echo", {"n": 1}, False)
        done = await run.wait(WAIT)
        assert (done.status, done.result, await done.wait(0)) == ("completed", {"n": 1}, done)
        assert (await aio.run(chosen)).output == (await run.refresh()).output == {"echo": {"n": 1}}
        assert [step.output for step in await done.steps()] == [{"n": 1}]
        assert await aio.steps(str(chosen)) == client.steps(chosen)
        runs = [*await aio.start_flows(job, range(3)), await aio.start_flow("echo", 3)]
        runs += await aio.enqueue_many(job, [4, 5])
        assert [r.result for r in await asyncio.gather(*(r.wait(WAIT) for r in runs))] == list(range(6))
        again = await (await aio.rerun(chosen)).wait(WAIT)
        assert (again.result, again.raise_for_status()) == ({"n": 1}, again)
        (told,) = await aio.runs(limit=1, after=again)
        assert told.id == (await aio.run(told.id)).id != again.id
        assert await (await aio.details(again.id)).run.refresh() == again
        await aio.delete(again.id)
        assert [r.id for r in await aio.recent_runs(1)] == [r.id for r in client.recent_runs(1)]
        assert {f: getattr(done, f) for f in ("id", "input", "output", "started_at", "ended_at")} == {
            f: getattr(client.run(chosen), f) for f in ("id", "input", "output", "started_at", "ended_at")
        }

    with running(database, jobs=[job]) as starter:
        asyncio.run(main(starter.client))


def test_their_errors_are_those_of_the_clients_own_calls(client: pgflow.PgflowClient) -> None:
    async def main() -> None:
        aio, nobody = client.aio, uuid4()
        run = await aio.enqueue(echo_job("unserved"))
        with pytest.raises(pgflow.RunNotFoundError, match=f"there is no run {nobody}"):
            await aio.run(nobody)
        with pytest.raises(pgflow.UnknownFlowError, match="nowhere"):
            await aio.start_flow("nowhere")
        with pytest.raises(ValueError, match="input is a set, which is not JSON"):
            await aio.enqueue(echo_job(), {1})
        for timeout in (0, 0.1):
            with pytest.raises(
                TimeoutError, match=f"run {run.id} of flow 'unserved' is still started after {timeout} s"
            ):
                await run.wait(timeout)

    asyncio.run(main())


def test_one_that_was_deleted_meanwhile_is_told(client: pgflow.PgflowClient, database: str) -> None:
    async def main() -> None:
        run = await client.aio.enqueue(echo_job())
        waiting = asyncio.create_task(run.wait())
        await asyncio.sleep(0)
        with psycopg.connect(database) as admin:
            admin.execute("truncate pgflow.runs cascade")
        with pytest.raises(pgflow.RunNotFoundError, match=f"run {run.id} of flow 'echo' was deleted"):
            await waiting

    asyncio.run(main())


def test_a_thousand_wait_at_once_on_few_threads(database: str, client: pgflow.PgflowClient) -> None:
    job = echo_job()

    async def main() -> None:
        before = ours()
        runs = await client.aio.enqueue_many(job, range(1000))
        waiting = [asyncio.create_task(run.wait(4 * WAIT)) for run in runs]
        await asyncio.sleep(0)  # all of them wait
        assert len(ours() - before) < 30
        with running(database, jobs=[job], max_concurrency=100, batch_size=100):
            done = await asyncio.gather(*waiting)
        assert [run.result for run in done] == list(range(1000))

    asyncio.run(main())


def test_several_loops_use_one_client(database: str) -> None:
    job, answers = echo_job(), list[Any]()

    async def main(n: int, client: pgflow.PgflowClient) -> None:
        runs = await asyncio.gather(*(client.aio.enqueue(job, [n, i]) for i in range(5)))
        answers.append([(await run.wait(WAIT)).result for run in runs])

    with running(database, jobs=[job]) as starter:
        threads = [threading.Thread(target=lambda n=n: asyncio.run(main(n, starter.client))) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        asyncio.run(main(3, starter.client))
    assert sorted(answers) == [[[n, i] for i in range(5)] for n in range(4)]


def test_a_call_that_is_cancelled_is_done_as_a_whole_or_never(client: pgflow.PgflowClient, database: str) -> None:
    job = echo_job()
    ids = [UUID(int=n) for n in range(1, 21)]

    async def main() -> None:
        await client.aio.enqueue(job)
        with psycopg.connect(database) as holder, psycopg.connect(database, autocommit=True) as admin:
            holder.execute("lock table pgflow.runs")
            tasks = [asyncio.create_task(client.aio.enqueue(job, run_id=run_id)) for run_id in ids]
            waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            await asyncio.to_thread(eventually, lambda: admin.execute(waits).fetchone() != (0,))
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in done] == [asyncio.CancelledError] * len(ids)

    asyncio.run(main())
    with psycopg.connect(database, autocommit=True) as admin:

        def left() -> tuple[Any, ...] | None:
            client.run(client.enqueue(job, run_id=UUID(int=99)).id)
            return admin.execute(
                "select count(*) > 1 and count(*) < 20,"
                " count(*) = (select count(*) from pgmq.q_echo), count(*) = (select count(*) from pgflow.step_tasks)"
                " from pgflow.runs"
            ).fetchone()

        eventually(lambda: left() == (True, True, True))


def test_who_waits_for_so_long_is_told_so_while_other_calls_have_all_the_threads(
    database: str, release: threading.Event
) -> None:
    async def main(client: pgflow.PgflowClient) -> None:
        run = await client.aio.enqueue(echo_job())
        await run.wait(WAIT)
        hanging = [asyncio.create_task(client.aio.enqueue(_Hanging(release))) for _ in range(AWAITED)]
        with pytest.raises(TimeoutError, match="is completed, but cannot be read in time"):
            await asyncio.wait_for(run.wait(0.1), WAIT)
        release.set()
        assert (await run.wait(WAIT)).status == "completed"
        await asyncio.gather(*hanging)

    with running(database, jobs=[echo_job()]) as starter:
        asyncio.run(main(starter.client))


def test_a_callers_own_transaction_takes_it_along_and_asyncios_connection_is_refused(
    client: pgflow.PgflowClient, database: str
) -> None:
    async def main() -> None:
        client.enqueue(echo_job())
        with psycopg.connect(database) as own:
            undone = await client.aio.enqueue(echo_job(), connection=own)
            own.rollback()
            kept = await client.aio.enqueue(echo_job(), connection=own)
            own.commit()
        assert (await kept.refresh()).id == kept.id
        with pytest.raises(pgflow.RunNotFoundError):
            await undone.refresh()
        async with await psycopg.AsyncConnection.connect(database) as asyncios:
            with pytest.raises(TypeError, match=r"pass a psycopg\.Connection that is not asyncio's; or none, and a"):
                await client.aio.enqueue(echo_job(), connection=asyncios)

    asyncio.run(main())


@pytest.mark.parametrize("ends", ["the client", "the starter"])
def test_who_waits_is_told_of_the_end_and_what_is_asked_after_it_too(database: str, ends: str) -> None:
    async def main(client: pgflow.PgflowClient, told: str) -> None:
        run = await client.aio.enqueue(echo_job("unserved"))
        waiting = [asyncio.create_task(run.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        await client.aio.close()
        for result in await asyncio.gather(*waiting, run.refresh(), run.wait(), return_exceptions=True):
            assert isinstance(result, pgflow.PgflowError)
            assert told in str(result)

    if ends == "the client":
        asyncio.run(main(pgflow.PgflowClient(database), "the client was closed"))
        return

    async def stopped(starter: pgflow.Starter) -> None:
        run = await starter.client.aio.enqueue(echo_job("unserved"))
        waiting = asyncio.create_task(run.wait())
        await asyncio.sleep(0)
        await asyncio.to_thread(starter.stop)
        with pytest.raises(pgflow.StarterStopped):
            await waiting
        with pytest.raises(pgflow.StarterStopped):
            await run.refresh()

    with running(database) as starter:
        asyncio.run(stopped(starter))
