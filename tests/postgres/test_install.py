"""Installing into a database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg.conninfo import make_conninfo

from pgflow_starter.errors import DatabaseError, SetupError
from pgflow_starter.postgres.setup import core_package
from pgflow_starter.postgres.setup.install import check, install
from pgflow_starter.postgres.setup.migrations import Migration, Source
from tests.postgres.install_rig import run, value


def test_an_empty_database_gets_everything_and_says_what_it_got(empty_database: str) -> None:
    told: list[str] = []
    installed = install(empty_database, progress=told.append)
    assert [step.split()[0] for step in installed.steps] == ["installed", "created", "installed"]
    assert told[-3:] == list(installed.steps)
    assert installed.inventory.ok
    assert installed.inventory == check(empty_database)
    assert value(empty_database, "select flow_slug from pgflow.create_flow('made_here')") == "made_here"


def test_a_second_installation_changes_nothing_and_says_so(database: str) -> None:
    before = value(database, "select max(oid) from pg_proc")
    told: list[str] = []
    installed = install(database, progress=told.append)
    assert installed.steps == ()
    assert told == ["pgmq and the pgflow core are there already: nothing was changed"]
    assert value(database, "select max(oid) from pg_proc") == before


def test_installations_at_the_same_time_leave_one(empty_database: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        results = [future.result() for future in [threads.submit(install, empty_database) for _ in range(6)]]
    assert sorted(len(result.steps) for result in results) == [0, 0, 0, 0, 0, 3]
    assert all(result.inventory.ok for result in results)


def test_a_failing_migration_leaves_nothing_behind(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Migration("9_broken", "create table pgflow.more (); select 1/0")
    core = Source("a core", (*core_package.migrations().migrations, broken))
    monkeypatch.setattr(core_package, "migrations", lambda: core)
    with pytest.raises(DatabaseError, match=r"9_broken failed, nothing was changed: division by zero") as caught:
        install(empty_database)
    assert caught.value.sqlstate == "22012"
    assert len(check(empty_database).missing) == 2
    schemas = "select count(*) from pg_namespace where nspname in ('pgmq', 'pgflow', 'realtime')"
    assert value(empty_database, schemas) == 0


def test_a_half_installed_core_is_told_and_not_touched(empty_database: str) -> None:
    run(empty_database, "create schema pgflow", "create table pgflow.flows (mine int)")
    with pytest.raises(SetupError, match=r"schema pgflow exists without create_flow.*DROP SCHEMA pgflow CASCADE"):
        install(empty_database)
    assert value(empty_database, "select count(*) from pg_namespace where nspname = 'pgmq'") == 0
    inventory = check(empty_database)
    assert inventory.pgflow == "partial"
    assert not inventory.ok


def test_only_what_is_missing_is_installed(database: str) -> None:
    run(database, "drop schema pgflow cascade")
    assert install(database).steps == ("installed the pgflow core 0.8.1",)


def test_a_realtime_of_the_users_own_stays(empty_database: str) -> None:
    run(
        empty_database,
        "create schema realtime",
        "create function realtime.send(payload jsonb, event text, topic text, private boolean default true) "
        "returns void language sql as 'select null::void'",
    )
    source = "select prosrc from pg_proc where proname = 'send' and pronamespace = 'realtime'::regnamespace"
    assert len(install(empty_database).steps) == 2
    assert value(empty_database, source) == "select null::void"


def test_a_role_with_create_on_the_database_is_enough(empty_database: str) -> None:
    name = value(empty_database, "select current_database()")
    run(empty_database, f"create role r_{name} login", f"grant create on database {name} to r_{name}")
    try:
        assert install(make_conninfo(empty_database, user=f"r_{name}")).inventory.ok
    finally:
        run(empty_database, f"drop owned by r_{name} cascade", f"drop role r_{name}")


@pytest.mark.parametrize("schema", ["pgmq", "pgflow", "realtime"])
def test_nothing_is_laid_down_in_a_strangers_schema(empty_database: str, schema: str) -> None:
    name = value(empty_database, "select current_database()")
    stranger = f"stranger_{name}"
    run(empty_database, f"create role {stranger}", f"create schema {schema} authorization {stranger}")
    told = f"schema {schema} belongs to role '{stranger}', who is no superuser"
    try:
        with pytest.raises(SetupError, match=f"nothing was changed: {told}"):
            install(empty_database)
        assert any(told in note for note in check(empty_database).notes)
        run(empty_database, f"alter database {name} owner to {stranger}")
        assert check(empty_database).notes == ()
        run(empty_database, f"alter database {name} owner to postgres", f"drop schema {schema}")
        assert install(empty_database).inventory.ok
    finally:
        run(empty_database, f"drop role {stranger}")


def test_a_strangers_schema_that_comes_in_between_is_not_left_with_anything(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = value(empty_database, "select current_database()")
    stranger = f"stranger_{name}"
    run(empty_database, f"create role {stranger}")

    def late() -> Source:
        run(empty_database, f"create schema realtime authorization {stranger}")
        return genuine

    genuine = core_package.migrations()
    monkeypatch.setattr(core_package, "migrations", late)
    try:
        with pytest.raises(SetupError, match="schema realtime belongs to role"):
            install(empty_database)
        assert len(check(empty_database).missing) == 2
    finally:
        run(empty_database, "drop schema realtime", f"drop role {stranger}")


def test_a_role_that_may_not_create_is_told_who_may(empty_database: str) -> None:
    name = value(empty_database, "select current_database()")
    run(empty_database, f"create role r_{name} login")
    try:
        with pytest.raises(DatabaseError, match=r"permission denied.*role with CREATE on the database") as caught:
            install(make_conninfo(empty_database, user=f"r_{name}"))
        assert caught.value.sqlstate == "42501"
    finally:
        run(empty_database, f"drop role r_{name}")
