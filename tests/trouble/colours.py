"""Red and green: what a starter, its probes and its log say of a worker in trouble, and of one that is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgflow_starter import Starter, Trouble, web
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually
from tests.trouble.conftest import Admin
from tests.web.client import get

WAIT = 40.0
RIGHTS = """
grant usage on schema pgmq, pgflow, realtime to {role};
grant all on all tables in schema pgmq, pgflow to {role};
grant all on all sequences in schema pgmq, pgflow to {role};
"""


@contextmanager
def worker_role(admin: Admin, database: str) -> Iterator[tuple[str, str]]:
    """A role that owns nothing and may do what a worker does, and how it connects; for the queue of the job `echo`."""
    with running(database, jobs=[echo_job()]) as starter:
        starter.await_ready(WAIT)
    row = admin.execute("select 'worker_' || current_database()").fetchone()
    assert row is not None
    role: str = row[0]
    name = sql.Identifier(role)
    admin.execute(sql.SQL("create role {role} login").format(role=name))
    admin.execute(sql.SQL(RIGHTS).format(role=name))
    try:
        yield role, make_conninfo(database, user=role)
    finally:
        admin.execute(sql.SQL("drop owned by {role}; drop role {role}").format(role=name))


def trouble(starter: Starter) -> Trouble | None:
    (worker,) = starter.workers()
    return worker.trouble


def told_trouble(starter: Starter) -> Trouble:
    """The worker's trouble, once it is told."""
    eventually(lambda: trouble(starter) is not None, WAIT)
    found = trouble(starter)
    assert found is not None
    return found


def becomes_red(starter: Starter, says: str) -> Trouble:
    """Not ready, the reason at the module, and 503."""
    eventually(lambda: not starter.ready(), WAIT)
    (module,) = starter.status().modules
    assert (module.status, module.phase, starter.healthy()) == ("retrying", "worker", False)
    assert module.last_error is not None
    assert says in module.last_error.reason
    with web.serve(starter, ":0") as server:
        for probe in ("/healthz", "/readyz"):
            answer = get(server.url, probe)
            assert answer.status == 503
            assert says in answer.text
    found = trouble(starter)
    assert found is not None
    assert found.scope == "all"
    return found


def becomes_green(starter: Starter) -> None:
    eventually(lambda: starter.ready() and starter.healthy(), WAIT)
    (module,) = starter.status().modules
    assert (module.status, module.phase, module.last_error) == ("succeeded", None, None)
    assert module.attempts == 1  # by itself
    eventually(lambda: trouble(starter) is None, WAIT)
    with web.serve(starter, ":0") as server:
        assert get(server.url, "/healthz").status == 200


def told(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in record.getMessage() for record in caplog.records if record.name == "pgflow_starter.workers")
