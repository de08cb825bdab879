"""Claims that take longer than they may are made smaller, down to one with more time, and grow again."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.worker.claim_size import LONGEST, ClaimSize
from tests.support.proxy import Proxy
from tests.support.starters import running
from tests.trouble.conftest import LIMIT_MS

WAIT = 60.0
USUAL = 10


def test_as_long_as_nothing_is_too_slow_it_is_what_is_wanted() -> None:
    size = ClaimSize(USUAL)
    size.done(3600)
    assert (size.of(7), size.of(100), size.answers, size.small) == (7, USUAL, 1, False)


def test_a_claim_that_took_too_long_is_made_again_with_a_quarter_and_one_of_one_with_twice_the_time() -> None:
    size = ClaimSize(USUAL)
    seen = []
    for _ in range(5):
        size.exceeded(size.of(USUAL), 10.0 * size.answers)
        seen.append((size.of(USUAL), size.answers))
    assert seen == [(2, 1), (1, 1), (1, 2), (1, 4), (1, 8)]
    for _ in range(9):
        size.exceeded(1, 10.0 * size.answers)
    assert size.answers == LONGEST


def test_it_grows_again_by_claims_that_are_quick_beside_what_was_too_long_and_by_no_others() -> None:
    size = ClaimSize(USUAL)
    size.exceeded(10, 10.0)
    size.exceeded(2, 10.0)
    size.exceeded(1, 10.0)
    size.done(9.0)  # of twenty
    assert (size.of(USUAL), size.answers) == (1, 2)
    seen = []
    while size.small:
        size.done(2.0)
        seen.append((size.of(USUAL), size.answers))
    assert seen == [(1, 1), (2, 1), (4, 1), (8, 1), (10, 1)]


def test_big_inputs_over_a_slow_link_get_done_and_one_warning_says_why_it_takes_so_long(
    own_server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    @pgflow.job("big")
    def big(text: str, ctx: pgflow.TaskContext) -> Any:
        return len(text)

    with Proxy(own_server) as proxy, pgflow.PgflowClient(own_server.conninfo()) as direct:
        runs = [direct.enqueue(big, "x" * 1_000_000) for _ in range(8)]
        proxy.throttle(2_000_000)
        with running(proxy.conninfo(tcp_user_timeout=str(LIMIT_MS), connect_timeout="5"), jobs=[big]):
            assert [run.wait(WAIT).result for run in runs] == [1_000_000] * 8
            proxy.accept()
    told = [r for r in caplog.records if "took too long" in r.getMessage()]
    assert [r.levelno for r in told] == [logging.WARNING]
