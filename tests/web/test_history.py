"""What the queues did in the last hour: a ring that is fed by who looks."""

from __future__ import annotations

from pgflow_starter.core.readings import QueueDepth
from pgflow_starter.core.views import DoneBefore, FlowQueue
from pgflow_starter.web.history import EVERY, LATELY, SLOTS, History

NOTHING: dict[str, list[int | None]] = {"waiting": [], "done": [], "failed": []}


def look(history: History, at: float, waiting: int = 0, archived: int = 0, failed: int = 0) -> None:
    """At slot number `at`."""
    queue = FlowQueue("order", None, QueueDepth("order", waiting, 0, None), archived)
    history.note([queue], {("order", None): failed}, at * EVERY)


def test_a_queue_in_which_nothing_goes_on_has_no_history() -> None:
    history = History()
    for at in range(5):
        look(history, at, archived=1000, failed=7)
    assert history.of("order") == history.of("nobodys") == NOTHING


def test_a_queue_of_one_step_has_its_failures_only() -> None:
    history = History()
    queues = [FlowQueue("order", step, QueueDepth(f"order__{step}", 1, 0, None), 0) for step in ("pay", "send")]
    for at, of_pay in enumerate((2, 5)):
        failed = {("order", None): of_pay + 1, ("order", "pay"): of_pay, ("order", "send"): 1}
        history.note(queues, failed, at * EVERY)
    assert [history.of(f"order__{step}")["failed"][-1] for step in ("pay", "send")] == [3, 0]


def test_what_was_done_between_two_looks_is_the_later_ones() -> None:
    history = History()
    look(history, 0, waiting=1, archived=100, failed=7)
    look(history, 1, waiting=5, archived=110, failed=8)
    look(history, 1.5, waiting=3, archived=115, failed=8)
    told = history.of("order")
    assert {len(values) for values in told.values()} == {SLOTS}
    assert [values[-3:] for values in told.values()] == [[None, 1, 3], [None, None, 15], [None, None, 1]]


def test_of_the_slot_of_the_first_look_it_is_not_known_what_was_done() -> None:
    history = History()
    look(history, 0, waiting=1, archived=100)
    look(history, 0.5, waiting=1, archived=110, failed=3)
    assert [values[-1] for values in history.of("order").values()] == [1, None, None]


def test_while_nobody_looks_nothing_is_known() -> None:
    history = History()
    look(history, 0, archived=100)
    look(history, 1, archived=110)
    look(history, 4, waiting=2, archived=500)
    look(history, 5, archived=501)
    told = history.of("order")
    assert told["waiting"][-6:] == [0, 0, None, None, 2, 0]
    assert told["done"][-6:] == [None, 10, None, None, None, 1]


def test_what_was_done_lately_is_that_of_two_minutes() -> None:
    history = History()
    look(history, 0, waiting=9, archived=100)
    assert history.done_lately("order") == history.done_lately("nobodys") == 0
    look(history, 1, archived=110)
    look(history, LATELY, archived=115)
    assert history.done_lately("order") == 10  # that of the second look was long before, and of when nobody knows
    look(history, LATELY + 1, archived=122)
    assert history.done_lately("order") == 7


def test_an_hour_later_what_was_is_forgotten() -> None:
    history = History()
    for at in range(SLOTS + 3):
        look(history, at, waiting=9 if at == 1 else 0)
    assert history.of("order") == NOTHING
    look(history, 3 * SLOTS + 1, waiting=4)
    assert history.of("order")["waiting"] == [None] * (SLOTS - 1) + [4]
    assert history.of("order")["done"] == [None] * SLOTS


def test_what_was_done_while_nobody_looked_is_recalled() -> None:
    history = History()
    look(history, 0, waiting=1, archived=100)
    look(history, 1, archived=110)
    look(history, 5, waiting=2, archived=500)
    history.recall([DoneBefore("order", 4, {0: 7, 2: 8}), DoneBefore("nobodys", 9, {1: 1})])
    assert history.of("order")["done"][-6:] == [None, 10, 0, 8, 0, 7]
    look(history, 5.5, waiting=2, archived=501)
    look(history, 6, archived=503)
    assert history.of("order")["done"][-4:] == [8, 0, 8, 2]
    assert history.of("order")["waiting"][-4:] == [None, None, 2, 0]


def test_a_queue_that_was_idle_while_somebody_looked_had_nothing() -> None:
    history = History()
    for at in range(3):
        look(history, at, archived=100)
    look(history, 3, archived=104)
    assert history.of("order")["done"][-4:] == [None, 0, 0, 4]


def test_counts_that_begin_anew_are_no_negative_ones() -> None:
    history = History()
    look(history, 0, waiting=1, archived=100, failed=7)
    look(history, 1, archived=3, failed=0)
    assert [values[-1] for values in history.of("order").values()] == [0, 0, 0]


def test_a_queue_that_nothing_is_told_of_for_a_moment_keeps_its_history() -> None:
    history = History()
    look(history, 0, waiting=1, archived=100)
    look(history, 1, waiting=2, archived=110)
    history.note([], {}, 2 * EVERY)
    look(history, 3, waiting=4, archived=115)
    assert [values[-4:] for values in history.of("order").values()] == [
        [1, 2, None, 4],
        [None, 10, 0, 5],
        [None, 0, 0, 0],
    ]


def test_a_queue_that_is_gone_is_forgotten_in_an_hour() -> None:
    history = History()
    look(history, 0, waiting=1)
    for at in range(1, SLOTS + 1):
        history.note([], {}, at * EVERY)
    assert history.of("order") == NOTHING
