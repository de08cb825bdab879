"""A starter as a child in somebody else's supervision tree: `child_spec` and `starter_of`."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import pykka
import pytest

import pgflow_starter as pgflow
from pgflow_starter.starter import per_process as runtimes
from pgflow_starter.starter.child import Incarnations
from pgflow_starter.starter.runtime import Runtime
from pgflow_starter.supervision import (
    Actor,
    ChildInfo,
    ChildSpec,
    ChildStartError,
    DynamicSupervisorActor,
    Refusal,
    Restart,
    SupervisionError,
    SupervisorActor,
    SupervisorFlags,
)
from tests.starter.forks import script
from tests.supervision.world import PATIENCE, Journal
from tests.support.starters import QUICK, echo_job
from tests.support.threads import ours
from tests.support.waiting import eventually
from tests.telemetry.heard import Heard

NOWHERE = "host=127.0.0.1 port=1"
"""A database that is away: for what has to do with the life of a starter alone."""


class Sibling(Actor):
    """Writes down its life, and dies of what it is told."""

    thread_name = "pgflow-sibling"

    def __init__(self, name: str, journal: Journal) -> None:
        super().__init__()
        self._name = name
        self._journal = journal

    def on_start(self) -> None:
        self._journal.add(f"{self._name} started")

    def on_stop(self) -> None:
        self._journal.add(f"{self._name} stopped")

    def on_receive(self, message: Any) -> Any:
        raise message


class Tree:
    """A supervisor, called from the test's thread."""

    def __init__(self, ref: pykka.ActorRef[Any]) -> None:
        self.ref = ref

    def call(self, method: str, *args: Any) -> Any:
        return getattr(self.ref.proxy(), method)(*args).get(timeout=PATIENCE)

    def children(self) -> dict[str, ChildInfo]:
        return {child.id: child for child in self.call("which_children")}

    def restarts(self) -> dict[str, int]:
        return {child.id: child.restarts for child in self.call("which_children")}

    def kill(self, child_id: str) -> None:
        self.call("child", child_id).tell(ValueError("killed"))


@contextmanager
def tree(
    *children: ChildSpec, strategy: str = "one_for_one", max_restarts: int = 3, dynamic: bool = False
) -> Iterator[Tree]:
    """A supervisor for the duration of the block."""
    kind = DynamicSupervisorActor if dynamic else SupervisorActor
    flags: Any = {"strategy": strategy, "max_restarts": max_restarts}
    ref = kind.start("app", children, flags=SupervisorFlags(**flags))
    try:
        yield Tree(ref)
    finally:
        ref.stop()


def spec(conninfo: str = NOWHERE, **arguments: Any) -> ChildSpec:
    return pgflow.child_spec(conninfo, **{**QUICK, **arguments})


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def give_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the root of the one starter that there is give up: it may not restart anybody, and somebody ends."""
    monkeypatch.setattr("pgflow_starter.starter.tree.ROOT_FLAGS", SupervisorFlags(max_restarts=0))

    def crash() -> None:
        eventually(lambda: pykka.ActorRegistry.get_by_class(pgflow.StarterActor))[0].stop()

    return crash


def began(starter: pgflow.Starter) -> datetime | None:
    """When the incarnation began that there is; None between two."""
    try:
        return starter.status().started_at
    except pgflow.StarterTerminated:
        return None


def await_next(starter: pgflow.Starter, before: datetime | None) -> None:
    """Wait for another incarnation than that of `before`."""
    eventually(lambda: began(starter) not in (None, before), what="the next incarnation")


def blocked(call: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """A thread that makes the call, and what it raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


# --- life ------------------------------------------------------------------------------------------------------------


def test_a_starter_lives_in_a_tree_and_ends_with_it(database: str) -> None:
    job = echo_job()
    with tree(spec(database, jobs=[job])) as app:
        starter = pgflow.starter_of(app.ref)
        starter.await_ready(10)
        assert starter.client.enqueue(job, 1).wait(10).result == 1
        assert repr(starter) == "Starter([echo])"
        assert app.children()["pgflow"] == ChildInfo("pgflow", "app", "supervisor", 0, True)
        app.ref.stop()
        for call in (starter.status, starter.proxy, lambda: starter.client, starter.await_ready):
            with pytest.raises(pgflow.StarterStopped, match="stopped with its supervisor"):
                call()
        starter.stop()
    assert ours() == set()


