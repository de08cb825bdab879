"""The gatherer: whatever the serving of a batch raises, its place serves the next."""

from __future__ import annotations

from queue import SimpleQueue

import pytest

from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.gatherer import WIDTH, Batch, Counts, Gatherer
from pgflow_starter.threads.lane import Lane
from tests.support.waiting import eventually
from tests.threads.conftest import WAIT


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3)], ids=repr)
def test_a_batch_whose_serving_raises_is_over_and_what_waits_is_served_in_its_place(
    error: BaseException, cache: ThreadCache, caplog: pytest.LogCaptureFixture
) -> None:
    served = SimpleQueue[tuple[int, ...]]()

    def serve(batch: Batch[int]) -> None:
        served.put(batch.items)
        if batch.items[0] == WIDTH:
            gatherer.add(WIDTH + 1)  # it waits for what is under way
        raise error

    gatherer: Gatherer[int] = Gatherer(Lane(cache, WIDTH), serve)
    for item in range(WIDTH + 1):  # each place once, and once more
        gatherer.enter(item)
        assert served.get(timeout=WAIT) == (item,)
    assert served.get(timeout=WAIT) == (WIDTH + 1,)
    eventually(lambda: gatherer.counts() == Counts(0, 0, 0))
    assert caplog.text.count("a call on pgflow-test") == WIDTH + 2
