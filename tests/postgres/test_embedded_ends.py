"""The embedded server outlives neither its process nor its guard, and a forked child leaves it alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.postgres.embedded_rig import ROOT, answer, folder_at, folder_of, is_gone, run_script
from tests.support.databases import FAST
from tests.support.programs import sigint_counts
from tests.support.waiting import eventually

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
