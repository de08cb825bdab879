"""Flows deleted by a client, beside others of the same queue, with rows of other people's tables, on every core."""

from __future__ import annotations

import pytest
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter.postgres.setup.deleting import delete_flow, holdings
from tests.cores.stand_in import Admin
from tests.cores.test_changing import fan, rows
from tests.support.commands import call
from tests.support.starters import echo_job, running

# Two flows of one queue: each has a run that is done and one that is not.
NAMESAKES = """
select pgflow.create_flow(slug), pgflow.add_step(slug, 'pickUp') from unnest('{shipOut,shipout}'::text[]) slug;
select pgflow.start_flow(slug, to_jsonb(slug)) from unnest('{shipOut,shipout,shipOut,shipout}'::text[]) slug;
select pgmq.archive('shipout', message_id) from pgflow.step_tasks t
where message_id in (select max(message_id) from pgflow.step_tasks group by flow_slug);
"""
LEFT = """
select (select array_agg(distinct message ->> 'flow_slug') || count(*)::text from pgmq.q_shipout),
       (select array_agg(distinct message ->> 'flow_slug') || count(*)::text from pgmq.a_shipout),
       (select array_agg(distinct flow_slug) || count(*)::text from pgflow.runs)
"""
SHOP = """
create schema shop;
create table shop.orders (n int primary key, run_id uuid references pgflow.runs on delete cascade);
create table shop.notes (run_id uuid, step text, n int references shop.orders on delete cascade,
                         foreign key (run_id, step) references pgflow.step_states (run_id, step_slug) on delete cascade,
                         run uuid references pgflow.runs (run_id) on delete cascade);
create table shop.kept (run_id uuid references pgflow.runs on delete set null);
create table shop.parted (run_id uuid references pgflow.runs on delete cascade) partition by hash (run_id);
create table shop.part partition of shop.parted for values with (modulus 1, remainder 0);
create table pgflow.mine (slug text references pgflow.flows on delete cascade);
select pgflow.create_flow(slug), pgflow.add_step(slug, 'pay') from unnest('{sale,other}'::text[]) slug;
select pgflow.start_flow(slug, '1') from unnest('{sale,sale,sale,other}'::text[]) slug;
insert into shop.orders select row_number() over (), run_id from pgflow.runs;
insert into shop.notes select run_id, 'pay', null, null from pgflow.runs;
insert into shop.notes select null, null, null, run_id from pgflow.runs where flow_slug = 'sale' limit 1;
insert into shop.kept select run_id from pgflow.runs;
insert into shop.parted select run_id from pgflow.runs;
insert into pgflow.mine values ('sale'), ('other');
"""
TABLES = ("shop.orders", "shop.notes", "shop.kept", "shop.parted", "pgflow.mine")


def test_a_client_deletes_a_flow_with_all_it_has_and_no_other(database: str, admin: Admin) -> None:
    flow, echo = fan(max_attempts=1), echo_job()
    with running(database, flows=[flow], jobs=[echo]) as starter:
        starter.await_ready(20)
        runs = [starter.client.start_flow(flow, given) for given in (2, "no number")]
        assert [run.wait(20).status for run in runs] == ["completed", "failed"]
        assert starter.client.enqueue(echo, 1).wait(20).status == "completed"
    with pgflow.PgflowClient(database) as client:
        unfinished, before = client.start_flow("fan", 3), rows(admin, "echo")
        assert client.delete_flow(flow) == 3
        assert (rows(admin, "fan"), rows(admin, "echo")) == ({}, before)
        with pytest.raises(pgflow.RunNotFoundError):
            unfinished.refresh()
        assert client.delete_flow("echo") == 1
        for gone in (flow, "echo", "Echo", "écho"):
            with pytest.raises(pgflow.UnknownFlowError, match="is not in "):
                client.delete_flow(gone)
        assert client.start_flow(flow, 3).status == "started"


def counts(admin: Admin) -> dict[str, int]:
    found = {table: admin.execute(f"select count(*) from {table}".encode()).fetchone() for table in TABLES}
    return {table: int(str(row[0])) for table, row in found.items() if row}


@pytest.mark.parametrize(("slug", "other"), [("shipOut", "shipout"), ("shipout", "shipOut")])
def test_of_a_queue_that_another_flow_has_too_its_messages_alone_go(
    database: str, admin: Admin, slug: str, other: str
) -> None:
    admin.execute(NAMESAKES)
    found = holdings(database, slug)
    assert (found.queued, found.archived, found.runs, found.namesakes) == (1, 1, {"started": 2}, [other])
    result = call("flow", "delete", slug, "--yes", "--dsn", database)
    assert result.exit_code == 0
    assert f"Warning: the queue stays, with the messages of others: '{other}', for pgmq knows no" in result.stderr
    assert result.stdout.endswith("with 2 runs, its messages alone out of the queue and the archive\n")
    assert admin.execute(LEFT).fetchone() == ([other, "1"], [other, "1"], [other, "2"])
    assert len(admin.execute("select from pgmq.list_queues()").fetchall()) == 1
    admin.execute("select pgflow.start_flow(%s, '1')", (other,))
    assert holdings(database, other)[3:5] == (2, 1)
    assert delete_flow(database, other) == 3
    assert admin.execute("select to_regclass('pgmq.q_shipout') is null").fetchone() == (True,)
    assert admin.execute("select from pgmq.list_queues()").fetchall() == []


def test_messages_of_an_earlier_queue_are_not_taken_for_others(database: str, admin: Admin) -> None:
    admin.execute(NAMESAKES)
    admin.execute("update pgflow.step_tasks set message_id = 5 - message_id")
    assert holdings(database, "shipOut")[3:5] == (0, 0)
    delete_flow(database, "shipOut")
    row = admin.execute("select count(*) from pgmq.q_shipout where message ->> 'flow_slug' = 'shipout'").fetchone()
    assert row == (1,)


def test_rows_of_others_that_go_with_it_are_counted_by_table(database: str, admin: Admin) -> None:
    admin.execute(SHOP)
    before = counts(admin)
    expected = {"pgflow.mine": 1, "shop.notes": 4, "shop.orders": 3, "shop.parted": 3}
    assert holdings(database, "sale").dependents == expected
    result = call("flow", "delete", "sale", "--yes", "--dsn", database)
    shown = "  cascade:  1 row of pgflow.mine, 4 rows of shop.notes, 3 rows of shop.orders, 3 rows of shop.parted\n"
    assert shown in result.stdout
    after = counts(admin)
    assert {table: before[table] - after[table] for table in TABLES if before[table] != after[table]} == expected


def test_rows_that_the_role_may_not_read_are_named_all_the_same(database: str, admin: Admin) -> None:
    admin.execute(SHOP)
    name = f"owner_{admin.info.dbname}"
    admin.execute(f"create role {name} login".encode())
    try:
        for schema in ("pgflow", "pgmq"):
            admin.execute(f"grant all on schema {schema} to {name}".encode())
            admin.execute(f"grant all on all tables in schema {schema} to {name}".encode())
            admin.execute(f"grant all on all functions in schema {schema} to {name}".encode())
        admin.execute(f"alter table pgmq.q_sale owner to {name}; alter table pgmq.a_sale owner to {name}".encode())
        found = holdings(make_conninfo(database, user=name), "sale").dependents
        assert found == {"pgflow.mine": 1, "shop.notes": None, "shop.orders": None, "shop.parted": None}
    finally:
        admin.execute(f"drop owned by {name} cascade; drop role {name}".encode())
