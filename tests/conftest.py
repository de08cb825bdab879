"""One server for the session, one database for each test, and no thread left behind."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import hypothesis
import pytest

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.support.cores import install_core
from tests.support.databases import FAST, fresh_database, memory_folder
from tests.support.threads import left_over, ours

THREADS_END_WITHIN = 5.0

LEAST_PROCESSES, MOST_PROCESSES = 3, 8
"""Most of the time a test waits, so that few cores serve more processes than there are of them; but each process has a
PostgreSQL of its own to set up, of some 200 MB, and beyond so many that takes longer than what is left of the tests."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`: one more than the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(LEAST_PROCESSES, cores + 1), MOST_PROCESSES)


def pytest_configure() -> None:
    """Whoever started this with SIGINT ignored (`make test &`) would hand that down to every program under test."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # An example may take as long as it does: 200 ms, by default, is what another program may keep it waiting.
    hypothesis.settings.register_profile("as long as it takes", deadline=None)
    hypothesis.settings.load_profile("as long as it takes")


@pytest.fixture(scope="session")
def pg_version() -> int:
    """The major version of the embedded server: PGFLOW_TEST_PG, else 18."""
    return int(os.environ.get("PGFLOW_TEST_PG") or 18)


@pytest.fixture(scope="session")
def server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """The session's server. A test that stops or kills a server starts one of its own."""
    with EmbeddedPostgres(version=pg_version, settings=FAST, parent=memory_folder()) as running:
        yield running


@pytest.fixture(scope="session")
def template(server: EmbeddedPostgres) -> Iterator[str]:
    """The name of a database with pgmq and the pgflow core, to be copied."""
    with fresh_database(server) as conninfo:
        install_core(conninfo)
        yield conninfo.rpartition("dbname=")[2]


@pytest.fixture
def database(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The connection string of a fresh database with pgmq and the pgflow core."""
    with fresh_database(server, template) as conninfo:
        yield conninfo


@pytest.fixture
def empty_database(server: EmbeddedPostgres) -> Iterator[str]:
    """The connection string of a fresh database with nothing in it."""
    with fresh_database(server) as conninfo:
        yield conninfo


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fails the test after which a thread of ours is still there."""
    before = ours()
    yield
    if names := left_over(before, THREADS_END_WITHIN):
        pytest.fail(f"threads left behind: {', '.join(names)}")


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What hangs in a test waits for it, without a limit: it is set when the test has ended, however it did."""
    event = threading.Event()
    yield event
    event.set()
