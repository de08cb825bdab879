"""Where a server listens, how it ends, and what it says when it cannot."""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from pgflow_starter import MissingExtraError, SetupError, web
from pgflow_starter.web.address import Address, parse_address
from pgflow_starter.web.door import PATIENCE
from pgflow_starter.web.server import THREADS
from tests.web.client import get, raw, read_all, stream
from tests.web.conftest import servers_threads
from tests.web.stage import Stage, module


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        (":8080", Address("127.0.0.1", 8080)),
        ("8080", Address("127.0.0.1", 8080)),
        ("localhost:1", Address("localhost", 1)),
        ("[::1]:65535", Address("::1", 65535)),
        (" [::]:80 ", Address("::", 80)),
    ],
)
def test_addresses_are_understood(given: str, expected: Address) -> None:
    assert parse_address(given) == expected


@pytest.mark.parametrize("given", ["", ":", "localhost", "a:b", "a:-1", "a:65536", "::1:80", "[::1]", "[]:80", "a:8²"])
def test_what_is_no_address_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT .* such as 127\.0\.0\.1:8080, got "):
        web.serve(Stage(), given)


@pytest.mark.parametrize("address", [":0", "127.0.0.1:0", "localhost:0", "0.0.0.0:0", "[::1]:0"])
def test_it_listens_where_it_says(address: str) -> None:
    with web.serve(Stage(), address) as server:
        assert get(server.url, "/livez").status == 200
        assert (server.url in repr(server)) is True
    with pytest.raises(OSError, match="refused"):
        get(server.url, "/livez")


def test_a_port_in_use_is_one_clear_error() -> None:
    with web.serve(Stage(), ":0") as server:
        taken = server.url.removeprefix("http://")
        with pytest.raises(SetupError) as caught:
            web.serve(Stage(), taken)
    assert str(caught.value) == (
        f"nothing can listen on {taken}: Address already in use; choose another address or port (0 takes any free one)"
    )


def test_a_host_that_is_not_here_is_one_clear_error() -> None:
    with pytest.raises(SetupError, match=r"nothing can listen on 192\.0\.2\.1:0: Cannot assign requested address"):
        web.serve(Stage(), "192.0.2.1:0")
    with pytest.raises(SetupError, match=r"nothing can listen on nowhere\.invalid:0: "):
        web.serve(Stage(), "nowhere.invalid:0")


def test_without_waitress_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "waitress.server", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[web\]'"):
        web.serve(Stage(), ":0")


def test_closing_leaves_nothing_and_can_be_done_again_by_anybody() -> None:
    before = servers_threads()
    server = web.serve(Stage(), ":0")
    assert len(servers_threads() - before) == 8
    closing = [threading.Thread(target=server.close) for _ in range(3)]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()
    server.close()
    assert servers_threads() <= before
    again = web.serve(Stage(), server.url.removeprefix("http://"))
    again.close()


def test_a_connection_that_says_nothing_keeps_nobody_from_closing() -> None:
    with web.serve(Stage(), ":0") as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as silent, stream(server.url) as reader:
            assert reader.event()[0] == "status"
            began = time.monotonic()
            server.close()
            assert time.monotonic() - began < PATIENCE / 2
            assert silent.recv(1) == b""


def test_each_connection_is_for_one_answer() -> None:
    with web.serve(Stage(), ":0") as server, raw(server.url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        told = read_all(connection)
    assert told.count(b"HTTP/1.1 200 OK") == 1
    assert b"\r\nConnection: close\r\n" in told


def test_an_old_client_that_would_go_on_is_told_once_that_it_cannot() -> None:
    with web.serve(Stage(), ":0") as server, raw(server.url) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        told = read_all(connection)
    assert told.lower().count(b"\r\nconnection: ") == 1
    assert b"\r\nConnection: close\r\n" in told


@pytest.mark.parametrize("path", ["/livez", "/status", "/events"])
def test_asking_for_the_headers_brings_no_body(path: str) -> None:
    with web.serve(Stage(), ":0") as server, raw(server.url) as connection:
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert read_all(connection).partition(b"\r\n\r\n")[2] == b""


def test_who_asks_a_hundred_times_and_never_reads_takes_no_thread() -> None:
    stage = Stage(modules=tuple(module(f"m{i}", "retrying", reason="x" * 400) for i in range(500)))
    with web.serve(stage, ":0") as server, ExitStack() as open_:
        for _ in range(3 * THREADS):
            connection = open_.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
            connection.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        for _ in range(20):
            assert get(server.url, "/livez").status == 200
