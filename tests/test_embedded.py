"""The embedded server: starting, stopping, breaking and leaving nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from pgflow_starter.errors import MissingExtraError, SetupError
from pgflow_starter.postgres import binaries
from pgflow_starter.postgres.embedded import EmbeddedPostgres
from pgflow_starter.postgres.identity import server_identity
from pgflow_starter.postgres.places import new_folder
from tests.support.databases import FAST, memory_folder
from tests.support.programs import sigint_counts
from tests.support.waiting import eventually

ROOT = Path(__file__).parent.parent


@pytest.fixture
def own(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """A server that a test may break, over TCP."""
    with EmbeddedPostgres(version=pg_version, tcp=True, settings=FAST, parent=memory_folder()) as running:
        yield running


@pytest.fixture
def roomy_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own is closed to the server's user where root runs the tests."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def answer(conninfo: str, query: str = "select 1") -> object:
    with psycopg.connect(conninfo, connect_timeout=5) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def folder_of(server: EmbeddedPostgres) -> Path:
    return Path(str(answer(server.conninfo(), "show data_directory"))).parent


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_it_answers_over_a_private_socket(server: EmbeddedPostgres, pg_version: int) -> None:
    assert server.running
    assert str(answer(server.conninfo(), "show server_version")).startswith(f"{pg_version}.")
    assert answer(server.conninfo(), "show listen_addresses") == ""
    assert answer(server.conninfo(), "select current_user") == "postgres"
    assert folder_of(server).stat().st_mode & 0o077 == 0


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
        assert "not properly shut down" in (folder_of(server) / "data/server.log").read_text()


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
    with pytest.raises(MissingExtraError, match=r"pip install 'pgflow-starter\[embedded\]'"):
        EmbeddedPostgres().start()


@pytest.mark.parametrize("name", ["with some spaces", 'a, comma\'s "quotes"', "long-" + "x" * 120])
def test_it_runs_below_a_temporary_folder_of_any_name(
    name: str, roomy_folder: Path, pg_version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = roomy_folder / name
    parent.mkdir(mode=0o777)
    parent.chmod(0o777)
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
        assert identity.run([found / "initdb", "-D", home / "data", "--no-sync"], cwd=home, timeout=60) is None
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(closed)
        shutil.rmtree(home)


ORDINARY_USER = """
import os, shutil, sys
import psycopg
from pgflow_starter.postgres import binaries, embedded, identity, places

version = int(sys.argv[1])
if os.geteuid() == 0:
    # Only root is here: become somebody else, once everything is loaded that only root can read.
    other = identity.server_identity()
    home = places.new_folder(other)
    programs = binaries.usable(binaries.bundled(version), home, other)
    embedded.bundled = lambda version: programs
    os.setgroups([])
    os.setgid(other.group)
    os.setuid(other.user)
with embedded.EmbeddedPostgres(version=version) as server:
    with psycopg.connect(server.conninfo()) as connection:
        print(os.geteuid(), connection.execute("select 6 * 7").fetchone()[0])
if "home" in globals():
    shutil.rmtree(home)
"""


def test_an_ordinary_user_runs_it_as_well(pg_version: int) -> None:
    done = run_script(ORDINARY_USER, str(pg_version))
    assert done.stderr == ""
    user, result = done.stdout.split()
    assert user != "0"
    assert result == "42"


LEFT_ALONE = """
import sys
from pgflow_starter.postgres.embedded import EmbeddedPostgres

server = EmbeddedPostgres(version=int(sys.argv[1]), settings={"fsync": "off"})
server.start()
print(server.pid, server._home, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_server_outlives_a_process_that_was_killed(ending: signal.Signals, pg_version: int) -> None:
    command = [sys.executable, "-c", LEFT_ALONE, str(pg_version)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        **sigint_counts(),
    ) as process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().strip().split(" ", 1)
        assert psutil.pid_exists(int(pid))
        process.send_signal(ending)
        process.wait(20)
    eventually(lambda: is_gone(int(pid)), what="the end of the postmaster")
    eventually(lambda: not Path(folder).exists(), what="the removal of its folder")


FORKING = """
import os, sys
import psycopg
from pgflow_starter.errors import ForkedError
from pgflow_starter.postgres.embedded import EmbeddedPostgres

server = EmbeddedPostgres(version=int(sys.argv[1]), settings={"fsync": "off"})
server.start()
child = os.fork()
if child == 0:
    server.close()
    try:
        server.kill()
    except ForkedError:
        psycopg.connect(server.conninfo()).close()
        sys.exit(7)
    sys.exit(1)
_, status = os.waitpid(child, 0)
psycopg.connect(server.conninfo()).close()
print(os.waitstatus_to_exitcode(status), server.running)
server.close()
"""


def test_a_forked_child_neither_stops_nor_removes_it(pg_version: int) -> None:
    done = run_script(FORKING, str(pg_version))
    assert done.stderr == ""
    assert done.stdout.split() == ["7", "True"]
