"""The worker phase of many modules in one go: for whom it is done, and whose error is everybody's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

import pgflow_starter as pgflow
from pgflow_starter import DatabaseError, NotInstalledError
from pgflow_starter.core.compiled import Compiled
from pgflow_starter.core.modules import ModuleSpec, module_specs
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import Identity, ModuleType
from pgflow_starter.modules.phase_plan import Here, InLane, OnOwnThread, Together
from pgflow_starter.modules.phases import RegistrationPhases
from pgflow_starter.modules.registry import FlowRegistry
from pgflow_starter.ports import CancelScope
from pgflow_starter.threads.interrupt_scope import InterruptScope
from tests.support import starters
from tests.support.starters import echo_job

AWAY = DatabaseError("refused", error_type="OperationalError", connection_lost=True)
LOCKED = DatabaseError("lock timeout", sqlstate="55P03")
MISSING = NotInstalledError("the pgflow core is not installed")


class Stored:
    """`ports.FlowStore` and the workers: what is stored, who runs already, and what each step raises."""

    def __init__(self) -> None:
        self.compiled: dict[str, Compiled] = {}
        self.running: set[str] = set()
        self.verify_raises: BaseException | None = None
        self.ensure_raises: BaseException | None = None
        self.wanted: list[tuple[str, str]] = []
        self.queues: dict[str, Sequence[str]] = {}
        self.enabled: list[str] = []

    def verify(
        self, definitions: Sequence[pgflow.FlowDefinition], scope: CancelScope, *, notify: bool
    ) -> dict[str, Compiled]:
        if self.verify_raises is not None:
            raise self.verify_raises
        return {d.slug: self.compiled[d.slug] for d in definitions if d.slug in self.compiled}

    def ensure_new(self, wanted: Sequence[tuple[str, pgflow.FlowDefinition]], scope: CancelScope) -> set[str]:
        self.wanted = [(module, definition.slug) for module, definition in wanted]
        if self.ensure_raises is not None:
            raise self.ensure_raises
        return {slug for _, slug in self.wanted} - self.running

    def supply(self, slug: str, queues: Sequence[str]) -> None:
        self.queues[slug] = queues

    def queues_of(self, slug: str) -> Sequence[str]:
        return self.queues.get(slug) or (slug,)

    def notifies(self, queue: str, throttle_ms: int) -> bool:
        return (queue, throttle_ms) == ("a", 250)

    def enable_notify(self, queue: str, throttle_ms: int, scope: CancelScope) -> None:
        self.enabled.append(queue)


class Desk:
    """The phases of the jobs a, b and c, which have been registered."""

    def __init__(self) -> None:
        self.jobs = [echo_job(slug) for slug in "abc"]
        self.specs = module_specs((), self.jobs)
        self.stored = Stored()
        store = cast("Any", self.stored)
        self.phases = RegistrationPhases(FlowRegistry(self.specs), store, store, None, throttle_ms=250)

    def register(self) -> Desk:
        for spec in self.specs:
            plan = self.phases.plan(spec, Phase.REGISTRY)
            assert isinstance(plan, Here)
            assert plan.call() == Identity(spec.name, ModuleType.JOB)
        return self

    def store(
        self,
        *slugs: str,
        differences: tuple[str, ...] = (),
        options_differ: bool = False,
        queues: tuple[str, ...] = (),
    ) -> None:
        for job in self.jobs:
            if job.slug in slugs:
                definition = job.__pgflow_definition__()
                self.stored.compiled[job.slug] = Compiled(False, definition, differences, options_differ, queues)

    def together(self) -> Sequence[bool]:
        return self.phases.run_together(self.specs, InterruptScope())


@pytest.fixture
def desk() -> Desk:
    return Desk().register()


def test_it_is_done_for_those_whose_flow_is_stored_and_whose_worker_is_new_and_runs(desk: Desk) -> None:
    desk.store("a", "c")
    desk.stored.running = {"c"}
    assert desk.together() == [True, False, False]
    assert desk.stored.wanted == [("a", "a"), ("c", "c")]


@pytest.mark.parametrize("step", ["verify_raises", "ensure_raises"])
def test_a_database_that_is_away_is_everybodys_error(desk: Desk, step: str) -> None:
    desk.store("a")
    setattr(desk.stored, step, AWAY)
    with pytest.raises(DatabaseError, match="refused"):
        desk.together()


@pytest.mark.parametrize("step", ["verify_raises", "ensure_raises"])
@pytest.mark.parametrize("error", [LOCKED, MISSING, ValueError("whatever")], ids=repr)
def test_any_other_error_is_for_each_to_meet_by_itself(desk: Desk, step: str, error: BaseException) -> None:
    desk.store("a")
    setattr(desk.stored, step, error)
    assert desk.together() == [False, False, False]


def test_one_that_has_not_been_registered_is_no_error_of_the_phases() -> None:
    assert Desk().together() == [False, False, False]


def test_options_that_differ_are_told_once_with_the_command_that_applies_them(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.store("a", differences=("timeout is 9 in the database and 7 in the code",), options_differ=True)
    desk.together()
    desk.together()
    (message,) = caplog.messages
    assert message == (
        "a: flow 'a': timeout is 9 in the database and 7 in the code; the database wins, until"
        " `pgflow-starter flow sync MODULE`, where MODULE is its dotted path, applies the options of the code"
    )


def test_the_command_names_the_module_where_it_can_be_found(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starters, "found_here", desk.jobs[0], raising=False)
    desk.store("a", differences=("timeout is 9 in the database and 7 in the code",), options_differ=True)
    desk.together()
    assert caplog.messages[0].endswith(
        "until `pgflow-starter flow sync tests.support.starters:found_here` applies the options of the code"
    )


def test_another_order_alone_is_nothing_that_a_command_mends(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.store("a", differences=("its steps are in another order",))
    desk.together()
    assert caplog.messages == ["a: flow 'a': its steps are in another order; the database wins"]


def test_what_is_seen_to_notify_already_needs_nothing_more(desk: Desk) -> None:
    first, second, _ = desk.specs
    plan = desk.phases.plan(first, Phase.NOTIFY_DB)
    assert isinstance(plan, Here)
    assert plan.call() is None
    assert isinstance(desk.phases.plan(second, Phase.NOTIFY_DB), InLane)


def test_each_queue_of_a_flows_steps_is_to_notify(desk: Desk) -> None:
    desk.store("b", queues=("a", "b__x", "b__y"))
    desk.together()
    plan = desk.phases.plan(desk.specs[1], Phase.NOTIFY_DB)
    assert isinstance(plan, InLane)
    plan.call(InterruptScope())
    assert desk.stored.enabled == ["b__x", "b__y"]


class Theirs(pgflow.Flow):
    """Its definition is the user's code."""


@pytest.mark.parametrize(
    "module", [Theirs("theirs"), "shop:order", object(), Theirs], ids=["derived", "path", "object", "class"]
)
def test_what_may_hang_is_not_called_at_once(module: object) -> None:
    (spec,) = module_specs((module,), ())
    phases = RegistrationPhases(FlowRegistry([spec]), cast("Any", None), cast("Any", None), None, throttle_ms=0)
    assert isinstance(spec, ModuleSpec)
    assert isinstance(phases.plan(spec, Phase.REGISTRY), OnOwnThread)
    assert isinstance(phases.plan(spec, Phase.WORKER), Together)
