"""A database whose statements are given up soon, and who looks at what the server holds of ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.support.databases import FAST, memory_folder

Admin = psycopg.Connection[tuple[Any, ...]]

LIMIT_MS = 1500
OURS = "ours"


@pytest.fixture
def admin(database: str) -> Iterator[Admin]:
    """A connection of somebody else's."""
    with psycopg.connect(database, autocommit=True) as admin:
        yield admin


@pytest.fixture
def soon(database: str) -> str:
    """The database, where a call is given up after 1.5 s, and by the server after 1 s."""
    return make_conninfo(database, tcp_user_timeout=LIMIT_MS, application_name=OURS)


@pytest.fixture
def own_server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """A server whose settings may be changed."""
    with EmbeddedPostgres(version=pg_version, tcp=True, settings=FAST, parent=memory_folder()) as server:
        install(server.conninfo())
        yield server


class Backends:
    """Counts the backends of ours all the while, dying ones included."""

    def __init__(self, database: str) -> None:
        self.most = 0
        self._end = threading.Event()
        self._admin = psycopg.connect(database, autocommit=True)
        self._thread = threading.Thread(target=self._count, name="backends")
        self._thread.start()

    def _count(self) -> None:
        while not self._end.wait(0.01):
            row = self._admin.execute(
                "select count(*) from pg_stat_activity where application_name = %s and datname = current_database()",
                (OURS,),
            ).fetchone()
            assert row is not None
            self.most = max(self.most, row[0])

    def close(self) -> None:
        """No more."""
        self._end.set()
        self._thread.join()
        self._admin.close()


@pytest.fixture
def backends(database: str) -> Iterator[Backends]:
    """From now on."""
    backends = Backends(database)
    yield backends
    backends.close()


def statuses(admin: Admin) -> dict[str, int]:
    """How many runs there are of each status."""
    return dict(admin.execute("select status, count(*)::int from pgflow.runs group by 1").fetchall())


def started(admin: Admin) -> int:
    """Tasks that are held as started."""
    row = admin.execute("select count(*) from pgflow.step_tasks where status = 'started'").fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def lasting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds of trouble are one, but for where they are the matter."""
    if "archive" not in request.node.name:
        for module in ("worker.troubles", "worker.claim_troubles"):
            monkeypatch.setattr(f"pgflow_starter.{module}.LASTING", 1.0)
