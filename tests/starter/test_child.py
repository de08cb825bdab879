"""A starter as a child in somebody else's supervision tree: `child_spec` and `starter_of`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

import pgflow_starter as pgflow
from pgflow_starter.errors import DatabaseError
from pgflow_starter.starter import per_process as runtimes
from pgflow_starter.starter.runtime import Runtime
from pgflow_starter.supervision import ChildInfo, ChildStartError, Refusal, SupervisionError
from tests.starter.child_rig import await_next, began, blocked, spec, tree
from tests.starter.forks import script
from tests.supervision.world import PATIENCE
from tests.support.starters import echo_job
from tests.support.threads import ours
from tests.support.waiting import eventually
from tests.telemetry.heard import Heard


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
    eventually(lambda: ours() == set())  # the client's own threads end by themselves


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

        def send() -> None:
            while True:
                with suppress(DatabaseError):  # of a probe that had its answer before
                    client.enqueue("echo", 1)

        sending, refused = blocked(send)
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
