"""Proofs whose sender never says what became of them."""

from __future__ import annotations

from collections.abc import Callable

from pgflow_starter.postgres.listening import proof
from pgflow_starter.testing import ManualClock


def test_a_sender_that_never_calls_back_is_asked_again_and_its_late_word_does_no_harm() -> None:
    clock = ManualClock()
    asked: list[Callable[[bool], None]] = []
    p = proof.Proof("c", clock, lambda channel, sent: asked.append(sent), lambda: None)
    p.begin()
    for rounds in (1, 2, 3):
        assert len(asked) == rounds
        p.hasten()
        clock.advance(proof.ASKED_TIMEOUT - 1)
        assert not p.overdue()
        assert len(asked) == rounds
        patience = p.patience()
        assert patience is not None
        clock.advance(patience)
        assert not p.overdue()
    p.arrived()
    assert p.heard
    asked[0](True)
    clock.advance(proof.TIMEOUT)
    assert not p.overdue()