def test_two_starters_may_live_in_one_tree(database: str) -> None:
    one, other = echo_job("one"), echo_job("other")
    with tree(spec(database, jobs=[one], id="a"), spec(database, jobs=[other], id="b")) as app:
        for child_id, job in (("a", one), ("b", other)):
            starter = pgflow.starter_of(app.ref, child_id)
            starter.await_ready(10)
            assert starter.client.enqueue(job, child_id).wait(10).result == child_id


def test_a_spec_is_a_value_and_each_child_of_it_a_starter_of_its_own(database: str) -> None:
    made = spec(database, jobs=[echo_job()])
    with tree(made, replace(made, id="second")) as app, tree(made) as other:
        starters = [pgflow.starter_of(app.ref), pgflow.starter_of(app.ref, "second"), pgflow.starter_of(other.ref)]
        for starter in starters:
            starter.await_ready(PATIENCE)
        assert len({starter.workers()[0].worker_id for starter in starters}) == len(starters)
        other.call("terminate_child", "pgflow")
        assert [began(starter) is None for starter in starters] == [False, False, True]
        other.ref.stop()
        with pytest.raises(pgflow.StarterStopped, match="with its supervisor"):
            starters[2].status()
        assert starters[0].ready()


def test_a_handle_may_be_asked_of_the_supervisor_s_proxy() -> None:
    with tree(spec(jobs=[echo_job()])) as app:
        assert pgflow.starter_of(app.ref.proxy()).status().modules[0].module == "echo"


def test_a_dynamic_supervisor_takes_one_too(database: str) -> None:
    job = echo_job()
    with tree(dynamic=True) as app:
        app.call("start_child", spec(database, jobs=[job]))
        starter = pgflow.starter_of(app.ref)
        assert starter.client.enqueue(job, 1).wait(10).result == 1
        app.call("terminate_child", "pgflow")
        with pytest.raises(pgflow.StarterTerminated, match="it was stopped, and its supervisor may start it again"):
            starter.status()


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_a_starter_whose_root_gave_up_is_restarted_and_its_handle_follows(
    database: str, give_up: Callable[[], None], restart: str
) -> None:
    job = echo_job()
    told: list[pgflow.StarterTerminated] = []
    with tree(spec(database, jobs=[job], restart=restart, on_terminate=told.append)) as app:
        starter = pgflow.starter_of(app.ref)
        starter.await_ready(10)
        for count in (1, 2):
            before, proxy = began(starter), starter.proxy()
            give_up()
            await_next(starter, before)
            starter.await_ready(10)
            assert starter.client.enqueue(job, count).wait(10).result == count
            assert proxy.ready().get(timeout=5)
            assert app.restarts() == {"pgflow": count}
            assert len(told) == count
    assert "gave up" in str(told[0])


def test_who_waits_when_the_root_gives_up_is_told_so(give_up: Callable[[], None]) -> None:
    with tree(spec(jobs=[echo_job()], restart="temporary")) as app:
        starter = pgflow.starter_of(app.ref)
        client = starter.client
        waiting, errors = blocked(partial(starter.await_ready, None))
        sending, refused = blocked(partial(client.enqueue, "echo", 1))
        give_up()
        waiting.join(10)
        sending.join(10)
        assert [type(e) for e in errors + refused] == [pgflow.StarterTerminated] * 2
        assert isinstance(errors[0].__cause__, pgflow.PgflowError)


def test_a_temporary_one_that_gave_up_stays_so(give_up: Callable[[], None]) -> None:
    with tree(spec(restart="temporary")) as app:
        starter = pgflow.starter_of(app.ref)
        give_up()
        eventually(lambda: app.children() == {})
        with pytest.raises(pgflow.StarterTerminated, match="gave up"):
            starter.status()
        with pytest.raises(SupervisionError) as refused:
            pgflow.starter_of(app.ref)
        assert refused.value.reason is Refusal.NOT_FOUND
        starter.stop()
        assert runtimes.running == {}
    with pytest.raises(pgflow.StarterTerminated, match="gave up"):
        starter.status()


def test_a_supervisor_gives_up_on_a_starter_that_gives_up_too_often(give_up: Callable[[], None]) -> None:
    with tree(spec(), max_restarts=1) as app:
        starter = pgflow.starter_of(app.ref)
        before = began(starter)
        give_up()
        await_next(starter, before)
        give_up()
        eventually(lambda: not app.ref.is_alive())
        with pytest.raises(pgflow.StarterTerminated, match="gave up"):
            starter.status()


