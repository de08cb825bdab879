"""Runs that have ended are told by one thread at a time, and none is left when somebody was leaving."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from pgflow_starter.core.runs import EndedRun
from pgflow_starter.worker.ended_runs import MOST, EndedRuns


def run(number: int) -> EndedRun:
    return EndedRun(UUID(int=number), "shop", "completed", 1.0, 2.0, "{}")


class Rig:
    """What was told, and who was called to tell it."""

    def __init__(self) -> None:
        self.told: list[EndedRun] = []
        self.called: list[Callable[[], object]] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.ended = EndedRuns(self._tell, self.called.append)

    def _tell(self, runs: Sequence[EndedRun]) -> None:
        self.told += runs
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()


def test_what_has_ended_is_told_by_who_is_called_for_it() -> None:
    rig = Rig()
    rig.ended.add([])
    assert rig.called == []
    rig.ended.add([run(1), run(2)])
    assert rig.told == []
    rig.called.pop()()
    assert rig.told == [run(1), run(2)]


def test_nobody_else_is_called_while_one_is_on_the_way() -> None:
    rig = Rig()
    for number in range(3):
        rig.ended.add([run(number)])
    (called,) = rig.called
    called()
    assert rig.told == [run(0), run(1), run(2)]
    rig.ended.add([run(3)])
    rig.called.pop()()
    assert rig.told[3:] == [run(3)]


def test_who_tells_tells_what_ends_meanwhile_as_well_and_nobody_else_is_called() -> None:
    rig = Rig()
    rig.ended.add([run(1)])
    rig.meanwhile = lambda: rig.ended.add([run(2)])
    rig.called.pop()()
    assert (rig.told, rig.called) == ([run(1), run(2)], [])


def test_while_somebody_hangs_no_other_does_and_no_more_are_kept_than_so_many(release: threading.Event) -> None:
    rig, hangs = Rig(), threading.Event()

    def hang() -> Any:
        hangs.set()
        release.wait()

    rig.meanwhile = hang
    rig.ended.add([run(0)])
    first = rig.called.pop()
    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert hangs.wait(10)
        rig.ended.add([run(n) for n in range(1, MOST + 5)])
        first()  # who was called before it was known that somebody is at it
        assert (rig.told, rig.called) == ([run(0)], [])
    finally:
        release.set()
        thread.join()
    assert rig.told == [run(0), *(run(n) for n in range(5, MOST + 5))]
