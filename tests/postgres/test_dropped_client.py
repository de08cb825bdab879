"""A client that nobody closed ends with whoever had it."""

from __future__ import annotations

import gc

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.support.threads import left_over, ours
from tests.support.waiting import eventually

SESSIONS = """
select count(*) from pg_stat_activity where datname = current_database() and application_name = 'pgflow_starter'
"""


def test_its_threads_and_connections_end_with_a_warning(database: str) -> None:
    before = ours()
    clients = [pgflow.PgflowClient(database)]
    with pytest.raises(pgflow.UnknownFlowError):
        clients[0].enqueue("nobody", 1)
    assert ours() - before
    with pytest.warns(ResourceWarning, match="without close"):
        clients.clear()
    assert left_over(before, 5) == []
    with psycopg.connect(database, autocommit=True) as admin:
        eventually(lambda: admin.execute(SESSIONS).fetchone() == (0,))


def test_one_in_a_cycle_that_waits_for_a_database_that_is_away_ends_too() -> None:
    before = ours()
    client = pgflow.PgflowClient("host=127.0.0.1 port=1", patience=0.2)
    client.itself = client  # type: ignore[attr-defined]
    with pytest.raises(pgflow.PgflowError, match="cannot be reached"):
        client.enqueue("nobody", 1)
    del client
    with pytest.warns(ResourceWarning, match="without close"):
        gc.collect()
    assert left_over(before, 5) == []


@pytest.mark.filterwarnings("error")
def test_one_that_was_closed_or_never_used_is_dropped_in_silence(empty_database: str) -> None:
    pgflow.PgflowClient(empty_database)
    with pgflow.PgflowClient(empty_database) as client, pytest.raises(pgflow.PgflowError):
        client.enqueue("nobody", 1)
    del client
    gc.collect()
