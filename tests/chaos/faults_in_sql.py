"""What is done in the database itself, past the proxy: locks, cancelled statements, other columns, another schema."""

from __future__ import annotations

import time
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from pgflow_starter.postgres.setup.install import install
from tests.chaos.backends import OURS
from tests.chaos.world import DBNAME, Fault, World

Admin = psycopg.Connection[tuple[Any, ...]]

TABLES = (
    "pgflow.runs",
    "pgflow.step_tasks",
    "pgflow.step_states",
    "pgflow.workers",
    "pgmq.q_chaos_quick",
    "pgmq.q_chaos_flow",
    "pgmq.a_chaos_quick",
)
MODES: tuple[LiteralString, ...] = ("access exclusive", "exclusive")
ROWS: dict[str, LiteralString] = {
    "a run": """
with run as (select run_id from pgflow.runs where status = 'started' order by random() limit 1 for update),
state as (select from pgflow.step_states where run_id in (select run_id from run) for update),
task as (select from pgflow.step_tasks where run_id in (select run_id from run) for update)
select (select count(*) from run) + (select count(*) from state) + (select count(*) from task)
""",
    "a task": """
with task as (
    select from pgflow.step_tasks where status in ('queued', 'started') order by status, random() limit 1 for update
)
select count(*) from task
""",
    "the workers": "with worker as (select from pgflow.workers for update) select count(*) from worker",
}
SHAPES: tuple[tuple[LiteralString, LiteralString, LiteralString], ...] = (
    ("alter table pgflow.runs alter column status type", "varchar", "text"),
    ("alter table pgflow.step_tasks alter column step_slug type", "varchar", "text"),
    ("alter table pgflow.step_tasks alter column attempts_count type", "bigint", "integer"),
)
"""To what type and back. The first is in what a client is given, the second in what is looked over for the dead, the
third in what a worker claims: of all three, prepared statements return another type than they did."""

CANCEL_EVERY = 0.05
TRIES = 50
MANY_TRIES = 2000
_TABLES = "select schemaname, tablename from pg_tables where schemaname in ('pgflow', 'pgmq')"
_BLOCKED = "select count(*) from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid))"
_CANCEL = """
select count(pg_cancel_backend(pid)) from pg_stat_activity
where state = 'active' and datname = current_database() and starts_with(application_name, %s) and random() < %s
"""


def _lock_table(world: World, longest: float) -> None:
    table = sql.Identifier(*world.random.choice(TABLES).split("."))
    statement = sql.SQL("lock table {} in {} mode").format(table, sql.SQL(world.random.choice(MODES)))
    with world.direct() as admin, admin.transaction():
        admin.execute("set local lock_timeout = '5s'")
        try:
            admin.execute(statement)
        except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
            world.ledger.count("locks that were not to be had")
            raise psycopg.Rollback from None
        _hold_lock(world, admin, longest)


def _lock_rows(world: World, longest: float) -> None:
    with world.direct() as admin, admin.transaction():
        admin.execute("set local lock_timeout = '5s'")
        try:
            rows = _locked(admin, ROWS[world.random.choice(sorted(ROWS))])
        except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
            world.ledger.count("locks that were not to be had")
            raise psycopg.Rollback from None
        world.ledger.count("rows locked", rows)
        _hold_lock(world, admin, longest)


def _locked(admin: Admin, statement: LiteralString) -> int:
    """How many rows it locked. Of runs and tasks there are none for moments: the workers are quick."""
    for _ in range(TRIES):
        row = admin.execute(statement).fetchone()
        if row and row[0]:
            return int(row[0])
        admin.execute("select pg_sleep(0.02)")
    return 0


def _hold_lock(world: World, admin: Admin, longest: float) -> None:
    world.hold(longest)
    row = admin.execute(_BLOCKED).fetchone()
    world.ledger.count("waited for a lock in the end", int(row[0]) if row else 0)


def _cancel(world: World, longest: float) -> None:
    until = time.monotonic() + world.random.uniform(longest / 2, longest)
    with world.direct() as admin:
        while time.monotonic() < until:
            row = admin.execute(_CANCEL, (OURS, world.random.choice((0.2, 0.5, 1.0)))).fetchone()
            world.ledger.count("statements cancelled", int(row[0]) if row else 0)
            world.hold(2 * CANCEL_EVERY)


def _change_column(world: World, longest: float) -> None:
    alter, other, usual = world.random.choice(SHAPES)
    insist(world, sql.SQL(alter + " " + other))
    world.hold(longest)
    insist(world, sql.SQL(alter + " " + usual))


def _drop_schema(world: World, longest: float) -> None:
    both = world.random.random() < 0.5
    insist(world, sql.SQL("drop schema pgflow cascade; drop schema if exists pgmq cascade" if both else _PGFLOW))
    world.hold(longest)
    install(world.server.conninfo(DBNAME))
    world.ledger.forget_returned()


def insist(world: World, statement: sql.SQL) -> None:
    """With all tables locked at one moment: waiting for one while holding another would be deadlock upon deadlock."""
    with world.direct() as admin:
        for _ in range(MANY_TRIES):
            try:
                with admin.transaction():
                    tables = sql.SQL(", ").join(sql.Identifier(*row) for row in admin.execute(_TABLES))
                    admin.execute(sql.SQL("lock table {} in access exclusive mode nowait").format(tables))
                    admin.execute(statement)
            except psycopg.errors.LockNotAvailable:
                admin.execute("select pg_sleep(0.01)")
            else:
                return
    raise AssertionError(f"{MANY_TRIES} tries did not get the locks for {statement.as_string()}")


_PGFLOW: LiteralString = "drop schema pgflow cascade"

LOCKS: dict[str, Fault] = {"lock a table": _lock_table, "lock rows": _lock_rows}
CANCELS: dict[str, Fault] = {"cancel statements": _cancel}
SHAPES_CHANGED: dict[str, Fault] = {"change a column": _change_column}
SCHEMA: dict[str, Fault] = {"drop schema": _drop_schema}
