"""What of a migration is left out of a database that is not Supabase's."""

from __future__ import annotations

import pytest

from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup import core_package
from pgflow_starter.postgres.setup.adapting import Surroundings, adapt
from pgflow_starter.postgres.setup.migrations import Migration

PLAIN = Surroundings(frozenset(), frozenset({"pg_cron"}), frozenset({"postgres"}), frozenset(), is_supabase=False)
SUPABASE = Surroundings(
    frozenset({"pgmq"}),
    frozenset({"pg_cron", "pg_net"}),
    frozenset({"anon", "service_role"}),
    frozenset({"cron", "net", "vault"}),
    is_supabase=True,
)
FUNCTION = (
    'create function "pgflow"."ping" () returns text language plpgsql as $$ begin perform net.http_post(1); end; $$;'
)


def changed(statement: str, there: Surroundings) -> tuple[str, tuple[str, ...]]:
    """What is left of it between two others, and what is said."""
    adapted = adapt(Migration("m", f"select 1; -- and\n{statement}\nselect ';';"), there)
    script = adapted.script
    assert script.startswith("select 1; -- and\n")
    assert script.endswith("\nselect ';';")
    return script.removeprefix("select 1; -- and\n").removesuffix("\nselect ';';"), adapted.told


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ('CREATE EXTENSION IF NOT EXISTS "pg_net" WITH SCHEMA "public";', "this database does not have it"),
        ("create extension pg_cron;", "this database does not have it"),
        ("SELECT pgflow.setup_ensure_workers_cron('1 second');", "does not have pg_cron, pg_net, Supabase's vault"),
        ("SELECT pgflow.setup_requeue_stalled_tasks_cron();", "this database does not have pg_cron"),
        ("select cron.schedule('a;b', '* * * * *', $c$begin; select 1; commit;$c$);", "does not have pg_cron"),
        ("do $$ begin perform net.http_post('x'); end $$;", "this database does not have pg_net"),
        ("grant usage on schema pgflow to anon, service_role;", "this server does not have anon, service_role"),
        ("alter publication supabase_realtime add table pgflow.runs;", "does not have supabase_realtime"),
    ],
)
def test_what_plain_postgresql_does_not_have_is_left_out_and_named(statement: str, why: str) -> None:
    left, told = changed(statement, PLAIN)
    assert left == ""
    assert len(told) == 1
    assert told[0].startswith(f"left out: {statement.removesuffix(';')[:60]}")
    assert told[0].endswith(why)


@pytest.mark.parametrize(
    "statement",
    [
        'CREATE EXTENSION IF NOT EXISTS "pg_net" WITH SCHEMA "public";',
        "SELECT pgflow.setup_ensure_workers_cron('1 second');",
        "grant usage on schema pgflow to anon, service_role;",
        FUNCTION,
    ],
)
def test_what_supabase_has_stays(statement: str) -> None:
    assert changed(statement, SUPABASE) == (statement, ())


@pytest.mark.parametrize("there", [PLAIN, SUPABASE])
def test_telemetry_is_switched_on_nowhere(there: Surroundings) -> None:
    statement = "insert into pgflow_telemetry.job_registry (jobname) select cron.schedule('report', '17 3 * * *', '');"
    left, told = changed(f"create schema pgflow_telemetry;\n{statement}", there)
    assert left == "create schema pgflow_telemetry;\n"
    assert told[0].endswith("the core's telemetry is not switched on")


def test_a_function_that_will_fail_is_laid_down_and_named() -> None:
    told = ("pgflow.ping is laid down, and fails when it is called: it needs pg_net",)
    assert changed(FUNCTION, PLAIN) == (FUNCTION, told)


@pytest.mark.parametrize(
    "statement", ["COPY pgflow.seeds (slug) FROM stdin;", "copy a from STDIN with (format csv);", "copy a to stdout;"]
)
def test_rows_beside_the_statements_are_refused_where_they_begin(statement: str) -> None:
    script = f"-- seeds\n{statement}\ncommit;\tit's\n\\.\nselect 1;"
    with pytest.raises(SetupError) as caught:
        adapt(Migration("29990101000000_pgflow_seeds", script), PLAIN)
    words = f"migration 29990101000000_pgflow_seeds has the statement {statement.removesuffix(';')}: rows beside"
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    "statement",
    [
        "select 'commit; cron.schedule'; -- commit;",
        "create function f() returns void language plpgsql as $f$ begin; commit; $$ vacuum; $$ end; $f$;",
        "/* commit; */ comment on table t is E'it\\'s; commit; --';",
        'alter table "commit; vacuum" add column a$b int default 1;',
        "comment on table copy is 'copy a from stdin';",
        "set lock_timeout = '10s';",
    ],
)
def test_what_only_looks_like_a_statement_is_none(statement: str) -> None:
    left, _ = changed(statement, SUPABASE)
    assert left == statement


def test_of_what_npm_has_of_0_8_1_nothing_is_left_out_but_pgmq() -> None:
    for migration in core_package.migrations().migrations:
        adapted = adapt(migration, PLAIN)
        assert adapted.told == ()
        extension = 'CREATE EXTENSION IF NOT EXISTS "pgmq" WITH SCHEMA "pgmq";'
        assert adapted.script == migration.sql.replace(extension, "")


def test_pgmq_is_seen_to_already() -> None:
    assert changed('CREATE EXTENSION IF NOT EXISTS "pgmq" WITH SCHEMA "pgmq";', PLAIN) == ("", ())
