"""What a migration sets is gone when the next one begins, and when all have been."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgflow_starter.postgres.setup.adapting import Adapted
from pgflow_starter.postgres.setup.admin import limited, session
from pgflow_starter.postgres.setup.laying_down import apply
from pgflow_starter.postgres.setup.migrations import Migration
from pgflow_starter.postgres.setup.upgrade import upgrade
from tests.cores.stand_in import Admin
from tests.upgrading.rig import folder_to

STATE = """
select 'role', current_user::text union all select 'session user', session_user::text
union all select name, setting from pg_catalog.pg_settings
where name in ('search_path', 'standard_conforming_strings', 'check_function_bodies') or name like '%_timeout'
"""
SETS = [
    "set search_path to public, pg_catalog",
    "set session search_path = public",
    "set local search_path to public",
    "select set_config('search_path', 'public', false)",
    "do $$ begin perform set_config('search_path', 'public', false); end $$",
    "set statement_timeout to '77s'; set local lock_timeout to '77s'",
    "set standard_conforming_strings to off; set time zone 'Asia/Tokyo'; reset search_path",
    "set role pg_monitor",
    "set local role pg_monitor",
    "set session authorization pg_monitor",
]


def applied(conninfo: str, *scripts: str) -> tuple[list[object], list[object]]:
    """The session's state once they were, in the transaction, and when that has ended."""
    with session(conninfo) as connection:
        with limited(connection, 60):
            apply(connection, [Adapted(Migration(f"m{n}", script), script, ()) for n, script in enumerate(scripts)])
            within: list[object] = list(connection.execute(STATE.encode()).fetchall())
        return within, list(connection.execute(STATE.encode()).fetchall())


@pytest.mark.parametrize("sets", SETS)
def test_what_one_sets_neither_the_next_one_has_nor_we_nor_who_gets_the_session(old: str, sets: str) -> None:
    table = f"create table realtime.state as {STATE}"
    expected = applied(old)
    assert applied(old, sets, table) == expected
    with psycopg.connect(old) as connection:
        assert connection.execute("select * from realtime.state").fetchall() == expected[0]


def test_the_role_of_the_connection_string_is_that_of_every_migration(old: str, admin: Admin) -> None:
    name = f"owner_{admin.info.dbname}"
    admin.execute(f"create role {name} superuser".encode())
    try:
        as_owner = make_conninfo(old, options=f"-c role={name}")
        assert ("role", name) in applied(as_owner, "select 1", "set role pg_monitor", "select 1")[0]
    finally:
        admin.execute(f"drop role {name}".encode())


def test_a_setting_counts_within_its_own_migration_and_not_for_what_comes_next(
    old: str, tmp_path: Path, admin: Admin
) -> None:
    admin.execute("create schema shop; create function shop.taken() returns int language sql as 'select 1'")
    folder = folder_to(tmp_path / "own", "0.14", prefix="20250101000000")
    within = "set search_path to shop; create table own as select pg_catalog.count(*) from pg_catalog.pg_class"
    later = "create table pgflow.unset as select to_regproc('taken') is null as is_unset"
    for made, script in ((29990101000000, within), (29990101000001, later)):
        (folder / f"{made}_{made}_pgflow_own.sql").write_text(script)
    assert len(upgrade(old, core_dir=folder)) > 2
    row = admin.execute("select is_unset, to_regclass('shop.own') is not null from pgflow.unset").fetchone()
    assert row == (True, True)
