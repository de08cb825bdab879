"""Which modules are one and the same, how they are loaded, and that none disturbs another."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter import ModuleStatus
from tests.support.starters import await_state, echo_job, running, state
from tests.support.waiting import eventually


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Python module of that name, with a flow `order` and a definition of its own."""
    (tmp_path / "shop_of_test.py").write_text(
        "import pgflow_starter as pgflow\n"
        "order = pgflow.Flow('shop_order')\n"
        "@order.step()\n"
        "def only(given, ctx):\n"
        "    return given\n"
        "class Namespace:\n"
        "    mail = pgflow.job('shop_mail')(lambda message, ctx: message)\n"
        "def __pgflow_definition__():\n"
        "    return pgflow.job('shop_itself')(lambda message, ctx: message).__pgflow_definition__()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("shop_of_test", None)
    return "shop_of_test"


def test_dotted_paths_are_resolved_to_modules_and_attributes(database: str, shop: str) -> None:
    paths = [shop, f"{shop}:order", f"{shop}:Namespace.mail"]
    with running(database, flows=paths) as starter:
        starter.await_ready(10)
        assert [(m.module, m.slug, str(m.status)) for m in starter.status().modules] == [
            (shop, "shop_itself", "succeeded"),
            (f"{shop}:order", "shop_order", "succeeded"),
            (f"{shop}:Namespace.mail", "shop_mail", "succeeded"),
        ]


@pytest.mark.parametrize("path", ["no_such_module_here", "json:nothing", "json", ":x", "os:path:join", ""])
def test_what_a_path_cannot_name_fails_for_good(database: str, path: str) -> None:
    with running(database, flows=[path]) as starter:
        starter.await_ready(10)
        failed = state(starter, path)
        assert failed.status is ModuleStatus.FAILED_PERMANENT
        assert failed.module == path


def test_one_module_listed_twice_is_refused(database: str) -> None:
    job = echo_job()
    with pytest.raises(ValueError, match=r"'echo' is listed twice"):
        pgflow.start(database, flows=[job], jobs=[job])
    with pytest.raises(ValueError, match=r"'a\.b' is listed twice"):
        pgflow.start(database, flows=["a.b", "a." + "b"])


def test_a_second_module_with_a_registered_slug_fails_and_the_first_listed_keeps_it(database: str, shop: str) -> None:
    first, second = echo_job("same"), echo_job("same")
    listed = pgflow.Flow("listed")
    listed.step(slug="s")(lambda given, ctx: given)
    sys.modules.pop(shop, None)
    module = __import__(shop)
    with running(database, flows=[f"{shop}:order", module.order], jobs=[first, second]) as starter:
        starter.await_ready(10)
        assert state(starter, first).status is ModuleStatus.SUCCEEDED
        taken = state(starter, second)
        assert taken.status is ModuleStatus.FAILED_PERMANENT
        assert taken.last_error is not None
        assert "is taken by same" in taken.last_error.reason
        # a path to an object that is listed too
        assert state(starter, module.order).status is ModuleStatus.SUCCEEDED
        assert state(starter, f"{shop}:order").status is ModuleStatus.FAILED_PERMANENT


def _raises() -> Any:
    raise RuntimeError("boom in a definition\nwith a second line")


def _exits() -> Any:
    raise SystemExit(3)


def _interrupts() -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("define", [_raises, _exits, _interrupts, lambda: None, lambda: "slug"])
def test_a_definition_that_raises_exits_or_returns_junk_fails_for_good_and_disturbs_no_other(
    database: str, define: Any
) -> None:
    class Bad:
        __pgflow_definition__ = staticmethod(define)

    job = echo_job()
    with running(database, flows=[Bad], jobs=[job], signal_strategy="notify") as starter:
        starter.await_ready(10)
        bad = state(starter, Bad)
        assert bad.status is ModuleStatus.FAILED_PERMANENT
        assert bad.last_error is not None
        assert "\n" not in bad.last_error.reason
        assert state(starter, job).status is ModuleStatus.SUCCEEDED
        assert all(child.restarts == 0 for child in starter.which_children())
        assert starter.client.enqueue(job, 1).wait(10).result == 1


def test_a_definition_that_hangs_is_retried_when_it_has_ended_and_disturbs_no_other(database: str) -> None:
    release = threading.Event()
    threads: list[str] = []

    class Hangs:
        @staticmethod
        def __pgflow_definition__() -> pgflow.FlowDefinition:
            threads.append(threading.current_thread().name)
            release.wait()
            return echo_job("hangs").__pgflow_definition__()

    job = echo_job()
    with running(database, flows=[Hangs], jobs=[job], phase_timeout=1.0) as starter:
        try:
            hung = await_state(
                starter, Hangs, lambda s: s.last_error is not None and "when it has ended" in s.last_error.reason
            )
            assert hung.status is ModuleStatus.RETRYING
            assert hung.attempts == 1
            assert hung.next_attempt_at is None
            await_state(starter, job, lambda s: s.status is ModuleStatus.SUCCEEDED)
            for _ in range(5):
                starter.retry_now(Hangs)
            assert len(threads) == 1
        finally:
            release.set()
        starter.await_ready(30)
        assert state(starter, Hangs).status is ModuleStatus.SUCCEEDED
        assert len(threads) == 2


def test_modules_that_import_each_other_may_be_listed_together(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one, other in (("circular_a", "circular_b"), ("circular_b", "circular_a")):
        (tmp_path / f"{one}.py").write_text(
            "import threading\n"
            "threading.Event().wait(0.05)\n"
            f"import {other}\n"
            "import pgflow_starter as pgflow\n"
            f"job = pgflow.job('{one}')(lambda message, ctx: message)\n"
        )
        sys.modules.pop(one, None)
    monkeypatch.syspath_prepend(str(tmp_path))
    with running(database, jobs=["circular_a:job", "circular_b:job"]) as starter:
        starter.await_ready(10)
        assert [str(m.status) for m in starter.status().modules] == ["succeeded", "succeeded"]


def test_an_import_that_hangs_keeps_no_other_from_being_imported(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shop: str
) -> None:
    (tmp_path / "hangs_at_import.py").write_text("import builtins\nbuiltins.release_of_test.wait(30)\n")
    release = threading.Event()
    monkeypatch.setattr("builtins.release_of_test", release, raising=False)
    with running(database, flows=["hangs_at_import", f"{shop}:order"], phase_timeout=10) as starter:
        eventually(lambda: state(starter, f"{shop}:order").status is ModuleStatus.SUCCEEDED)
        assert state(starter, "hangs_at_import").phase == "registry"
        release.set()
        starter.await_ready(10)


def test_a_flow_of_their_own_class_may_hang_and_holds_up_neither_its_actor_nor_the_stop(database: str) -> None:
    release = threading.Event()

    class Slow(pgflow.Flow):
        def __pgflow_definition__(self) -> pgflow.FlowDefinition:
            release.wait(30)
            return super().__pgflow_definition__()

    slow = Slow("slow")
    slow.step(slug="only")(lambda given, ctx: given)
    with running(database, flows=[slow], jobs=[echo_job()], phase_timeout=0.2) as starter:
        failed = await_state(starter, slow, lambda s: s.last_error)
        assert failed.last_error is not None
        assert failed.last_error.reason.startswith("phase registry has not ended within 0.2 s")
        release.set()
        starter.await_ready(10)
        assert state(starter, slow).status is ModuleStatus.SUCCEEDED
