"""The embedded server: starting, stopping, and breaking it on purpose."""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from pgflow_starter.errors import MissingExtraError, SetupError
from pgflow_starter.postgres.embedded import binaries
from pgflow_starter.postgres.embedded.folders_and_ports import give_folder, new_folder
from pgflow_starter.postgres.embedded.identity import server_identity
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.postgres.embedded_rig import answer, folder_of, is_gone, run_script
from tests.support.databases import FAST


def test_it_answers_over_a_private_socket(server: EmbeddedPostgres, pg_version: int) -> None:
    assert server.running
    assert str(answer(server.conninfo(), "show server_version")).startswith(f"{pg_version}.")
    assert answer(server.conninfo(), "show listen_addresses") == ""
    assert answer(server.conninfo(), "select current_user") == "postgres"
    for folder in ("data", "run"):
        assert (folder_of(server) / folder).stat().st_mode & 0o077 == 0


def test_it_listens_on_the_loopback_only_with_tcp(own: EmbeddedPostgres) -> None:
    assert "127.0.0.1" in own.conninfo()
    assert answer(own.conninfo(), "select host(inet_server_addr())") == "127.0.0.1"
    assert answer(own.conninfo(), "show listen_addresses") == "127.0.0.1"


def test_settings_of_the_caller_win(own: EmbeddedPostgres) -> None:
    assert answer(own.conninfo(), "show max_connections") == "300"
    assert answer(own.conninfo(), "show fsync") == "off"


def test_the_connection_string_is_known_before_the_start_and_stays(pg_version: int) -> None:
    with_port = EmbeddedPostgres(version=pg_version, tcp=True, settings=FAST)
    try:
        before = with_port.conninfo()
        assert not with_port.running
        with pytest.raises(psycopg.OperationalError):
            answer(before)
        with_port.start()
        assert answer(before) == 1
        with_port.stop()
        assert with_port.pid is None
        with_port.start()
        assert with_port.conninfo() == before
        assert answer(before) == 1
    finally:
        with_port.close()


@pytest.mark.parametrize("tcp", [False, True])
def test_what_was_committed_survives_stop_and_kill(pg_version: int, tcp: bool) -> None:
    with EmbeddedPostgres(version=pg_version, tcp=tcp, settings=FAST) as server:
        with psycopg.connect(server.conninfo()) as connection:
            connection.execute("create table kept as select 42 as value")
        server.stop("immediate")
        server.start()
        assert answer(server.conninfo(), "select value from kept") == 42
        server.kill()
        assert not server.running
        with pytest.raises(psycopg.OperationalError):
            answer(server.conninfo())
        server.start()
        assert answer(server.conninfo(), "select value from kept") == 42
        assert "not properly shut down" in (folder_of(server) / "server.log").read_text()


def test_kill_leaves_no_child_alive(own: EmbeddedPostgres) -> None:
    with psycopg.connect(own.conninfo()) as connection:
        backend = connection.info.backend_pid
        postmaster = own.pid
        assert postmaster is not None
        children = [child.pid for child in psutil.Process(postmaster).children()]
        assert backend in children
        own.kill()
        assert all(is_gone(pid) for pid in [postmaster, *children])
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")


def test_starting_and_stopping_twice_is_harmless(own: EmbeddedPostgres) -> None:
    pid = own.pid
    own.start()
    assert own.pid == pid
    own.stop()
    own.stop()
    own.kill()
    own.start()
    assert own.running


def test_two_threads_that_start_it_get_one_server(own: EmbeddedPostgres) -> None:
    own.stop()
    with ThreadPoolExecutor(4) as threads:
        for future in [threads.submit(own.start) for _ in range(4)]:
            future.result()
    assert answer(own.conninfo()) == 1


def test_a_smart_stop_turns_into_a_fast_one_when_a_client_stays(own: EmbeddedPostgres) -> None:
    with psycopg.connect(own.conninfo()) as connection:
        own.stop("smart", timeout=0.2)
        assert not own.running
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("select 1")


