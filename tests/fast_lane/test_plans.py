"""Plans that a session made while there was next to nothing hold when there is much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.task import Outcome, OutcomeKind
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.support.database import NoScope, opened
from tests.support.starters import echo_job

MANY = 2000
BATCH = 5

# By what has committed, as the server counts it.
_READ = """
select sum(pg_stat_get_tuples_fetched(i.indexrelid) + pg_stat_get_tuples_returned(i.indexrelid))
from pg_index i where i.indrelid = 'pgflow.step_tasks'::regclass
"""


@pytest.fixture
def db(database: str) -> Iterator[Database]:
    """With one session, and nobody who analyzes a table meanwhile."""
    with psycopg.connect(database, autocommit=True) as admin:
        for table in ("pgflow.step_tasks", "pgflow.step_states", "pgflow.runs"):
            admin.execute(f"alter table {table} set (autovacuum_enabled = off)".encode())
    with opened(database, pool_size=1) as made:
        yield made


def _read(db: Database) -> int:
    """How many entries and rows of tasks have been read by indexes."""

    def read(conn: Any) -> int:
        conn.execute("select pg_stat_force_next_flush()")
        (count,) = conn.execute(_READ).fetchone()
        return int(count)

    return db.call(read)


def test_a_claim_reads_no_more_of_the_tasks_for_what_is_queued_since(db: Database, database: str) -> None:
    store, flows, worker = PostgresTaskStore(db), PostgresFlowStore(db, db.clock), uuid4()
    job, scope = echo_job(), NoScope()
    definition = flows.compile(definition_of(job), scope).definition
    flows.register_workers([(worker, job.slug)], scope)
    with pgflow.PgflowClient(database) as client:
        client.enqueue(job, 0)
        tasks = store.claim(definition, worker, 1, scope).tasks
        assert store.settle([Outcome(task, OutcomeKind.COMPLETED, "1") for task in tasks]) == []
        client.enqueue_many(job, list(range(MANY)))
        before = _read(db)
        assert len(store.claim(definition, worker, BATCH, scope).tasks) == BATCH
    assert _read(db) - before < MANY
