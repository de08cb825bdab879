"""A task that ends just when its worker's time is up."""

from __future__ import annotations

from queue import SimpleQueue

import pytest

from pgflow_starter.core.task import Task
from pgflow_starter.worker.flights import Flight, Flights
from tests.support.pauses import Between
from tests.worker.outbox_rig import task

WAIT = 30.0


@pytest.mark.parametrize("given_up", [False, True], ids=["its outcome", "its timeout"])
def test_a_task_that_has_landed_is_told_of_before_who_surrenders_the_rest_can_miss_it(given_up: bool) -> None:
    flights, flight, said = Flights(), Flight(task(), 0.0), SimpleQueue[str]()
    surrendered = SimpleQueue[tuple[list[Task], bool]]()
    flights.add(flight)
    assert flights.begin(0.0, 1) is flight
    with Between(Flights.land, "flight.land()", "say()") as pair:
        pair.beside(lambda: flights.land(flight, lambda: said.put("said"), ended=not given_up))
        pair.reached()
        pair.beside(lambda: surrendered.put((flights.surrender(), said.empty())))
        pair.go_on()
        assert surrendered.get(timeout=WAIT) == ([], False)
