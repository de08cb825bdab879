"""An upgrade that is killed, or meets another: all of it is there, or nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.setup import laying_down
from pgflow_starter.postgres.setup.install import check, install
from pgflow_starter.postgres.setup.migrations import OLDEST, from_folder
from pgflow_starter.postgres.setup.upgrade import upgrade
from tests.cores.stand_in import Admin
from tests.postgres.install_rig import value
from tests.support.programs import running
from tests.support.waiting import eventually
from tests.upgrading.rig import folder_to

WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
SAID = "Error: the core is upgraded, or as it was: the same command again tells\n"
IN_THE_MIDDLE = "select pg_catalog.pg_advisory_xact_lock(4711)"


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A folder with a newer core, one of whose last migrations waits for a lock, and more come after it."""
    folder = folder_to(tmp_path / "slow", "0.15.1", prefix="20250101000000")
    for n, text in enumerate(
        ("create table pgflow.before (n int)", IN_THE_MIDDLE, "create table pgflow.after (n int)")
    ):
        (folder / f"2999010100000{n}_2999010100000{n}_pgflow_more_{n}.sql").write_text(text)
    return folder


def waits(admin: Admin, count: int = 1) -> Callable[[], bool]:
    return lambda: admin.execute(WAITING.encode()).fetchone() == (count,)


def test_one_that_is_killed_in_the_middle_has_changed_nothing(old: str, slow: Path, admin: Admin) -> None:
    before = value(old, "select obj_description('pgflow'::regnamespace, 'pg_namespace')")
    admin.execute("select pg_advisory_lock(4711)")
    command = ("-m", "pgflow_starter", "db", "upgrade", "--core-dir", str(slow))
    with running(*command, env={"PGFLOW_DSN": old}) as process:
        eventually(waits(admin))
        process.kill()
    eventually(waits(admin, 0))  # the server sees that nobody is there, long before it would have ended
    admin.execute("select pg_advisory_unlock(4711)")
    assert value(old, "select obj_description('pgflow'::regnamespace, 'pg_namespace')") == before
    assert (check(old).core, check(old).last_migration) == ("0.8.1 or 0.9", OLDEST)
    assert value(old, "select to_regclass('pgflow.before')") is None
    assert upgrade(old, core_dir=slow)[-1] == from_folder(slow).last


def test_ctrl_c_in_the_middle_says_how_to_know(old: str, slow: Path, admin: Admin) -> None:
    admin.execute("select pg_advisory_lock(4711)")
    command = ("-m", "pgflow_starter", "db", "upgrade", "--core-dir", str(slow))
    with running(*command, env={"PGFLOW_DSN": old}) as process:
        eventually(waits(admin))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, SAID)
    eventually(waits(admin, 0))
    assert check(old).last_migration == OLDEST


def test_an_installation_that_is_killed_has_left_nothing(empty_database: str, slow: Path) -> None:
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute("select pg_advisory_lock(4711)")
        command = ("-m", "pgflow_starter", "db", "install", "--core-dir", str(slow))
        with running(*command, env={"PGFLOW_DSN": empty_database}) as process:
            eventually(waits(admin))
            process.kill()
        admin.execute("select pg_advisory_unlock(4711)")
        eventually(waits(admin, 0))
    assert len(check(empty_database).missing) == 2
    assert install(empty_database, core_dir=slow).inventory.last_migration == from_folder(slow).last


def test_of_two_at_once_one_upgrades_and_the_other_finds_it_done(old: str, slow: Path, admin: Admin) -> None:
    admin.execute("select pg_advisory_lock(4711)")
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(upgrade, old, core_dir=slow) for _ in range(2)]
        eventually(waits(admin, 2))
        admin.execute("select pg_advisory_unlock(4711)")
        counts = sorted(len(each.result()) for each in both)
    assert counts[0] == 0
    assert counts[1] == len([m for m in from_folder(slow).migrations if m.name > OLDEST])


def test_who_installs_meanwhile_is_named_after_a_while(
    old: str, newer: Path, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = laying_down.lock

    def impatient(connection: psycopg.Connection[tuple[object, ...]]) -> None:
        connection.execute("set local statement_timeout to '100ms'")
        genuine(connection)

    monkeypatch.setattr("pgflow_starter.postgres.setup.upgrade.lock", impatient)
    with admin.transaction():
        genuine(admin)
        with pytest.raises(DatabaseError, match="another installation has been at work in this database"):
            upgrade(old, core_dir=newer)
    monkeypatch.undo()
    assert upgrade(old, core_dir=newer) != ()