def test_a_callback_that_raises_keeps_nobody_from_being_restarted(give_up: Callable[[], None]) -> None:
    def callback(error: BaseException) -> None:
        raise ValueError("a bug in the callback")

    with tree(spec(on_terminate=callback)) as app:
        starter = pgflow.starter_of(app.ref)
        before = began(starter)
        give_up()
        await_next(starter, before)


def test_nothing_of_an_earlier_incarnation_is_kept(give_up: Callable[[], None]) -> None:
    with tree(spec()) as app:
        starter = pgflow.starter_of(app.ref)
        for _ in range(2):
            before = began(starter)
            give_up()
            await_next(starter, before)
        assert len(runtimes.running) == 1
    assert runtimes.running == {}


def test_a_starter_that_cannot_be_started_is_tried_again_as_any_child(
    monkeypatch: pytest.MonkeyPatch, give_up: Callable[[], None]
) -> None:
    start, missing = Runtime.start, 0

    def hungry(self: Runtime) -> None:
        nonlocal missing
        missing -= 1
        if missing >= 0:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(Runtime, "start", hungry)
    with tree(spec()) as app:
        starter, missing = pgflow.starter_of(app.ref), 2
        before = began(starter)
        give_up()
        await_next(starter, before)
        assert missing == -1
        app.call("terminate_child", "pgflow")
        missing = 1
        with pytest.raises(ChildStartError, match="can't start new thread"):
            app.call("restart_child", "pgflow")


def test_in_a_forked_child_the_handle_is_refused_and_another_tree_of_the_same_spec_works(database: str) -> None:
    # Nobody stops either tree: the interpreter's exit does.
    script(
        """
from pgflow_starter.supervision import SupervisorActor
spec = pgflow.child_spec(sys.argv[1], jobs=[echo], min_poll_interval=0.05, max_poll_interval=0.1)
supervisor = SupervisorActor.start("app", [spec])
starter = pgflow.starter_of(supervisor)
works(starter)

def child():
    refused(starter.status, starter.proxy, lambda: starter.client.enqueue(echo, 1))
    refused(lambda: pgflow.starter_of(supervisor))
    starter.stop()
    supervisor.stop()
    works(pgflow.starter_of(SupervisorActor.start("app", [spec])))

in_child(child)
works(starter)
""",
        database,
    )


# --- among others ----------------------------------------------------------------------------------------------------


def family(journal: Journal, middle: ChildSpec) -> list[ChildSpec]:
    first, last = (ChildSpec(name, partial(Sibling.start, name, journal)) for name in ("first", "last"))
    return [first, middle, last]


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [
        ("one_for_one", {"first": 0, "pgflow": 1, "last": 0}),
        ("one_for_all", {"first": 1, "pgflow": 1, "last": 1}),
        ("rest_for_one", {"first": 0, "pgflow": 1, "last": 1}),
    ],
)
def test_who_is_restarted_with_a_starter_that_gave_up(
    strategy: str, restarted: dict[str, int], give_up: Callable[[], None], journal: Journal
) -> None:
    with tree(*family(journal, spec()), strategy=strategy) as app:
        starter = pgflow.starter_of(app.ref)
        before = began(starter)
        give_up()
        await_next(starter, before)
        assert app.restarts() == restarted


@pytest.mark.parametrize(
    ("strategy", "dies", "restarted"),
    [
        ("one_for_all", "last", {"first": 1, "pgflow": 1, "last": 1}),
        ("rest_for_one", "first", {"first": 1, "pgflow": 1, "last": 1}),
    ],
)
def test_a_starter_that_is_restarted_for_another_s_death_is_stopped_in_order(
    database: str, strategy: str, dies: str, restarted: dict[str, int], journal: Journal
) -> None:
    entered, release = threading.Event(), threading.Event()

    @pgflow.job("slow")
    def slow(message: Any, ctx: pgflow.TaskContext) -> str:
        entered.set()
        assert release.wait(30)
        journal.add("task ended")
        return "done"

    with tree(*family(journal, spec(database, jobs=[slow])), strategy=strategy) as app:
        starter = pgflow.starter_of(app.ref)
        run = starter.client.enqueue(slow, None)
        assert entered.wait(10)
        before = began(starter)
        waiting, errors = blocked(partial(run.wait, None))
        app.kill(dies)
        eventually(lambda: began(starter) is None)
        release.set()
        await_next(starter, before)
        waiting.join(10)
        # In the incarnation that it was asked of it was done, or that had ended first.
        assert all(isinstance(e, pgflow.StarterTerminated) for e in errors)
        assert starter.client.run(run.id).wait(10).result == "done"
        assert app.restarts() == restarted
    ended = [e for e in journal.entries() if not e.endswith("started")]
    assert ended.count("task ended") == 1
    assert ended[-2:] == ["last stopped", "first stopped"]


