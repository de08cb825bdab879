"""What the supervisor's tests are played with: a journal to wait on, an actor that does as it is told, and a handle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pykka
from pykka.messages import ProxyCall

from pgflow_starter.supervision import (
    Actor,
    ChildSpec,
    DynamicSupervisorActor,
    Restart,
    Strategy,
    SupervisorActor,
    SupervisorFlags,
)
from pgflow_starter.supervision.dispatched import DispatchedActor
from pgflow_starter.supervision.link import Link
from pgflow_starter.testing import ManualClock
from pgflow_starter.threads.dispatcher import Dispatcher

PATIENCE = 10.0
"""Seconds after which a test stops waiting for what never came."""

Deed = Callable[["Acting"], Any]


class Journal:
    """What happened, in order. Waiting for an entry takes the place of sleeping. Thread-safe."""

    def __init__(self) -> None:
        self._written = threading.Condition()
        self._entries: list[str] = []

    def add(self, entry: str) -> None:
        with self._written:
            self._entries.append(entry)
            self._written.notify_all()

    def entries(self, *verbs: str) -> list[str]:
        """All entries, or those that end with one of the verbs."""
        with self._written:
            return [e for e in self._entries if not verbs or e.rpartition(" ")[2] in verbs]

    def count(self, entry: str) -> int:
        return self.entries().count(entry)

    def await_entry(self, entry: str, count: int = 1) -> None:
        self.await_any({entry}, count)

    def await_any(self, wanted: set[str], count: int) -> None:
        """Wait until entries that are among the wanted were written so often."""
        with self._written:
            if not self._written.wait_for(lambda: sum(e in wanted for e in self._entries) >= count, PATIENCE):
                raise AssertionError(f"{wanted} were not written {count} times: {self._entries}")

    def forget(self) -> None:
        with self._written:
            self._entries.clear()


class Stage:
    """One test's journal, clock, named events and plans. All events are set when the test ends."""

    def __init__(self, dispatcher: Dispatcher | None = None) -> None:
        self.dispatcher = dispatcher
        self.journal = Journal()
        self.clock = ManualClock()
        self._events: dict[str, threading.Event] = {}
        self._closed = False
        self.plans: dict[str, list[Deed | BaseException | None]] = {}
        self.supervisors: list[Supervised] = []

    def event(self, name: str) -> threading.Event:
        """The event of that name; set, once the test has ended."""
        event = self._events.setdefault(name, threading.Event())
        if self._closed:
            event.set()
        return event

    def wait(self, name: str) -> None:
        """Block on a named event, as a child that hangs does: until it is set. The journal tells that it began to."""
        self.journal.add(f"waits for {name}")
        self.event(name).wait()

    def plan(self, where: str, *deeds: Deed | BaseException | None) -> None:
        """What the next calls of `where` ("a on_start") do: raise, do something, or (None) nothing."""
        self.plans.setdefault(where, []).extend(deeds)

    def worker(self, child_id: str, restart: Restart | str = Restart.PERMANENT, shutdown: float = 5.0) -> ChildSpec:
        """The spec of a puppet."""
        start = Puppet.start if self.dispatcher is None else Dispatched.start
        return ChildSpec(child_id, partial(start, child_id, self), Restart(restart), shutdown)

    def supervise(
        self,
        *children: ChildSpec,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        cls: type[SupervisorActor] = SupervisorActor,
        **options: Any,
    ) -> Supervised:
        """Start a supervisor on the manual clock. Raises what makes its start fail."""
        flags = SupervisorFlags(strategy, max_restarts, max_seconds)
        options = {"clock": self.clock, "flags": flags, "watcher": self._watch, **options}
        supervised = Supervised(self, partial(cls.start, "top", children, **options))
        self.supervisors.append(supervised)
        return supervised

    def dynamic(self, *children: ChildSpec, **options: Any) -> Supervised:
        """Start a dynamic supervisor on the manual clock."""
        return self.supervise(*children, cls=DynamicSupervisorActor, **options)

    def close(self) -> None:
        self._closed = True  # first: `event` looks after adding one
        for event in list(self._events.values()):
            event.set()
        for supervised in self.supervisors:
            supervised.ref.stop()

    def _watch(self, child_id: str, reason: BaseException | None) -> None:
        self.journal.add(f"{child_id} {'ended' if reason is None else 'died'}")