def test_an_unknown_mode_is_refused(own: EmbeddedPostgres) -> None:
    with pytest.raises(ValueError, match="smart, fast, immediate"):
        own.stop("gently")  # type: ignore[arg-type]
    assert own.running


def test_closing_removes_everything_for_good(pg_version: int) -> None:
    server = EmbeddedPostgres(version=pg_version, settings=FAST)
    server.start()
    folder, pid = folder_of(server), server.pid
    server.close()
    server.close()
    assert not folder.exists()
    assert pid is not None
    assert is_gone(pid)
    with pytest.raises(SetupError, match="closed"):
        server.start()


def test_a_failed_start_tells_the_end_of_the_log(pg_version: int) -> None:
    server = EmbeddedPostgres(version=pg_version, settings={"shared_buffers": "nonsense"})
    try:
        with pytest.raises(SetupError, match="shared_buffers"):
            server.start()
        assert not server.running
    finally:
        server.close()


def test_a_version_that_is_not_bundled_is_named_with_those_that_are() -> None:
    with pytest.raises(SetupError, match=r"no embedded PostgreSQL 9; the versions here: 16, 18"):
        EmbeddedPostgres(version=9).start()


def test_a_missing_extra_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[embedded\]'"):
        EmbeddedPostgres().start()


@pytest.mark.parametrize("name", ["with some spaces", 'a, comma\'s "quotes"', "long-" + "x" * 120])
def test_it_runs_below_a_temporary_folder_of_any_name(
    name: str, roomy_folder: Path, pg_version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = roomy_folder / name
    parent.mkdir()
    parent.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    with EmbeddedPostgres(version=pg_version, settings=FAST) as server:
        assert answer(server.conninfo()) == 1
        assert folder_of(server).parent == parent
    assert list(parent.iterdir()) == []


def test_programs_that_the_servers_user_cannot_reach_are_copied_to_where_it_can(pg_version: int) -> None:
    identity = server_identity()
    home = new_folder(identity)
    closed = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        original = binaries.bundled(pg_version)
        package = original.parent.parent
        shutil.copytree(original.parent, closed / package.name / original.parent.name)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, closed / libraries.name)
        hidden = closed / package.name / original.parent.name / original.name
        found = binaries.usable(hidden, home, identity)
        assert found.is_relative_to(home) == (os.geteuid() == 0)
        assert identity.run([found / "initdb", "--version"]) is None
        data = give_folder(identity, home / "data")
        assert identity.run([found / "initdb", "-D", data, "--no-sync"], cwd=home, timeout=60) is None
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(closed)
        shutil.rmtree(home)


ORDINARY_USER = """
import os, shutil, sys
import psycopg
from pathlib import Path
from pgflow_starter.postgres.embedded import binaries, server as embedded, guard_program, identity

version = int(sys.argv[1])
if os.geteuid() == 0:
    # Only root is here: become somebody else, once everything is loaded that only root can read.
    other = identity.server_identity()
    home = Path(sys.argv[2])
    programs = binaries.usable(binaries.bundled(version), home, other)
    guard_program.__file__ = shutil.copy(guard_program.__file__, home)
    if not other.can(("-x", Path(sys.executable))):
        sys.executable = "/usr/bin/python3"
    embedded.bundled = lambda version: programs
    os.setgroups([])
    os.setgid(other.group)
    os.setuid(other.user)
with embedded.EmbeddedPostgres(version=version) as server:
    with psycopg.connect(server.conninfo()) as connection:
        print(os.geteuid(), connection.execute("select 6 * 7").fetchone()[0])
"""


def test_an_ordinary_user_runs_it_as_well(pg_version: int) -> None:
    folder = new_folder(server_identity())
    try:
        done = run_script(ORDINARY_USER, str(pg_version), str(folder))
    finally:
        shutil.rmtree(folder)
    assert done.stderr == ""
    user, result = done.stdout.split()
    assert user != "0"
    assert result == "42"