def test_a_blocked_call_is_told_that_the_starter_was_stopped_to_be_restarted(journal: Journal) -> None:
    with tree(*family(journal, spec(jobs=[echo_job()])), strategy="one_for_all") as app:
        starter = pgflow.starter_of(app.ref)
        waiting, errors = blocked(partial(starter.await_ready, None))
        app.kill("last")
        waiting.join(10)
        assert [type(e) for e in errors] == [pgflow.StarterTerminated]
        assert "its supervisor may start it again" in str(errors[0])


# --- its end ---------------------------------------------------------------------------------------------------------


def test_a_tree_stops_in_order_and_running_tasks_may_end(database: str, journal: Journal) -> None:
    entered, release = threading.Event(), threading.Event()

    @pgflow.job("slow")
    def slow(message: Any, ctx: pgflow.TaskContext) -> str:
        entered.set()
        assert release.wait(30)
        journal.add("task ended")
        return "done"

    with tree(*family(journal, spec(database, jobs=[slow]))) as app:
        starter = pgflow.starter_of(app.ref)
        run = starter.client.enqueue(slow, None)
        assert entered.wait(10)
        waiting, errors = blocked(partial(starter.await_ready, 10))
        stopping, _ = blocked(app.ref.stop)
        journal.await_entry("last stopped")
        eventually(lambda: stopped(starter))
        release.set()
        stopping.join(10)
        waiting.join(10)
        assert all(isinstance(e, pgflow.StarterStopped) for e in errors)
    assert journal.entries()[2:] == ["last stopped", "task ended", "first stopped"]
    with pgflow.PgflowClient(database) as client:
        assert client.run(run.id).result == "done"


def stopped(starter: pgflow.Starter) -> bool:
    try:
        starter.status()
    except pgflow.StarterStopped:
        return True
    return False


@pytest.mark.parametrize(
    ("settings", "patience"),
    [
        ({}, 30),
        ({"shutdown": math.inf}, 30),
        ({"shutdown": 100}, 30),
        ({"shutdown": 5}, 4),
        ({"shutdown": 5, "shutdown_timeout": 2}, 2),
        ({"shutdown": 0.5}, 0),
        ({"shutdown": 0}, 0),
    ],
)
def test_running_tasks_get_what_the_child_gets_less_a_second_to_give_them_back(
    settings: dict[str, Any], patience: float
) -> None:
    start = pgflow.child_spec(NOWHERE, **settings).start
    assert isinstance(start, Incarnations)
    assert start.patience == patience


@pytest.mark.parametrize(("shutdown", "abandoned"), [(1.1, 0), (0, 1)], ids=["a while", "no time"])
def test_what_does_not_end_in_time_is_given_back_for_another_to_run(
    database: str, shutdown: float, abandoned: int
) -> None:
    entered, release = threading.Event(), threading.Event()
    attempts: list[int] = []

    @pgflow.job("stubborn")
    def stubborn(message: Any, ctx: pgflow.TaskContext) -> int:
        attempts.append(ctx.attempt)
        entered.set()
        if len(attempts) == 1:
            assert release.wait(30)
        return len(attempts)

    with tree(spec(database, jobs=[stubborn], shutdown=shutdown)) as app:
        starter = pgflow.starter_of(app.ref)
        run = starter.client.enqueue(stubborn, None)
        assert entered.wait(10)
        app.call("terminate_child", "pgflow")
        assert app.call("count_children")["abandoned"] == abandoned
        app.call("restart_child", "pgflow")
        assert starter.client.run(run.id).wait(10).result == 2
        release.set()
    assert attempts == [1, 1]


def test_the_handle_s_stop_ends_an_incarnation_and_a_permanent_child_comes_again() -> None:
    with tree(spec()) as app:
        starter = pgflow.starter_of(app.ref)
        before = began(starter)
        starter.stop()
        await_next(starter, before)
        assert app.restarts() == {"pgflow": 1}


