"""`run_flow` as a user's test sees it: results, errors, contexts."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import threading
import time
from typing import Any, NotRequired, TypedDict

import pytest

import pgflow_starter as pgflow
from pgflow_starter.testing import FlowRun, make_context, run_flow
from tests.support.starters import echo_job


def _raising(error: BaseException | type[BaseException], **options: Any) -> pgflow.Job:
    @pgflow.job("raising", **options)
    def raising(message: Any, ctx: pgflow.TaskContext) -> None:
        raise error

    return raising


def test_a_job_runs_with_its_message_and_its_result_is_unwrapped() -> None:
    run = run_flow(echo_job("mail", step_slug="send"), {"to": ("ada", "bob")})
    assert (run.flow_slug, run.status, run.error) == ("mail", "completed", None)
    assert run.input == {"to": ["ada", "bob"]}
    assert run.output == {"send": {"to": ["ada", "bob"]}}
    assert run.result == {"to": ["ada", "bob"]}
    assert run.raise_for_status() is run


def test_the_results_cannot_be_changed() -> None:
    run = run_flow(echo_job())
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.status = "failed"  # type: ignore[misc]
    with pytest.raises(TypeError):
        run.steps["echo"] = run.steps["echo"]  # type: ignore[index]


def test_what_the_handler_raised_is_raised_with_its_own_traceback() -> None:
    error = ConnectionError("the bank is away")
    run = run_flow(_raising(error, max_attempts=2))
    assert run.status == "failed"
    assert (run.output, run.result) == (None, None)
    assert run.error is not None
    assert run.error.startswith("ConnectionError: the bank is away\n")
    assert run.steps["raising"].tasks[0].attempts == 2
    assert "the bank is away" in repr(run)
    with pytest.raises(ConnectionError, match="away") as raised:
        run.raise_for_status()
    assert raised.value is error
    assert "raising" in [entry.name for entry in raised.traceback]


def test_a_permanent_error_has_no_second_attempt() -> None:
    run = run_flow(_raising(pgflow.PermanentError("no such customer")))
    assert [t.attempts for t in run.steps["raising"].tasks] == [1]
    with pytest.raises(pgflow.PermanentError, match="no such customer"):
        run.raise_for_status()


@pytest.mark.parametrize(
    ("output", "why"), [(float("nan"), "nan"), (b"x", "bytes"), ({1}, "set"), ({1: 2}, "string keys")]
)
def test_an_output_that_is_no_json_fails_and_says_why(output: Any, why: str) -> None:
    job = pgflow.job("wrong", max_attempts=2)(lambda message, ctx: output)
    run = run_flow(job)
    assert run.steps["wrong"].tasks[0].attempts == 2
    with pytest.raises(pgflow.PgflowError, match=f"cannot be stored: output .*{why}"):
        run.raise_for_status()


def test_an_error_that_was_got_over_is_told_and_not_raised() -> None:
    @pgflow.job("unsteady", base_delay=5)
    def unsteady(message: Any, ctx: pgflow.TaskContext) -> int:
        if ctx.attempt < 3:
            raise ConnectionError(f"attempt {ctx.attempt}")
        return ctx.attempt

    began = time.monotonic()
    run = run_flow(unsteady).raise_for_status()
    assert run.result == 3
    (task,) = run.steps["unsteady"].tasks
    assert [text.splitlines()[0] for text in task.errors] == [
        "ConnectionError: attempt 1",
        "ConnectionError: attempt 2",
    ]
    assert task.started_at == (0, 10, 30)
    assert time.monotonic() - began < 5


def test_one_that_snoozes_runs_again_at_once_in_the_same_attempt() -> None:
    seen: list[int] = []

    @pgflow.job("sleepy", base_delay=5)
    def sleepy(message: Any, ctx: pgflow.TaskContext) -> int:
        seen.append(ctx.attempt)
        if len(seen) == 2:
            raise ConnectionError
        if len(seen) < 5:
            raise pgflow.Snooze(60.5)
        return ctx.attempt

    run = run_flow(sleepy).raise_for_status()
    (task,) = run.steps["sleepy"].tasks
    assert (run.result, seen) == (2, [1, 1, 2, 2, 2])
    assert (task.attempts, len(task.errors), task.started_at) == (2, 1, (60.5, 60.5 + 10 + 121))


def test_one_that_snoozes_for_ever_ends_with_an_error_that_names_it() -> None:
    with pytest.raises(pgflow.PgflowError, match="step 'raising' of flow 'raising', task 0, has snoozed 1000 times"):
        run_flow(_raising(pgflow.Snooze(86_400)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, pytest.fail.Exception("failed"), pytest.skip.Exception("skip")])
def test_an_interrupt_and_pytests_own_outcomes_go_through(error: Any) -> None:
    with pytest.raises(BaseException) as raised:
        run_flow(_raising(error))
    assert raised.value is error or raised.type is error


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (object(), "is not a flow"),
        (lambda given, ctx: given, "is not a flow"),
        ("no.such:flow", "importing 'no.such:flow' raised ModuleNotFoundError"),
        (pgflow.Flow("empty"), "has no steps"),
    ],
)
def test_what_is_no_flow_is_refused_as_at_registration(wrong: Any, message: str) -> None:
    with pytest.raises(pgflow.DefinitionError, match=message):
        run_flow(wrong)


def test_an_input_that_is_no_json_is_refused_as_by_the_client() -> None:
    with pytest.raises(ValueError, match="input is a set, which is not JSON"):
        run_flow(echo_job(), {1})


@dataclasses.dataclass
class Order:
    pieces: int


class Deps(TypedDict):
    priced: NotRequired[list[Order]]
    always: Order


def test_handlers_get_what_they_are_annotated_with_as_from_a_worker() -> None:
    flow = pgflow.Flow("shop")
    seen: list[Any] = []

    @flow.step()
    def always(order: Order, ctx: pgflow.TaskContext) -> Order:
        seen.append((order, ctx.flow_input))
        return dataclasses.replace(order, pieces=order.pieces + 1)

    flow.step("priced", if_={"priced": True}, when_unmet="skip")(lambda order, ctx: [order])

    @flow.step(depends_on=["always", "priced"])
    def close(deps: Deps, ctx: pgflow.TaskContext) -> list[Order]:
        seen.append(deps)
        return [deps["always"]]

    @flow.map(array="close")
    def each(order: Order, ctx: pgflow.TaskContext) -> int:
        return order.pieces

    assert run_flow(flow, Order(1)).raise_for_status().result == [2]
    assert seen == [(Order(1), {"pieces": 1}), {"always": Order(2)}]
    assert run_flow(flow, {"pieces": 1, "priced": True}).raise_for_status().result == [2]
    assert seen[-1] == {"always": Order(2), "priced": [Order(1)]}


def test_an_input_that_does_not_fit_its_handler_fails_the_first_attempt_for_good() -> None:
    calls: list[Any] = []

    @pgflow.job("pack")
    def pack(order: Order, ctx: pgflow.TaskContext) -> None:
        calls.append(order)

    plain: Any = {"pieces": "hunter2"}
    run = run_flow(pack, plain)
    assert [t.attempts for t in run.steps["pack"].tasks] == [1]
    with pytest.raises(pgflow.PayloadError, match=r"^input does not fit Order: input\.pieces: expected int, got str$"):
        run.raise_for_status()
    assert calls == []
    pack(plain, make_context())
    assert calls == [plain]


def test_the_context_is_a_workers() -> None:
    contexts: list[pgflow.TaskContext] = []
    flow = pgflow.Flow("two", timeout=30)

    def keep(given: Any, ctx: pgflow.TaskContext) -> list[int]:
        contexts.append(ctx)
        return [0]

    flow.step("first")(keep)
    flow.map("first", slug="each", timeout=60)(keep)
    now = time.monotonic()
    run = run_flow(flow, {"a": 1})
    first, each = contexts
    assert isinstance(first, pgflow.TaskContext)
    assert first.run_id == each.run_id == run.id
    assert (each.flow_slug, each.step_slug, each.task_index, each.attempt, each.msg_id) == ("two", "each", 0, 1, 2)
    assert first.flow_input == each.flow_input == {"a": 1}
    assert 0 <= first.deadline - now - 30 < 10
    assert 0 <= each.deadline - now - 60 < 10
    assert not each.cancelled.is_set()
    assert each.logger.extra == {
        "pgflow_run_id": str(run.id),
        "pgflow_slug": "two",
        "pgflow_step": "each",
        "pgflow_task_index": each.task_index,
        "pgflow_attempt": 1,
    }


def test_it_runs_on_the_callers_thread_and_flows_may_run_flows() -> None:
    @pgflow.job("outer")
    def outer(message: Any, ctx: pgflow.TaskContext) -> Any:
        return [threading.current_thread() is threading.main_thread(), run_flow(echo_job(), message).result]

    assert run_flow(outer, 7).result == [True, 7]


def test_a_thousand_elements_take_no_time() -> None:
    flow = pgflow.Flow("many")
    flow.map(slug="each")(lambda n, ctx: n + 1)
    began = time.monotonic()
    run: FlowRun = run_flow(flow, list(range(1000)))
    assert run.result == list(range(1, 1001))
    assert time.monotonic() - began < 5


def test_a_handler_alone_gets_a_context_made_by_hand() -> None:
    @pgflow.job("cents")
    def cents(message: Any, ctx: pgflow.TaskContext) -> Any:
        ctx.logger.info("attempt %d", ctx.attempt)
        return [message, ctx.flow_input, ctx.attempt, ctx.cancelled.is_set(), ctx.deadline > time.monotonic()]

    assert cents(1, make_context(flow_input={"all": 2}, attempt=3)) == [1, {"all": 2}, 3, False, True]
    assert make_context().run_id != make_context().run_id


def test_async_handlers_share_a_loop_and_what_they_leave_on_it_is_cancelled() -> None:
    flow, left = pgflow.Flow("shop"), list[Any]()

    async def stays() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            left.append(asyncio.get_running_loop())

    @flow.step()
    async def first(given: Any, ctx: pgflow.TaskContext) -> None:
        left.append(asyncio.create_task(stays()))
        await asyncio.sleep(0)

    @flow.step(depends_on=["first"])
    async def second(deps: Any, ctx: pgflow.TaskContext) -> bool:
        left.append(asyncio.get_running_loop())
        return threading.current_thread() is threading.main_thread()

    assert run_flow(flow).result is True
    task, used, ended_on = left
    assert task.cancelled()
    assert used is ended_on
    assert used.is_closed()


def test_an_async_handler_may_stop_the_loop_and_have_it_make_tasks_otherwise_as_in_a_worker() -> None:
    def refuses(*_: Any, **__: Any) -> Any:
        raise LookupError

    async def stops(message: Any, ctx: pgflow.TaskContext) -> Any:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        asyncio.get_running_loop().set_task_factory(refuses)
        await asyncio.sleep(0)
        return message

    assert run_flow(pgflow.job("stops")(stops), 1).result == 1


def test_a_permanent_error_in_a_task_group_is_found_and_a_snooze_in_one_is_a_failure() -> None:
    async def grouped(kind: str, ctx: pgflow.TaskContext) -> int:
        async def raises() -> None:
            raise pgflow.PermanentError("never") if kind == "permanent" else pgflow.Snooze(60)

        if ctx.attempt == 1:
            async with asyncio.TaskGroup() as group:
                group.create_task(raises())
        return ctx.attempt

    grouping = pgflow.job("grouping", max_attempts=2)(grouped)
    assert run_flow(grouping, "permanent").status == "failed"
    assert run_flow(grouping, "snooze").result == 2


def test_it_runs_async_handlers_where_a_loop_is_running_already_too() -> None:
    value = contextvars.ContextVar("value", default=0)

    @pgflow.job("inner")
    async def inner(message: Any, ctx: pgflow.TaskContext) -> Any:
        return [message, value.get()]

    @pgflow.job("outer")
    async def outer(message: Any, ctx: pgflow.TaskContext) -> Any:
        value.set(value.get() + 1)
        return run_flow(inner, message).result

    async def test() -> Any:
        value.set(1)
        return run_flow(outer, "x").result

    assert asyncio.run(test()) == ["x", 2]


@pytest.mark.parametrize("in_a_task", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, pytest.skip.Exception("skip")])
def test_what_is_meant_for_the_caller_gets_through_a_coroutine_as_well(error: Any, in_a_task: bool) -> None:
    @pgflow.job("raising")
    async def raising(message: Any, ctx: pgflow.TaskContext) -> None:
        async def task() -> None:
            raise error

        await (asyncio.create_task(task()) if in_a_task else task())

    with pytest.raises(error if isinstance(error, type) else type(error)):
        run_flow(raising)
