"""Server-sent events: when they come, when they end, and who gets none."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from pgflow_starter import StarterStopped, web
from pgflow_starter.clock import SystemClock
from pgflow_starter.testing import ManualClock
from pgflow_starter.web import Application
from pgflow_starter.web import events as events_module
from pgflow_starter.web.events import BLIND_HEARTBEAT, HEARTBEAT, LASTS, Streams
from pgflow_starter.web.server import STREAMS, THREADS
from pgflow_starter.web.snapshot import Snapshots
from tests.support.waiting import eventually
from tests.web.client import get, stream
from tests.web.stage import Stage, module, worker
from tests.web.test_http import asked


def place_at(url: str, open_: ExitStack) -> Any:
    """An open stream; None where there is no place for one."""
    with ExitStack() as attempt:
        reader = attempt.enter_context(stream(url))
        if reader.response.status != 200:
            return None
        open_.push(attempt.pop_all())
        return reader


def told(reader: Any) -> list[str]:
    """The statuses of the modules in the next event."""
    name, data = reader.event()
    assert name == "status"
    return [m["status"] for m in json.loads(data)["modules"]]


def test_a_stream_begins_with_the_status_and_tells_each_change() -> None:
    stage = Stage(modules=(module("order", "pending"),))
    with web.serve(stage, ":0") as server, stream(server.url) as reader:
        assert reader.response.status == 200
        assert reader.response.headers["content-type"] == "text/event-stream"
        assert told(reader) == ["pending"]
        stage.modules = (module("order", "retrying", reason="locked"),)
        assert told(reader) == ["retrying"]
        stage.workers_ = (worker("order"),)
        stage.modules = (module("order"),)
        assert told(reader) == ["succeeded"]


def test_what_has_not_changed_is_not_told_again_but_a_heartbeat_says_that_it_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "BLIND_HEARTBEAT", 0.5)
    stage = Stage(modules=(module("order"),))
    app = Application(stage, SystemClock())
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/events", "wsgi.multithread": True}
    events: Any = app(environ, lambda status, headers, exc_info=None: lambda data: None)
    first = next(events)
    assert first.startswith(b"retry: 500\nevent: status\ndata: {")
    stage.modules = (replace(stage.modules[0]),)  # equal, and another
    second = next(events)
    assert second.startswith(b": heartbeat\nevent: heartbeat\ndata: 20")
    app.close()
    assert list(events) == []
    events.close()


def test_a_stream_ends_with_the_starter_and_says_so() -> None:
    stage = Stage()
    with web.serve(stage, ":0") as server, stream(server.url) as reader:
        assert told(reader) == []
        stage.end = StarterStopped("the starter was stopped")
        assert reader.event() == ("ended", '{"error": "StarterStopped", "reason": "the starter was stopped"}')
        assert reader.event() == ("", "")
        assert get(server.url, "/events").status == 503


def test_a_server_that_is_closed_ends_its_streams_at_once() -> None:
    with web.serve(Stage(), ":0") as server, stream(server.url) as reader:
        assert told(reader) == []
        server.close()
        assert reader.event() == ("", "")


def test_streams_leave_threads_for_the_probes_and_who_finds_none_free_is_told_when_to_come_again() -> None:
    stage = Stage()
    with web.serve(stage, ":0") as server, ExitStack() as open_:
        readers = [open_.enter_context(stream(server.url)) for _ in range(STREAMS)]
        assert [told(reader) for reader in readers] == [[]] * STREAMS
        for _ in range(THREADS):
            refused = get(server.url, "/events")
            assert (refused.status, refused.headers["retry-after"]) == (503, "15")
        for _ in range(50):
            assert get(server.url, "/livez").status == get(server.url, "/status").status == 200


def test_readers_that_go_leave_their_places_to_the_next() -> None:
    with web.serve(Stage(), ":0") as server:
        for _ in range(3):
            with ExitStack() as open_:
                for _ in range(STREAMS):
                    eventually(lambda: place_at(server.url, open_), 3, "a place")


def test_where_only_writing_finds_out_that_a_reader_has_gone_it_is_done_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "LOOK_EVERY", 0.001)
    clock = ManualClock()
    streams = Streams(Snapshots(Stage(), clock), clock, limit=2, lasts=math.inf)
    gone = iter([False, False, True, False])
    told, blind = streams.open(lambda: next(gone)), streams.open(None)
    assert told is not None
    assert blind is not None
    for stream_ in (told, blind):
        assert next(stream_).startswith(b"retry: ")
    clock.advance(BLIND_HEARTBEAT)
    assert next(blind).startswith(b": heartbeat")
    assert list(told) == []  # it had nothing to say until its reader had gone
    clock.advance(HEARTBEAT)
    assert next(told).startswith(b": heartbeat")
    for stream_ in (told, blind):
        stream_.close()


def test_below_another_server_a_stream_ends_by_itself_and_leaves_its_place() -> None:
    clock, stage = ManualClock(), Stage(modules=(module("order", "pending"),))
    app = Application(stage, clock, streams=1)
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/events", "wsgi.multithread": True}
    for _ in range(2):
        events: Any = app(environ, lambda status, headers, exc_info=None: lambda data: None)
        assert next(events).startswith(b"retry: 500\nevent: status\n")
        clock.advance(LASTS)
        stage.modules = (replace(stage.modules[0], attempts=stage.modules[0].attempts + 1),)  # news puts no end off
        assert [part.partition(b"\n")[0] for part in events] == [b"event: again"]
        events.close()


def test_our_own_server_ends_its_streams_itself_so_they_last(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}

    def make(*args: Any, **settings: Any) -> Application:
        made.update(settings)
        return Application(*args, **settings)

    monkeypatch.setattr("pgflow_starter.web.server.Application", make)
    with web.serve(Stage(), ":0"):
        assert made["lasts"] == math.inf


@pytest.mark.parametrize("multithread", [False, None])
def test_a_server_of_one_thread_gives_no_streams(multithread: object) -> None:
    app = web.application(Stage())
    statuses: list[str] = []
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/events", "wsgi.multithread": multithread}
    list(app(environ, lambda status, headers, exc_info=None: statuses.append(status) or (lambda data: None)))  # type: ignore[func-returns-value]
    assert statuses == ["503 Service Unavailable"]


def test_asking_for_the_headers_takes_no_place() -> None:
    app = web.application(Stage(), streams=1)
    for _ in range(3):
        assert asked(app, "/events", "HEAD")[0] == "200 OK"
    assert asked(app, "/events")[0] == "200 OK"


def test_an_application_that_is_closed_opens_no_streams_and_answers_all_else() -> None:
    app = web.application(Stage())
    app.close()
    app.close()
    assert asked(app, "/events")[0] == "503 Service Unavailable"
    assert asked(app, "/readyz")[0] == "200 OK"
