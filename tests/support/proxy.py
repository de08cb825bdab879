"""A TCP proxy in front of a server of ours that cuts, refuses, delays and swallows, and counts who comes."""

from __future__ import annotations

import itertools
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgflow_starter.postgres.embedded import EmbeddedPostgres

CHUNK = 65536
CONNECT_TIMEOUT = 5.0
_numbers = itertools.count(1)


@dataclass(eq=False, slots=True)
class End:
    """One socket of a pair, and what is on its way to it: (when to hand it over, bytes; none of them: the end)."""

    socket: socket.socket
    peer: End | None = None
    swallow: bool = False
    outgoing: deque[tuple[float, bytes]] = field(default_factory=deque)


class Proxy:
    """In front of `EmbeddedPostgres(tcp=True)`. All its work is done on one thread; calls return when it is done."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        given = conninfo_to_dict(server.conninfo())
        self._server = server
        self._target = (str(given["host"]), int(str(given["port"])))
        self._selector = selectors.DefaultSelector()
        self._ends: set[End] = set()
        self._calls: deque[tuple[Callable[[], object], threading.Event]] = deque()
        self._came: list[float] = []
        self._refusing = self._swallowing = self._closed = False
        self._delay = 0.0
        self._wake_receive, self._wake_send = socket.socketpair()
        self._wake_receive.setblocking(False)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listening.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"proxy-{next(_numbers)}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._close)
        self._thread.join()
        self._wake_send.close()

    def conninfo(self, dbname: str = "postgres", **options: str) -> str:
        """The connection string of a database by way of the proxy. Each attempt of libpq's is one connection."""
        host, port = self._listening.getsockname()
        given = {"sslmode": "disable", "gssencmode": "disable", **options}
        return make_conninfo(self._server.conninfo(dbname), host=host, port=port, **given)

    def attempts(self) -> list[float]:
        """When (monotonic clock) somebody connected, refused ones included."""
        return list(self._came)

    def cut(self) -> None:
        """Reset every connection."""
        self._do(self._cut)

    def refuse(self) -> None:
        """Reset every connection, and each new one at once."""
        self._do(lambda: self._set(refusing=True))
        self.cut()

    def black_hole(self) -> None:
        """Take what comes and hand nothing on, in either direction, for new connections and those that are there."""
        self._do(lambda: self._set(swallowing=True))

    def delay(self, seconds: float) -> None:
        """Hand everything on that much later."""
        self._do(lambda: self._set(delay=seconds))

    def accept(self) -> None:
        """Serve new connections again, without delay. What was swallowed is lost: those connections stay silent."""
        self._do(self._set)

    def _set(self, *, refusing: bool = False, swallowing: bool = False, delay: float = 0.0) -> None:
        self._refusing, self._swallowing, self._delay = refusing, swallowing, delay
        if swallowing:
            for end in self._ends:
                end.swallow = True
                end.outgoing.clear()

    def _do(self, call: Callable[[], object]) -> None:
        done = threading.Event()
        self._calls.append((call, done))
        with suppress(OSError):  # woken by something else it may have made the call already, and that may be the last
            self._wake_send.send(b".")
        done.wait()

    def _run(self) -> None:
        with self._selector, self._listening, self._wake_receive:
            self._selector.register(self._listening, selectors.EVENT_READ)
            self._selector.register(self._wake_receive, selectors.EVENT_READ)
            while not self._closed:
                for key, _ in self._selector.select(self._patience()):
                    if key.fileobj is self._listening:
                        self._welcome()
                    elif key.data is not None:
                        self._read(key.data)
                self._hand_over()
                with suppress(BlockingIOError):
                    self._wake_receive.recv(CHUNK)
                while self._calls:
                    call, done = self._calls.popleft()
                    call()
                    done.set()

    def _patience(self) -> float | None:
        due = min((end.outgoing[0][0] for end in self._ends if end.outgoing), default=None)
        return None if due is None else max(0.001, due - time.monotonic())

    def _welcome(self) -> None:
        with suppress(BlockingIOError):
            client, _ = self._listening.accept()
            self._came.append(time.monotonic())
            near = End(client, swallow=self._swallowing)
            if self._refusing:
                _reset(client)
                return
            if not self._swallowing:
                try:
                    far = End(socket.create_connection(self._target, CONNECT_TIMEOUT), near)
                except OSError:
                    _reset(client)
                    return
                near.peer = far
                self._enter(far)
            self._enter(near)

    def _enter(self, end: End) -> None:
        end.socket.setblocking(False)
        end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ends.add(end)
        self._selector.register(end.socket, selectors.EVENT_READ, end)

    def _read(self, end: End) -> None:
        if end not in self._ends:
            return
        try:
            data = end.socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._reset(end)
            return
        if end.swallow and data:
            return
        if end.peer is None or end.swallow:
            self._reset(end)
            return
        end.peer.outgoing.append((time.monotonic() + self._delay, data))
        if not data:
            self._selector.unregister(end.socket)

    def _hand_over(self) -> None:
        now = time.monotonic()
        for end in list(self._ends):
            while end in self._ends and end.outgoing and end.outgoing[0][0] <= now:
                due, data = end.outgoing.popleft()
                try:
                    sent = end.socket.send(data) if data else 0
                except BlockingIOError:
                    sent = 0
                except OSError:
                    self._reset(end)
                    break
                if not data:
                    self._leave(end)
                elif sent < len(data):
                    end.outgoing.appendleft((due, data[sent:]))
                    break

    def _leave(self, end: End, *, reset: bool = False) -> None:
        for each in (end, end.peer):
            if each is not None and each in self._ends:
                self._ends.discard(each)
                with suppress(KeyError):
                    self._selector.unregister(each.socket)
                _reset(each.socket) if reset else each.socket.close()

    def _reset(self, end: End) -> None:
        self._leave(end, reset=True)

    def _cut(self) -> None:
        for end in list(self._ends):
            self._reset(end)

    def _close(self) -> None:
        self._closed = True
        for end in list(self._ends):
            self._leave(end)


def _reset(connection: socket.socket) -> None:
    """Close with RST, as a machine does that knows nothing of the connection."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
