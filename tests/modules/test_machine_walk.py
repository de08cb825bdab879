"""A random walk through the transition table of a module's registration."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pgflow_starter.core.state import (
    ModuleStatus,
)
from pgflow_starter.modules import machine
from pgflow_starter.modules.machine import AttemptBegan, AttemptEnded, RunPhase, Schedule, Step
from tests.modules.machine_rig import BY_TOKEN, FIRST, MESSAGES, NOW, T0


class Walk(RuleBasedStateMachine):
    """A machine, the thread that runs its phase, and its timers, met by messages in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.m, self.now = FIRST, T0
        self.thread: int | None = None
        self.told_overdue = False
        self.timers: list[int] = []
        self.begun = self.open = 0

    def apply(self, step: Step) -> None:
        before, (self.m, effects) = self.m, step
        assert self.m.state.attempts >= before.state.attempts
        for effect in effects:
            match effect:
                case RunPhase(_, token):
                    assert self.thread is None, "two threads for one module"
                    self.thread, self.told_overdue = token, False
                case Schedule(_, token):
                    self.timers.append(token)
                case AttemptBegan():
                    self.begun, self.open = self.begun + 1, self.open + 1
                case AttemptEnded():
                    self.open -= 1

    @rule(message=st.sampled_from(["retry", "back", "lost", "retired", "troubled", "over"]))
    def somebody_asks(self, message: str) -> None:
        self.apply(MESSAGES[message](self.m))

    @rule(data=st.data())
    @precondition(lambda self: self.timers)
    def a_timer_fires(self, data: st.DataObject) -> None:
        token = self.timers.pop(data.draw(st.integers(0, len(self.timers) - 1)))
        self.apply(machine.timer_fired(self.m, token, NOW))

    @rule(result=st.sampled_from(["done", "transient", "permanent"]))
    @precondition(lambda self: self.thread is not None)
    def the_thread_ends(self, result: str) -> None:
        token, self.thread = self.thread or 0, None
        self.apply(BY_TOKEN[result](self.m, token))

    @rule()
    @precondition(lambda self: self.thread is not None and not self.told_overdue)
    def the_thread_is_overdue(self) -> None:
        self.told_overdue = True
        self.apply(BY_TOKEN["overdue"](self.m, self.thread or 0))

    @rule(message=st.sampled_from(sorted(BY_TOKEN)), age=st.integers(1, 3))
    def something_stale_comes(self, message: str, age: int) -> None:
        before = self.m
        self.apply(BY_TOKEN[message](self.m, self.m.token - age))
        assert self.m == before

    @invariant()
    def the_counts_are_those_of_the_effects(self) -> None:
        assert self.m.state.attempts == self.begun
        assert self.open == (self.m.state.phase is not None and not self.m.troubled)

    @invariant()
    def it_is_busy_as_long_as_there_is_a_thread(self) -> None:
        assert self.m.busy == (self.thread is not None)
        assert self.m.state.phase is None or self.m.troubled or self.thread == self.m.token

    @invariant()
    def what_is_terminal_is_at_rest(self) -> None:
        m = self.m
        if m.state.status.terminal and m.state.phase is None:
            assert not any((m.busy, m.another_asked, m.awaits_thread, m.state.next_attempt_at))
            assert (m.state.last_error is None) is (m.state.status is ModuleStatus.SUCCEEDED)
            assert all(machine.timer_fired(m, token, NOW) == (m, ()) for token in self.timers)

    @invariant()
    def what_waits_will_go_on(self) -> None:
        m = self.m
        if m.waiting:
            assert m.token in self.timers or (m.busy and m.awaits_thread)
        assert m.state.next_attempt_at is None or m.waiting

    def teardown(self) -> None:
        """From anywhere, once all goes well, the module converges within a few steps."""
        for _ in range(8):
            if self.thread is not None:
                token, self.thread = self.thread, None
                self.apply(BY_TOKEN["done"](self.m, token))
            elif self.m.waiting:
                self.apply(machine.timer_fired(self.m, self.m.token, NOW))
            self.apply(machine.untroubled(self.m, NOW))
        assert self.m.state.status.terminal or self.begun == 0


TestWalk = Walk.TestCase
