"""An end to every wait, also where there is no file descriptor to bring it about at once."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any

import psycopg
import pytest

from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.connections import time_limits as module
from pgflow_starter.postgres.connections.time_limits import TimeLimits
from tests.support.threads import left_over, ours


class Descriptors:
    """Stands for `os` in that module: `dup` fails as long as there are none."""

    def __init__(self, missing: int) -> None:
        self.missing = missing

    def dup(self, number: int) -> int:
        if self.missing:
            self.missing -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return os.dup(number)


@pytest.mark.parametrize("closing", [False, True])
def test_breaking_a_connection_is_tried_again_until_there_is_a_file_descriptor(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, closing: bool
) -> None:
    descriptors: Any = Descriptors(2)
    monkeypatch.setattr(module, "os", descriptors)
    monkeypatch.setattr(module, "AGAIN_INTERVAL", 0.1)
    before = ours()
    limits = TimeLimits("pgflow-test-limits", SystemClock())
    with psycopg.connect(empty_database, autocommit=True) as conn:
        closer = threading.Timer(0.1, limits.close)
        if closing:
            closer.start()
        with pytest.raises(psycopg.OperationalError), limits.on(conn, 60 if closing else 0.1):
            conn.execute("select pg_sleep(20)")
        assert descriptors.missing == 0
        if closing:
            closer.join()
    limits.close()
    assert left_over(before, 1) == []


def test_closing_waits_for_a_second_at_most(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgflow_starter.threads.own_thread.CLOSE_TIMEOUT", 0.1)
    limits = TimeLimits("pgflow-test-limits", SystemClock())
    taken, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with limits._lock:
            taken.set()
            leave.wait(10)

    with psycopg.connect(empty_database) as conn, limits.on(conn, 60):
        pass
    real = limits.close
    holder = threading.Thread(target=hold)
    monkeypatch.setattr(limits._changed, "notify", holder.start)
    closer = threading.Thread(target=real)
    closer.start()
    assert taken.wait(5)
    closer.join(2)
    assert not closer.is_alive()
    leave.set()
    holder.join()
    monkeypatch.undo()
    limits.close()
