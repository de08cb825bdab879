"""Who is answered on a loopback address: a name that another site has lead there is not."""

from __future__ import annotations

from typing import Any

import pytest

from pgflow_starter import web
from pgflow_starter.clock import SystemClock
from pgflow_starter.web import Application
from pgflow_starter.web.hosts import answers, is_loopback
from tests.web.client import get, raw, read_all
from tests.web.stage import Stage

PATHS = ("/", "/page.js", "/livez", "/status", "/runs", "/events", "/nothing")
LOOPBACK = (
    *("localhost", "localhost:8080", "LocalHost:", "localhost.", "127.0.0.1", "127.0.0.1:1", "127.9.9.9", "127.1"),
    *("2130706433", "0x7f.1:80", "[::1]", "[::1]:80", "[::ffff:127.0.0.1]"),
)
STRANGE = (
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example, localhost",
    "localhost, evil.example",
    "localhost@evil.example",
    "192.0.2.1",
    "0.0.0.0",
    "0",
    "128.1",
    "127.0.0.1 evil.example",
    "127.0.0.0.1",
    "127.0.0.1..",
    "localhost..",
    "[::2]",
    "[::ffff:192.0.2.1]",
    "::1",
    "[localhost]",
    "127.0.0.1:80:80",
    "localhost:x",
    "",
)


@pytest.mark.parametrize("address", [":0", "localhost:0", "127.0.0.2:0", "[::1]:0"])
def test_on_loopback_a_rebound_name_reads_nothing(address: str) -> None:
    with web.serve(Stage(), address) as server:
        assert get(server.url, "/status").status == 200
        for path in PATHS:
            answer = get(server.url, path, host="evil.example")
            assert answer.status == 421, path
            assert "localhost, 127.0.0.1 or [::1]" in answer.text
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("host", LOOPBACK)
def test_every_name_of_loopback_is_answered_there(host: str) -> None:
    with web.serve(Stage(), ":0") as server:
        assert get(server.url, "/status", host=host).status == 200


@pytest.mark.parametrize("host", STRANGE)
def test_nothing_that_only_looks_like_one_is(host: str) -> None:
    with web.serve(Stage(), ":0") as server, raw(server.url) as connection:
        connection.sendall(f"GET /status HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert read_all(connection).startswith(b"HTTP/1.1 421 ")


def test_a_client_too_old_for_hosts_is_answered() -> None:
    with web.serve(Stage(), ":0") as server, raw(server.url) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.0 200 ")


def test_where_others_can_reach_it_every_host_is_answered() -> None:
    with web.serve(Stage(), "0.0.0.0:0") as server:
        assert get(server.url, "/status", host="ops.example").status == 200


@pytest.mark.parametrize(
    ("listens_at", "status"),
    [("127.0.0.1", "421"), ("localhost", "421"), ("::1", "421"), ("0.0.0.0", "200"), ("ops.example", "200")],
)
def test_below_another_server_its_own_address_decides(listens_at: str, status: str) -> None:
    told: list[str] = []
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/status",
        "SERVER_NAME": listens_at,
        "HTTP_HOST": "ops.example",
    }
    Application(Stage(), SystemClock())(environ, lambda said, *_: told.append(said))  # type: ignore[arg-type]
    assert told[0].startswith(status)


def test_a_server_that_tells_no_name_is_not_taken_for_loopback() -> None:
    assert answers({"HTTP_HOST": "ops.example", "SERVER_NAME": ""})
    assert not is_loopback("")