def test_a_transient_one_that_was_stopped_comes_again_when_it_is_asked_for() -> None:
    with tree(spec(restart="transient")) as app:
        starter = pgflow.starter_of(app.ref)
        proxy = starter.proxy()
        with starter:
            pass
        eventually(lambda: not app.children()["pgflow"].alive)
        for call in (starter.ready, lambda: proxy.ready().get(timeout=5)):
            with pytest.raises(pgflow.StarterTerminated, match="it was stopped, and its supervisor may start it again"):
                call()
        app.call("restart_child", "pgflow")
        assert starter.ready()
        assert proxy.ready().get(timeout=5)


def test_a_proxied_call_that_met_the_end_of_an_incarnation_says_so(
    monkeypatch: pytest.MonkeyPatch, give_up: Callable[[], None]
) -> None:
    entered, release = threading.Event(), threading.Event()

    def ready(self: pgflow.StarterActor) -> bool:
        entered.set()
        return release.wait(10)

    monkeypatch.setattr(pgflow.StarterActor, "ready", ready)
    with tree(spec()) as app:
        starter = pgflow.starter_of(app.ref)
        assert starter.proxy().healthy().get(timeout=5)  # its actor is there
        before, first = began(starter), starter.proxy().ready()
        assert entered.wait(10)
        giving_up, _ = blocked(give_up)
        (actor,) = pykka.ActorRegistry.get_by_class(pgflow.StarterActor)
        eventually(lambda: not actor.actor_inbox.empty())
        second = starter.proxy().healthy()  # behind its end
        release.set()
        giving_up.join(10)
        await_next(starter, before)
        assert first.get(timeout=5) is True
        with pytest.raises(pgflow.StarterTerminated):
            second.get(timeout=5)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"pool_size": 0, "batch_sizes": 1}, r"unknown setting 'batch_sizes'.*; pool_size must be an int from 1"),
        ({"jobs": ["shop:mail", "shop:mail"]}, "'shop:mail' is listed twice"),
        ({"lazy": True}, "lazy must be False: a supervised starter starts when its supervisor starts it"),
        ({"id": ""}, "id must be a non-empty string"),
        ({"restart": "always"}, "restart must be one of"),
        ({"shutdown": -1}, "shutdown must be seconds from 0 to infinity, got -1"),
        ({"shutdown": "5"}, "shutdown must be seconds from 0 to infinity, got '5'"),
    ],
)
def test_bad_settings_are_refused_where_the_spec_is_made(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        pgflow.child_spec(NOWHERE, **arguments)


def test_a_spec_is_a_permanent_supervisor_s_by_default() -> None:
    made = pgflow.child_spec(NOWHERE)
    assert (made.id, made.restart, made.type, made.shutdown) == ("pgflow", Restart.PERMANENT, "supervisor", math.inf)


def test_a_handle_is_had_of_a_starter_in_a_living_tree_only(journal: Journal) -> None:
    with tree(ChildSpec("other", partial(Sibling.start, "other", journal))) as app:
        with pytest.raises(SupervisionError, match="supervisor 'app' has no child 'pgflow'"):
            pgflow.starter_of(app.ref)
        with pytest.raises(TypeError, match=r"child 'other' is no starter: .* pgflow_starter\.child_spec"):
            pgflow.starter_of(app.ref, "other")
    with pytest.raises(pgflow.StarterStopped, match="stopped with its supervisor"):
        pgflow.starter_of(app.ref)


def test_an_incarnation_that_was_abandoned_in_its_start_is_followed_by_nobody(journal: Journal) -> None:
    start = spec().start
    assert isinstance(start, Incarnations)
    assert start.stop(0)() is None
    abandoned = Sibling.start("abandoned", journal)
    abandoned.stop()
    late = start.begin(abandoned)
    try:
        with pytest.raises(pgflow.StarterTerminated, match="has not started it yet"):
            start.get()
    finally:
        late.stop(0)()


def test_metrics_tell_of_a_starter_that_gave_up_until_another_takes_its_place(give_up: Callable[[], None]) -> None:
    heard = Heard()

    def ready() -> list[int]:
        return [point.value for point in heard.points("pgflow.starter.ready")]

    with tree(spec(restart="transient", **heard.settings), strategy="one_for_one") as app:
        starter = pgflow.starter_of(app.ref)
        before = began(starter)
        give_up()
        await_next(starter, before)
        assert ready() == [1]
        app.call("terminate_child", "pgflow")
        assert ready() == []
    with tree(spec(restart="temporary", **heard.settings)) as app:
        starter = pgflow.starter_of(app.ref)
        give_up()
        eventually(lambda: app.children() == {})
        assert ready() == [0]
        starter.stop()
        assert ready() == []
    heard.close()
