"""The embedded server: starting, stopping, breaking and leaving nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgflow_starter.errors import MissingExtraError, SetupError
from pgflow_starter.postgres.embedded import binaries
from pgflow_starter.postgres.embedded.folders_and_ports import give_folder, new_folder
from pgflow_starter.postgres.embedded.identity import Identity, server_identity
from pgflow_starter.postgres.embedded.postmaster import await_ready
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.support.databases import FAST, memory_folder
from tests.support.programs import sigint_counts
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


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
    return folder_at(server.conninfo())


def folder_at(conninfo: str) -> Path:
    return Path(str(answer(conninfo, "show data_directory"))).parent


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


LEFT_ALONE = """
import select, sys
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres

server = EmbeddedPostgres(version=int(sys.argv[1]), settings={"fsync": "off"})
server.start()
print(server.pid, server.conninfo(), flush=True)
while not select.select([sys.stdin], [], [], 0.1)[0]:  # in slices: the signal may come just before a wait begins
    pass
"""


@contextmanager
def left_alone(pg_version: int) -> Iterator[tuple[subprocess.Popen[str], int, Path]]:
    """A process that waits beside a server of its own, the postmaster's id, and its folder."""
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
        pid, conninfo = process.stdout.readline().strip().split(" ", 1)
        assert psutil.pid_exists(int(pid))
        yield process, int(pid), folder_at(conninfo)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_server_outlives_a_process_that_was_killed(ending: signal.Signals, pg_version: int) -> None:
    with left_alone(pg_version) as (process, pid, folder):
        process.send_signal(ending)
        process.wait(60)
    eventually(lambda: is_gone(pid), what="the end of the postmaster")
    eventually(lambda: not folder.exists(), what="the removal of its folder")


def kill_guard(server: EmbeddedPostgres) -> None:
    guard = psutil.Process(server.pid).parent()
    assert guard is not None
    assert guard.pid != os.getpid()
    guard.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not end a process with its parent")
def test_no_server_outlives_its_guard(own: EmbeddedPostgres) -> None:
    with psycopg.connect(own.conninfo()) as connection:
        connection.execute("create table kept as select 42 as value")
    postmaster = own.pid
    assert postmaster is not None
    family = [postmaster, *(child.pid for child in psutil.Process(postmaster).children())]
    kill_guard(own)
    eventually(lambda: all(is_gone(pid) for pid in family), what="the end of the postmaster and its children")
    assert not own.running
    own.start()
    assert answer(own.conninfo(), "select value from kept") == 42
    home = folder_of(own)
    kill_guard(own)
    eventually(lambda: not own.running)
    own.close()
    assert not home.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not end a process with its parent")
def test_no_server_outlives_a_process_that_was_killed_together_with_its_guard(pg_version: int) -> None:
    with left_alone(pg_version) as (process, pid, folder):
        try:
            (guard,) = psutil.Process(process.pid).children()
            guard.kill()
            process.kill()
            process.wait(60)
            eventually(lambda: is_gone(pid), what="the end of the postmaster")
        finally:
            shutil.rmtree(folder)


def test_a_server_started_on_a_thread_outlives_it(pg_version: int) -> None:
    server = EmbeddedPostgres(version=pg_version, settings=FAST)
    starting = threading.Thread(target=server.start)
    starting.start()
    starting.join()
    try:
        assert answer(server.conninfo()) == 1
    finally:
        server.close()


# What the server's user cannot do to root


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_that_the_server_s_user_leaves_leads_nowhere(
    own: EmbeddedPostgres, link: Callable[[Path, Path], None]
) -> None:
    home = folder_of(own)
    target = Path(tempfile.mkdtemp(dir=home.parent)) / "precious"  # a hard link does not cross to another disk
    try:
        target.write_text("precious")
        before = target.stat()
        own.stop()
        for folder in ("data", "run"):
            for name in ("server.log", "password"):
                link(target, home / folder / name)
        own.start()
        after = target.stat()
        assert (after.st_uid, after.st_mode, after.st_size) == (before.st_uid, before.st_mode, before.st_size)
    finally:
        shutil.rmtree(target.parent)


def test_a_log_that_is_a_link_is_not_followed(own: EmbeddedPostgres, tmp_path: Path) -> None:
    home, target = folder_of(own), tmp_path / "precious"
    target.write_text("precious")
    own.stop()
    (home / "server.log").unlink()
    (home / "server.log").symlink_to(target)
    with pytest.raises(SetupError, match=r"PostgreSQL ended while starting"):
        own.start()
    assert target.read_text() == "precious"


