"""A web server in this process that answers what a test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

Reply = tuple[str, bytes]
"""A status such as `200 OK`, and a body."""


@dataclass
class StubWeb:
    """`reply` is called for each request, on the server's thread; `requests` holds path, query and authorization."""

    reply: Callable[[], Reply]
    port: int = 0
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        self.requests.append((environ["PATH_INFO"], environ["QUERY_STRING"], environ.get("HTTP_AUTHORIZATION")))
        status, body = self.reply()
        start_response(status, [("Content-Type", "application/json"), *self.headers])
        return [body]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def stub_web(reply: Callable[[], Reply]) -> Iterator[StubWeb]:
    """The server, for the duration of the block."""
    stub = StubWeb(reply)
    with make_server("127.0.0.1", 0, stub, handler_class=_Quiet) as server:
        stub.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="stub-web", daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
