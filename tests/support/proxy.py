"""A TCP proxy in front of a server of ours that cuts, refuses, delays, slows and swallows, and counts who comes."""

from __future__ import annotations

import itertools
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.support.ends import CHUNK, End, reset
from tests.support.throttle import Throttle

CONNECT_TIMEOUT = 5.0
SOONEST = 0.001
"""Seconds between two looks at what is due."""

_numbers = itertools.count(1)


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
        self._slow: dict[bool, Throttle] = {}  # to the server: True, to clients: False
        self.most_queued = 0
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

    def throttle(self, bytes_per_second: float) -> None:
        """Hand on so many bytes a second in each direction at most, all connections together."""
        self._do(lambda: self._set(rate=bytes_per_second))

    def accept(self) -> None:
        """Serve new connections again, at once and at full speed.

        What was swallowed is lost: those connections stay silent.
        """
        self._do(self._set)

    def _set(
        self, *, refusing: bool = False, swallowing: bool = False, delay: float = 0.0, rate: float | None = None
    ) -> None:
        self._refusing, self._swallowing, self._delay = refusing, swallowing, delay
        now = time.monotonic()
        self._slow = {} if rate is None else {True: Throttle(rate, now), False: Throttle(rate, now)}
        if swallowing:
            for end in list(self._ends):
                # Whoever has gone would be waited for by the other side for ever.
                self._reset(end) if end.ended else end.forget()
            for end in self._ends:
                self._attend(end)

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
                for key, events in self._selector.select(self._patience()):
                    if key.fileobj is self._listening:
                        self._welcome()
                    elif key.data is not None:
                        if events & selectors.EVENT_WRITE:
                            key.data.full = False
                        if events & selectors.EVENT_READ:
                            self._read(key.data)
                self._hand_over()
                with suppress(BlockingIOError):
                    self._wake_receive.recv(CHUNK)
                while self._calls:
                    call, done = self._calls.popleft()
                    call()
                    done.set()

    def _patience(self) -> float | None:
        """Seconds until something is due. What a socket has no room for is not: the selector tells of the room."""
        now = time.monotonic()
        due = min((self._due(end, now) for end in self._ends if end.outgoing and not end.full), default=None)
        return None if due is None else max(SOONEST, due - now)

    def _due(self, end: End, now: float) -> float:
        slow = self._slow.get(end.server)
        return max(end.outgoing[0][0], now if slow is None else slow.next(now))

    def _welcome(self) -> None:
        with suppress(BlockingIOError):
            client, _ = self._listening.accept()
            self._came.append(time.monotonic())
            near = End(client, swallow=self._swallowing)
            if self._refusing:
                reset(client)
                return
            if not self._swallowing:
                try:
                    far = End(socket.create_connection(self._target, CONNECT_TIMEOUT), near, server=True)
                except OSError:
                    reset(client)
                    return
                near.peer = far
                self._enter(far)
            self._enter(near)

    def _enter(self, end: End) -> None:
        end.socket.setblocking(False)
        end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ends.add(end)
        self._attend(end)

    def _attend(self, end: End) -> None:
        """Wait for what can be done with its socket: reading unless there is enough for its peer, and for room."""
        events = selectors.EVENT_READ * end.reads | selectors.EVENT_WRITE * end.full
        if events == end.attended:
            return
        if not events:
            self._selector.unregister(end.socket)
        elif end.attended:
            self._selector.modify(end.socket, events, end)
        else:
            self._selector.register(end.socket, events, end)
        end.attended = events

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
        end.peer.give(time.monotonic() + self._delay, data)
        self.most_queued = max(self.most_queued, end.peer.queued)
        end.ended = not data
        self._attend(end)

    def _hand_over(self) -> None:
        now = time.monotonic()
        due = [end for end in self._ends if end.outgoing and not end.full and end.outgoing[0][0] <= now]
        shares = {
            server: slow.credit(now) // max(1, sum(end.server is server for end in due))
            for server, slow in self._slow.items()
        }
        for end in due:
            if end in self._ends:
                self._hand_over_to(end, now, shares.get(end.server))

    def _hand_over_to(self, end: End, now: float, share: int | None) -> None:
        """What is due there, and on a slow link no more than its share."""
        while end.outgoing and end.outgoing[0][0] <= now and not end.full and share != 0:
            if end.ends_now:
                self._leave(end)
                return
            try:
                sent = end.hand_over(share)
            except OSError:
                self._reset(end)
                return
            if share is not None:
                share -= sent
                self._slow[end.server].spend(sent)
        for each in (end, end.peer):
            if each in self._ends:
                self._attend(each)

    def _leave(self, end: End, *, broken: bool = False) -> None:
        for each in (end, end.peer):
            if each is not None and each in self._ends:
                self._ends.discard(each)
                if each.attended:
                    self._selector.unregister(each.socket)
                reset(each.socket) if broken else each.socket.close()

    def _reset(self, end: End) -> None:
        self._leave(end, broken=True)

    def _cut(self) -> None:
        for end in list(self._ends):
            self._reset(end)

    def _close(self) -> None:
        self._closed = True
        for end in list(self._ends):
            self._leave(end)