def test_a_pid_file_that_is_a_link_or_a_pipe_says_nothing_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    process = psutil.Process()
    told, link, pipe = tmp_path / "told", tmp_path / "link", tmp_path / "pipe"
    told.write_text("\n".join([str(process.pid), *"......", "ready"]))
    await_ready(process, told)
    link.symlink_to(told)
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as threads:
        try:
            for wrong in (link, pipe):
                with pytest.raises(SetupError, match=r"accepted no connection within 0\.1 s"):
                    threads.submit(await_ready, process, wrong, timeout=0.1).result(10)
        finally:
            os.close(os.open(pipe, os.O_RDWR))  # who waits for a writer has had one


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_of_the_home_the_server_s_user_can_change_nothing(own: EmbeddedPostgres) -> None:
    identity, home = server_identity(), folder_of(own)
    for attempt in (
        ["touch", home / "x"],
        ["mv", home / "data", home / "y"],
        ["rm", home / "server.log"],
        ["ls", home],
    ):
        assert "Permission denied" in str(identity.run(["/usr/bin/env", *attempt]))
    assert identity.run(["/usr/bin/env", "touch", home / "data/mine"]) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o775, 0), (0o755, 65534), (0o1777, 65534)])
def test_a_folder_whose_contents_others_can_replace_is_passed_over(
    mode: int, owner: int, roomy_folder: Path, pg_version: int
) -> None:
    parent = roomy_folder / "above" / "parent"
    parent.mkdir(parents=True)
    parent.chmod(0o1777)
    os.chown(parent.parent, owner, owner)
    parent.parent.chmod(mode)
    assert new_folder(Identity(), parent).parent == parent
    made = new_folder(server_identity(), parent)
    assert parent not in made.parents
    made.rmdir()


# The password


def test_over_tcp_there_is_a_password_and_the_connection_string_has_it(own: EmbeddedPostgres) -> None:
    given = conninfo_to_dict(own.conninfo())
    assert len(str(given["password"])) >= 32
    assert str(given["password"]) not in repr(own)
    for password in (None, "wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            answer(make_conninfo("", **{**given, "password": password}))
    rules = "select string_agg(distinct auth_method, ' ') from pg_hba_file_rules where type = 'host'"
    assert answer(own.conninfo(), rules) == "scram-sha-256"
    assert answer(own.conninfo(), "select rolpassword like 'SCRAM-SHA-256$%' from pg_authid where oid = 10") is True


def test_each_server_has_a_password_of_its_own_and_leaves_it_in_no_file(own: EmbeddedPostgres, pg_version: int) -> None:
    password = str(conninfo_to_dict(own.conninfo())["password"])
    other = EmbeddedPostgres(version=pg_version, tcp=True)
    try:
        assert password not in other.conninfo()
    finally:
        other.close()
    for path in folder_of(own).rglob("*"):
        if path.is_file():
            assert password.encode() not in path.read_bytes(), path


def test_the_file_that_initdb_reads_it_from_is_for_the_server_s_user_alone(
    pg_version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, int, int | None]] = []
    run = Identity.run

    def watched(self: Identity, command: Sequence[object], **more: Any) -> str | None:
        for word in map(str, command):
            if word.startswith("--pwfile="):
                file = Path(word.partition("=")[2])
                found = file.stat()
                seen.append((file, found.st_mode & 0o777, found.st_uid))
                return "it failed"
        return run(self, command, **more)

    monkeypatch.setattr(Identity, "run", watched)
    server = EmbeddedPostgres(version=pg_version, tcp=True)
    try:
        with pytest.raises(SetupError, match="initdb failed: it failed"):
            server.start()
        user = server_identity().user
        ((file, *rights),) = seen
        assert rights == [0o600, os.geteuid() if user is None else user]
        assert file.parent.exists()
        assert not file.exists()
    finally:
        server.close()


def test_without_tcp_nobody_gets_in_by_an_address(server: EmbeddedPostgres) -> None:
    rules = "select string_agg(distinct auth_method, ' ') from pg_hba_file_rules where type = 'host'"
    assert answer(server.conninfo(), rules) == "reject"
    assert "password" not in server.conninfo()


FORKING = """
import os, sys
import psycopg
from pgflow_starter.errors import ForkedError
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres

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
