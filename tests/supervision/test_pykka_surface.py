"""What of pykka's private surface `pgflow_starter.supervision` leans on.

A test that fails here after an update of pykka: compare pykka's `_actor.py`, `_ref.py`, `_envelope.py` and
`_future.py` with the version before. `supervision/actor.py` has a loop, a start and an end of its own in the place of
pykka's, `supervision/inbox.py` a mailbox and a future, and `supervision/dispatched.py` another start.
"""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

import pykka
from pykka._envelope import Envelope
from pykka.messages import ProxyCall, _ActorStop

from pgflow_starter.supervision import Actor
from pgflow_starter.supervision.inbox import Answer
from tests.supervision.world import PATIENCE

LOOK = "pykka has changed what supervision/actor.py stands in for: compare pykka/_actor.py with the version before"


class Recorded(pykka.ThreadingActor):
    """pykka's own actor; writes down which of its private steps are taken, and what lies in its inbox."""

    use_daemon_thread = True
    steps: SimpleQueue[str]
    envelopes: SimpleQueue[Any]

    def __init__(self, steps: SimpleQueue[str], envelopes: SimpleQueue[Any]) -> None:
        super().__init__()
        self.steps, self.envelopes = steps, envelopes
        put = self.actor_inbox.put

        def recording_put(envelope: Envelope[Any]) -> None:
            envelopes.put(envelope)
            put(envelope)

        self.actor_inbox.put = recording_put  # type: ignore[method-assign] # of this one object

    def _start_actor_loop(self) -> None:
        self.steps.put("_start_actor_loop")
        super()._start_actor_loop()

    def _actor_loop(self) -> None:
        self.steps.put("_actor_loop")
        super()._actor_loop()

    def _handle_receive(self, message: Any) -> Any:
        self.steps.put("_handle_receive")
        return super()._handle_receive(message)

    def _stop(self) -> None:
        self.steps.put("_stop")
        super()._stop()

    def double(self, number: int) -> int:
        """Called through a proxy's message."""
        return 2 * number


def _drained(queue: SimpleQueue[Any]) -> list[Any]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


def test_pykka_takes_the_steps_that_ours_takes_in_its_place() -> None:
    steps, envelopes = SimpleQueue[str](), SimpleQueue[Any]()
    ref = Recorded.start(steps, envelopes)
    assert ref.ask(ProxyCall(attr_path=("double",), args=(21,), kwargs={}), timeout=PATIENCE) == 42
    assert ref.stop(timeout=PATIENCE)
    assert _drained(steps) == ["_start_actor_loop", "_actor_loop", "_handle_receive", "_handle_receive", "_stop"], LOOK
    asked, stop = _drained(envelopes)
    assert {type(asked), type(stop)} == {Envelope}, LOOK
    assert isinstance(asked.reply_to, pykka.Future)
    assert isinstance(stop.message, _ActorStop), "a stop is no _ActorStop any more: see supervision/inbox.py"
    assert not ref.is_alive()


def test_ours_overrides_of_pykkas_names_these_and_no_other_by_accident() -> None:
    ours = {name for name in vars(Actor) if name in dir(pykka.ThreadingActor) and not name.startswith("__")}
    steps = {"_start_actor_loop", "_actor_loop", "_stop", "_create_actor_inbox", "_create_future"}
    assert ours - {"_abc_impl"} == {*steps, "start", "use_daemon_thread"}, LOOK
    assert "_handle_receive" in dir(pykka.ThreadingActor), LOOK


def test_a_ref_goes_by_the_inbox_the_future_and_the_flag_that_ours_replaces() -> None:
    actor = Actor()
    ref = actor.actor_ref
    assert ref.actor_inbox is actor.actor_inbox
    assert isinstance(ref.ask("a message", block=False), Answer)
    assert ref.is_alive()
    actor.actor_stopped.set()
    assert not ref.is_alive()
    actor.abandon()


def test_an_envelope_holds_a_message_and_whom_to_answer_and_no_more() -> None:
    answer = Answer()
    assert Envelope("a message").reply_to is None
    envelope = Envelope("a message", reply_to=answer)
    assert (envelope.message, envelope.reply_to) == ("a message", answer)
    assert set(Envelope.__slots__) == {"message", "reply_to"}, "compare pykka/_envelope.py with supervision/inbox.py"


def test_a_future_with_a_hook_gets_what_the_hook_returns() -> None:
    answer = Answer()
    answer.set_get_hook(lambda timeout: timeout)
    assert answer.get(timeout=3) == 3, "Answer.get reads pykka's _get_hook: compare pykka/_future.py"
