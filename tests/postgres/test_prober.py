"""The probe's thread: who waits for an answer gets one, whatever another makes of it."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.connections.connection import ServerLimits, Session
from pgflow_starter.postgres.connections.pace import Pace
from pgflow_starter.postgres.connections.prober import Prober
from tests.support.database import opened


def test_one_that_raises_when_the_probe_has_answered_keeps_nobody_from_being_told() -> None:
    def failing() -> None:
        raise ValueError("no")

    told, ended = threading.Event(), threading.Event()
    clock = SystemClock()
    prober = Prober(clock, Pace(clock), probe=lambda: None, up=lambda: None, away=lambda error: True, ended=ended.set)
    prober.doubt(failing)
    prober.doubt(told.set)
    try:
        prober.revive()
        assert told.wait(10)
    finally:
        prober.close()
    assert ended.wait(10)


def test_once_it_is_closed_no_thread_is_started() -> None:
    ended = threading.Event()
    clock = SystemClock()
    prober = Prober(clock, Pace(clock), probe=lambda: None, up=lambda: None, away=lambda error: True, ended=ended.set)
    prober.close(wait=False)
    prober.revive()
    prober.close()  # would wait for it
    assert not ended.is_set()


def test_a_probe_whose_connection_somebody_ends_is_no_outage_where_the_next_one_is_answered(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limit_by = Session.limit_by

    def cut(conn: Session, limits: ServerLimits | None) -> None:
        monkeypatch.setattr(Session, "limit_by", limit_by)
        with socket.socket(fileno=os.dup(conn.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)
        limit_by(conn, limits)

    monkeypatch.setattr(Session, "limit_by", cut)
    with opened(empty_database) as db, db.connection() as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    assert caplog.records == []
