"""How runs ended is told to the worker whose task was their last, and to no other."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.task import Outcome, OutcomeKind
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.run_ends import PostgresRunEnds
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.support.database import NoScope, opened
from tests.support.starters import echo_job


@pytest.mark.parametrize(
    ("kind", "status"), [(OutcomeKind.COMPLETED, "completed"), (OutcomeKind.FAILED_FOR_GOOD, "failed")]
)
def test_who_was_taken_for_dead_and_comes_to_the_same_later_ended_nothing(
    database: str, kind: OutcomeKind, status: str
) -> None:
    job, scope, late, quick = echo_job(), NoScope(), uuid4(), uuid4()
    with (
        opened(database) as db,
        pgflow.PgflowClient(database) as client,
        psycopg.connect(database, autocommit=True) as admin,
    ):
        flows, tasks = PostgresFlowStore(db, db.clock), PostgresTaskStore(db)
        definition = flows.compile(definition_of(job), scope).definition
        flows.register_workers([(late, job.slug), (quick, job.slug)], scope)
        client.enqueue(job, 1)
        (first,) = tasks.claim(definition, late, 1, scope).tasks
        admin.execute("update pgflow.workers set last_heartbeat_at = '2000-01-01' where worker_id = %s", (late,))
        assert tasks.recover_stalled([job.slug], [quick], 0.0) == 1
        (again,) = tasks.claim(definition, quick, 1, scope).tasks
        for task in (again, first):
            assert tasks.settle([Outcome(task, kind, error="E: x")]).ignored == []
        told = PostgresRunEnds(db)
        assert told.ended_by([first.key], [quick]) == {(job.slug, status): 1}
        assert told.ended_by([first.key], [late]) == {}