class Acting(Actor):
    """An actor that writes its life into the journal, and whose messages are functions that it calls with itself."""

    id: str
    stage: Stage

    def appear(self, puppet_id: str, stage: Stage) -> None:
        """In the constructor."""
        self.id = puppet_id
        self.stage = stage
        self._play("constructor")

    def on_start(self) -> None:
        self._play("on_start")
        self.stage.journal.add(f"{self.id} started")

    def on_stop(self) -> None:
        self._play("on_stop")
        self.stage.journal.add(f"{self.id} stopped")

    def on_failure(self, *_: Any) -> None:
        self.stage.journal.add(f"{self.id} failed")

    def cancel(self) -> None:
        self._play("cancel")
        self.stage.journal.add(f"{self.id} cancelled")

    def on_receive(self, message: Deed) -> Any:
        return message(self)

    def _play(self, where: str) -> None:
        deeds = self.stage.plans.get(f"{self.id} {where}")
        deed = deeds.pop(0) if deeds else None
        if isinstance(deed, BaseException):
            raise deed
        if deed is not None:
            deed(self)


class Puppet(Acting):
    """One with a thread of its own."""

    thread_name = "pgflow-puppet"

    def __init__(self, puppet_id: str, stage: Stage) -> None:
        super().__init__()
        self.appear(puppet_id, stage)


class Dispatched(Acting, DispatchedActor):
    """One without."""

    stops_slowly = True

    def __init__(self, puppet_id: str, stage: Stage) -> None:
        assert stage.dispatcher is not None
        DispatchedActor.__init__(self, stage.dispatcher)
        self.appear(puppet_id, stage)


class Listed(Puppet):
    """A puppet that is in pykka's process-wide registry."""

    registered = True


class Supervised:
    """A running supervisor and how it ended. Its parent is the test."""

    def __init__(self, stage: Stage, start: Callable[[], Any]) -> None:
        self._stage = stage
        self.link = Link(lambda link, reason: None)
        self.ref = self.link.start(start)

    def ask(self, method: str, *args: Any) -> pykka.Future[Any]:
        return self.ref.ask(ProxyCall(attr_path=(method,), args=args, kwargs={}), block=False)

    def call(self, method: str, *args: Any) -> Any:
        return self.ask(method, *args).get(timeout=PATIENCE)

    def child(self, child_id: str) -> pykka.ActorRef[Any]:
        ref = self.call("child", child_id)
        assert isinstance(ref, pykka.ActorRef), f"{child_id} does not run"
        return ref

    def alive(self) -> list[str]:
        """The ids of the children that run, in start order."""
        return [info.id for info in self.call("which_children") if info.alive]

    def known(self) -> list[str]:
        """The ids of all children, in start order."""
        return [info.id for info in self.call("which_children")]

    def restarts(self) -> dict[str, int]:
        return {info.id: info.restarts for info in self.call("which_children")}

    def kill(self, child_id: str, error: BaseException | None = None) -> None:
        """Let a child die in a told message and wait until the supervisor has dealt with it, or has given up."""
        self.after_end_of(child_id, lambda ref: ref.tell(raising(error or ValueError(f"{child_id} is dead"))))

    def after_end_of(self, child_id: str, cause: Callable[[pykka.ActorRef[Any]], object]) -> None:
        """Cause the end of a child and wait until the supervisor has dealt with it, or has given up."""
        journal = self._stage.journal
        seen = sum(map(journal.count, _ends(child_id)))
        cause(self.child(child_id))
        self.await_end_of(child_id, seen + 1)

    def await_end_of(self, child_id: str, count: int = 1) -> None:
        """Wait until the supervisor has dealt with so many ends of a child."""
        self._stage.journal.await_any(_ends(child_id), count)
        self.settle()

    def settle(self) -> None:
        """Wait until the supervisor has taken all messages that it was sent before, or has ended."""
        try:
            self.call("count_children")
        except pykka.ActorDeadError:
            assert self.link.wait_ended(PATIENCE)

    def await_death(self) -> BaseException:
        """Wait until the supervisor has died; of what."""
        assert self.link.wait_ended(PATIENCE), "the supervisor lives"
        assert self.link.reason is not None, "the supervisor was stopped"
        return self.link.reason


def _ends(child_id: str) -> set[str]:
    return {f"{child_id} died", f"{child_id} ended"}


def raising(error: BaseException) -> Deed:
    """A message whose handler raises."""

    def deed(_: Acting) -> None:
        raise error

    return deed


def failing_at(event: str) -> Deed:
    """What waits for the stage's event of that name and raises then."""

    def deed(puppet: Acting) -> None:
        puppet.stage.wait(event)
        raise ValueError("not yet")

    return deed


def waiting(event: str) -> Deed:
    """A message whose handler blocks on the stage's event of that name."""
    return lambda puppet: puppet.stage.wait(event)


def saying(answer: object) -> Deed:
    """A message whose handler returns a value."""
    return lambda _: answer
