"""Hundreds of connections that want nothing but to be open; and what waitress itself answers and logs."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from waitress import wasyncore

from pgflow_starter import web
from pgflow_starter.clock import SystemClock
from pgflow_starter.web import Application, Server, door
from pgflow_starter.web.address import bind, parse_address
from pgflow_starter.web.server import serve_application
from tests.support.waiting import eventually
from tests.web.client import get, raw, read_all, stream
from tests.web.stage import Stage, module

MANY = 520
SLOW = Stage(modules=tuple(module(f"m{i}", "retrying", reason="x" * 400) for i in range(300)))

ASKS_ALL = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def served() -> Iterator[Server]:
    """The address of a status that is more than the kernel keeps for who does not read."""
    listening = bind(parse_address(":0"))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # each connection inherits it
    with serve_application(Application(SLOW, SystemClock()), listening) as server:
        yield server


def silent(url: str) -> socket.socket:
    return raw(url)


def beginning(url: str) -> socket.socket:
    connection = raw(url)
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ")
    return connection


def sending_a_body(url: str) -> socket.socket:
    connection = raw(url)
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n")
    return connection


def not_reading(url: str) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    connection.sendall(ASKS_ALL)
    connection.settimeout(10)
    assert connection.recv(1) == b"H"
    return connection


@contextmanager
def crowd(url: str, make: Callable[[str], socket.socket], drip: bytes = b"") -> Iterator[None]:
    """Many such connections; each sends a byte now and then, and who was let go comes again."""
    over = threading.Event()
    connections = [make(url) for _ in range(MANY)]

    def keep_on() -> None:
        while not over.wait(0.05):
            for at in range(0, MANY, 10):
                try:
                    connections[at].sendall(drip)
                except OSError:
                    connections[at].close()
                    connections[at] = make(url)

    dripping = threading.Thread(target=keep_on)
    if drip:
        dripping.start()
    try:
        yield
    finally:
        over.set()
        if drip:
            dripping.join()
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(
    ("make", "drip"),
    [(beginning, b"x"), (sending_a_body, b"x"), (silent, b""), (not_reading, b"")],
    ids=["dripping headers", "dripping bodies", "silent", "not reading"],
)
def test_a_probe_is_answered_beside_hundreds_of_slow_connections(
    make: Callable[[str], socket.socket], drip: bytes
) -> None:
    with served() as server, crowd(server.url, make, drip):
        for _ in range(10):
            # A second where the machine has the time; in any case before a slow one is let go for being slow.
            assert get(server.url, "/livez", timeout=door.PATIENCE / 2).status == 200


def test_an_open_page_is_not_let_go_for_the_sake_of_newcomers() -> None:
    stage = Stage()
    with web.serve(stage, ":0") as server, stream(server.url) as reader:
        assert reader.event()[0] == "status"
        with crowd(server.url, silent):
            assert get(server.url, "/livez").status == 200
            stage.modules = (module("news"),)
            assert "news" in reader.event()[1]


@pytest.mark.parametrize("make", [silent, beginning, sending_a_body, not_reading])
def test_who_is_slow_is_let_go_whatever_arrives_meanwhile(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[str], socket.socket]
) -> None:
    assert door.PATIENCE + door.LOOK_EVERY <= 15
    monkeypatch.setattr(door, "PATIENCE", 0.5)
    monkeypatch.setattr(door, "LOOK_EVERY", 0.05)
    with served() as server, make(server.url) as connection:

        def ended() -> bool:
            try:
                connection.sendall(b"x")
            except OSError:
                return True
            return False

        eventually(ended, 10, "the end of the connection")


def test_who_reads_slowly_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "PATIENCE", 0.5)
    monkeypatch.setattr(door, "LOOK_EVERY", 0.05)
    rest = threading.Event()
    with served() as server, not_reading(server.url) as connection:
        read = 0
        began = time.monotonic()
        while part := connection.recv(4096):
            read += len(part)
            if time.monotonic() - began < 3 * door.PATIENCE:
                rest.wait(0.02)
        assert time.monotonic() - began > 2 * door.PATIENCE
        assert read > 150_000


@contextmanager
def room_for(monkeypatch: pytest.MonkeyPatch, most: Callable[[], int]) -> Iterator[list[int]]:
    """So many connections have a file descriptor; the list gets an entry each time that there is none."""
    accept, refused = wasyncore.dispatcher.accept, list[int]()

    def limited(self: Any) -> Any:
        if len(self.active_channels) >= most():
            refused.append(1)
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(self)

    monkeypatch.setattr(wasyncore.dispatcher, "accept", limited)
    yield refused


def test_where_file_descriptors_are_out_a_probe_takes_the_place_of_who_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with room_for(monkeypatch, lambda: 10) as refused, web.serve(Stage(), ":0") as server, crowd(server.url, silent):
        assert get(server.url, "/livez").status == 200
    assert refused
    assert caplog.messages == []


def test_where_nobody_waits_either_it_is_told_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    most = 0
    with room_for(monkeypatch, lambda: most) as refused, web.serve(Stage(), ":0") as server, raw(server.url) as asking:
        asking.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: len(refused) > 1)
        most = 1
        assert read_all(asking).startswith(b"HTTP/1.1 200 ")
    assert caplog.messages == ["no connection can be accepted for now: Too many open files"]


def test_those_who_wait_leave_most_file_descriptors_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (40, 40))
    with web.serve(Stage(), ":0") as server:
        waiting = [silent(server.url) for _ in range(11)]
        assert get(server.url, "/livez").status == 200
        assert waiting[0].recv(1) == b""
        for connection in waiting:
            connection.close()


REFUSED = {
    b"nonsense\r\n\r\n": b"400",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: odd\r\n\r\n": b"501",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n": b"413",
    b"GET / HTTP/1.1\r\nX: " + b"x" * 40000: b"431",
}


@pytest.mark.parametrize(("said", "status"), REFUSED.items(), ids=["400", "501", "413", "431"])
def test_what_waitress_refuses_has_the_policy_too(said: bytes, status: bytes) -> None:
    with web.serve(Stage(), ":0") as server, raw(server.url) as connection:
        connection.sendall(said)
        told = read_all(connection).partition(b"\r\n\r\n")[0]
    assert told.split()[1] == status
    assert b"\r\nContent-Security-Policy: default-src 'none'" in told
    assert b"\r\nX-Content-Type-Options: nosniff" in told


class Failing:
    """An application."""

    def __call__(self, environ: object, start_response: object) -> list[bytes]:
        raise RuntimeError("boom")

    def close(self) -> None:
        """Nothing to end."""


def test_an_application_that_fails_has_it_too(caplog: pytest.LogCaptureFixture) -> None:
    with serve_application(Failing(), bind(parse_address(":0"))) as server:
        answer = get(server.url)
    assert answer.status == 500
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "boom" not in answer.text


def test_who_goes_away_in_the_middle_is_nothing_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stage = Stage()
    with web.serve(stage, ":0") as server:
        with stream(server.url) as reader:
            assert reader.event()[0] == "status"
        with not_reading(server.url):
            pass
        stage.modules = (module("news"),)
        eventually(lambda: get(server.url, "/livez").status == 200)
    assert caplog.messages == []


@pytest.mark.parametrize("probe", ["/livez", "/readyz", "/healthz"])
def test_a_probe_with_a_slash_at_its_end_is_the_probe(probe: str) -> None:
    stage = Stage()
    with web.serve(stage, ":0") as server:
        assert get(server.url, f"{probe}/").body == get(server.url, probe).body
