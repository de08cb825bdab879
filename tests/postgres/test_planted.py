"""What somebody has planted in `public` is not run by whoever sets a database up, nor by what is laid down there."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgflow_starter import postgres
from pgflow_starter.postgres.setup import admin, core_package
from pgflow_starter.postgres.setup.admin import queue_lock
from pgflow_starter.postgres.setup.install import check, install
from pgflow_starter.postgres.stores import pgmq
from pgflow_starter.postgres.stores.claiming import Messages
from pgflow_starter.postgres.stores.features import detect
from pgflow_starter.postgres.stores.flows import compile_flow
from pgflow_starter.postgres.stores.queues import Queue
from tests.support.planted import caught, functions_in, plant
from tests.support.starters import echo_job, running


@contextmanager
def plain_role(conninfo: str, *rights: str) -> Iterator[str]:
    """The connection string of a role that has these rights and no others, dropped in the end."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        name = f"plain_{connection.info.dbname}"
        connection.execute(f"create role {name} login".encode())
        try:
            for right in rights:
                connection.execute(f"grant {right} to {name}".encode())
            yield make_conninfo(conninfo, user=name)
        finally:
            connection.execute(f"drop owned by {name} cascade; drop role {name}".encode())


@pytest.fixture
def sown(empty_database: str) -> Iterator[str]:
    """A database with nothing in it but what a plain role has planted: whatever setting it up may call."""
    modules = [
        importlib.import_module(m.name) for m in pkgutil.walk_packages(postgres.__path__, "pgflow_starter.postgres.")
    ]
    texts = [text for module in modules for text in vars(module).values() if isinstance(text, str)]
    texts += [migration.sql.lower() for migration in core_package.migrations().migrations]
    with plain_role(empty_database, "create on schema public") as gardener:
        plant(gardener, functions_in(texts))
        yield empty_database


def test_installing_and_checking_runs_nothing_that_somebody_has_planted(
    sown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert install(sown).inventory == check(sown)
    with queue_lock(sown, "some"):
        pass
    assert caught(sown) == []
    monkeypatch.setattr(admin, "OWN_PATH", "select")  # what it would have been
    with psycopg.connect(sown, autocommit=True) as connection:
        connection.execute("drop schema pgflow cascade")
    install(sown)
    assert ("unnest(text[])", "postgres") in caught(sown)


WITHOUT_CONDITION = """
alter function pgmq.read(text, integer, integer, jsonb) rename to conditional_read;
create function pgmq.read(queue_name text, vt integer, qty integer) returns setof pgmq.message_record
language sql as $$ select * from pgmq.conditional_read($1, $2, $3, '{}') $$
"""
LOOK_ALIKES = [
    f"create function {signature} returns {result} language plpgsql as $$ begin raise exception 'planted'; end $$"
    for kind in ("smallint", "bigint")
    for signature, result in [
        (f"pgmq.read(queue_name text, vt {kind}, qty {kind})", "setof pgmq.message_record"),
        (f"pgmq.read(queue_name varchar, vt integer, qty {kind})", "setof pgmq.message_record"),
        (f"pgmq.enable_notify_insert(queue_name text, throttle_interval_ms {kind})", "void"),
    ]
]


@pytest.mark.parametrize("has_condition", [True, False])
def test_a_look_alike_in_the_schema_of_pgmq_is_not_preferred_by_our_calls(database: str, has_condition: bool) -> None:
    job = echo_job()
    with plain_role(database, "usage, create on schema pgmq") as planter:
        with psycopg.connect(planter, autocommit=True) as connection:
            for statement in LOOK_ALIKES:
                connection.execute(statement.encode())
        with psycopg.connect(database, autocommit=True) as connection:
            if not has_condition:
                connection.execute(WITHOUT_CONDITION)
            compile_flow(connection, job.__pgflow_definition__())
            assert pgmq.enable_notify(connection, "echo", 250)
        with running(database, jobs=[job], signal_strategy="notify") as starter:
            starter.await_ready(10)
            assert starter.client.enqueue(job, 7).wait(10).output == {"echo": 7}
            assert [w.trouble for w in starter.workers()] == [None]
        with psycopg.connect(database) as connection:
            messages = Messages(job.__pgflow_definition__(), uuid4(), Queue("echo"), detect(connection))
            assert messages.read(connection, 5) == []


PATHLESS = """
select p.oid::regprocedure::text from pg_proc p
where pronamespace in ('pgmq'::regnamespace, 'pgflow'::regnamespace) and prokind = 'f'
  and not coalesce(proconfig::text like '%search_path=%', false)
"""
CALLABLE = """
select p.oid::regprocedure::text from pg_proc p
where pronamespace = 'pgflow'::regnamespace and prosecdef
  and (proacl is null or exists (select from aclexplode(proacl) where grantee = 0))
"""


def test_what_is_laid_down_looks_into_no_path_of_its_caller_nor_lends_everybody_its_owners_rights(
    database: str,
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        assert connection.execute(PATHLESS).fetchall() == []
        assert connection.execute(CALLABLE).fetchall() == []
        start = "select pgflow.start_flow_with_states('some', '1')"
        connection.execute("select pgflow.create_flow('some'); select pgflow.add_step('some', 'one')")
        with (
            plain_role(database, "usage on schema pgflow") as stranger,
            psycopg.connect(stranger) as other,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="start_flow_with_states"),
        ):
            other.execute(start)
        assert connection.execute(start).fetchone() is not None


def test_what_others_have_laid_down_stays_as_it_is(database: str) -> None:
    theirs = (
        "create or replace function pgflow.get_run_with_states(run_id uuid) returns jsonb language sql"
        " as 'select null::jsonb'"
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"{theirs} security definer; grant execute on function pgflow.get_run_with_states to public")
        install(database)
        assert connection.execute(PATHLESS).fetchall() == connection.execute(CALLABLE).fetchall() != []
