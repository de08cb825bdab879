"""`serve`: the application on a waitress of its own."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterable
from typing import Any, Protocol, Self

from pgflow_starter.clock import SystemClock, one_wait
from pgflow_starter.errors import MissingExtraError, installing
from pgflow_starter.web.address import Address, bind, parse_address
from pgflow_starter.web.application import Application
from pgflow_starter.web.looks import Shown
from pgflow_starter.web.source import Source

THREADS = 8
STREAMS = THREADS // 2
"""The rest is for what is answered at once; what waits for the database takes one more thread for long."""

ENDS_WITHIN = 5.0
"""Seconds that requests get to end when the server is closed."""

_LIMITS = {
    "channel_request_lookahead": 1,  # so that a stream learns that its reader has gone
    "connection_limit": 500,  # those that are being answered; the others make room
    "max_request_body_size": 65536,
    "max_request_header_size": 32768,
    "outbuf_high_watermark": 2**20,  # what is kept for a reader of a stream that does not read
    "asyncore_use_poll": True,
}


class Closing(Protocol):
    """A WSGI application that ends its streams when it is told to."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]: ...

    def close(self) -> None:
        """End them. Does not wait."""


class Server:
    """A server on its own threads. A context manager that closes it. Thread-safe."""

    def __init__(self, waitress_server: Any, sockets: dict[int, Any], application: Closing) -> None:
        self._server = waitress_server
        self._sockets = sockets
        self._application = application
        host, port = waitress_server.effective_host, int(waitress_server.effective_port)
        self.url = f"http://{Address(host, port)}"
        self._closed = threading.Lock()
        self._waking = threading.Lock()
        self._thread = threading.Thread(target=waitress_server.run, name="pgflow-web", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Server({self.url!r})"

    def close(self) -> None:
        """End the streams, let requests end for up to 5 s, stop listening. Idempotent; returns when done."""
        if self._closed.acquire(blocking=False):
            self._application.close()
            self._server.task_dispatcher.shutdown(timeout=ENDS_WITHIN)
            # Sockets belong to the thread that polls them. It may be awake and take the call before the pipe that wakes
            # it is written to: that pipe must not be closed by then, its number may be another file's.
            with self._waking:
                self._server.trigger.pull_trigger(self._close_sockets)
        clock = SystemClock()
        deadline = clock.monotonic() + ENDS_WITHIN
        while self._thread.is_alive() and (left := deadline - clock.monotonic()) > 0:
            self._thread.join(one_wait(left))

    def _close_sockets(self) -> None:
        with self._waking:
            for channel in list(self._server.active_channels.values()):
                channel.handle_close()  # a thread may wait for this channel's reader to read
            for part in list(self._sockets.values()):
                part.close()


def serve(
    starter: Source,
    address: str,
    *,
    trace_url: str | None = None,
    payloads: bool = False,
    actions: bool = False,
) -> Server:
    """Serve a starter's probes and page on `HOST:PORT`, on loopback where no host is given; port 0 takes a free one.

    The rest as for `application`. Returns at once, listening. Raises ValueError for what is no address, SetupError when
    it cannot be listened on, MissingExtraError without waitress.
    """
    where = parse_address(address)
    try:
        import waitress.server  # noqa: F401 - to see whether it is there
    except ImportError:
        raise MissingExtraError(f"serving the page needs the extra web: {installing('web')}") from None
    shown = Shown(trace_url, payloads, actions)
    application = Application(starter, SystemClock(), streams=STREAMS, lasts=math.inf, shown=shown)
    return serve_application(application, bind(where))


def serve_application(application: Closing, listening: socket.socket) -> Server:
    """Serve an application on a socket that listens. The server's `close` closes both."""
    from waitress.adjustments import Adjustments

    from pgflow_starter.web.door import Door

    sockets: dict[int, Any] = {}
    # The application judges Hosts by the server's name.
    name = listening.getsockname()[0]
    told = Adjustments(sockets=[listening], threads=THREADS, ident="pgflow-starter", server_name=name, **_LIMITS)
    return Server(Door(application, sockets, listening, told), sockets, application)
