"""`StatusUrl`: where a running starter tells its status, and asking there."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from pgflow_starter.cli.failures import NoAnswer
from pgflow_starter.cli.status_answer import Answer, read
from pgflow_starter.cli.telling import visible
from pgflow_starter.clock import Clock
from pgflow_starter.core.text import one_line
from pgflow_starter.web.hosts import address, is_loopback

_MOST = 64 * 1024 * 1024
_CHUNK = 64 * 1024
_ENDED = 503


@dataclass(frozen=True, slots=True)
class StatusUrl:
    """The address without what is secret in it, as `str` shows it; what is secret apart."""

    shown: str
    query: str
    credentials: str | None

    def __str__(self) -> str:
        return self.shown

    def ask(self, timeout: float, clock: Clock) -> Answer:
        """What the starter says. Waits `timeout` seconds in all. Raises NoAnswer."""
        # Not redirected: another host must not get what was meant for this one.
        request = urllib.request.Request(self.shown + self.query, headers={"Accept": "application/json"})
        if self.credentials is not None:
            request.add_unredirected_header("Authorization", self.credentials)
        try:
            return read(_Asking(request, timeout, clock).body(), clock.now())
        except urllib.error.HTTPError as error:
            raise self._no_answer(one_line(f"the answer is {error.code} {error.reason}")) from None
        except (OSError, http.client.HTTPException) as error:
            why = error.reason if isinstance(error, urllib.error.URLError) else error
            raise self._no_answer(one_line(str(getattr(why, "strerror", None) or why) or type(why).__name__)) from None
        except ValueError:
            raise self._no_answer("what answers there is not a starter's status") from None

    def _no_answer(self, why: str) -> NoAnswer:
        return NoAnswer(
            f"no status from {self}: {visible(why)}; is a starter there (`pgflow-starter run --http`), and is that its "
            "address?"
        )


class _Asking:
    """One question, asked on a thread of its own: a timeout of a socket bounds each read, and a server may drip."""

    def __init__(self, request: urllib.request.Request, timeout: float, clock: Clock) -> None:
        self._request = request
        self._timeout = timeout
        self._clock = clock
        self._deadline = clock.monotonic() + timeout
        self._connection: http.client.HTTPConnection | None = None
        self._answer: SimpleQueue[bytes | Exception] = SimpleQueue()

    def body(self) -> bytes:
        """The whole answer, in time. Raises OSError, HTTPException and ValueError."""
        threading.Thread(target=self._ask, name="pgflow-status", daemon=True).start()
        try:
            answer = self._answer.get(timeout=self._timeout)
        except Empty:
            self._cut()
            raise self._late() from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask(self) -> None:
        try:
            self._answer.put(self._read())
        except Exception as error:
            self._answer.put(error)

    def _read(self) -> bytes:
        opener = urllib.request.build_opener(_Proxies(), _Connections(self._kept))
        try:
            response = opener.open(self._request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            if error.code != _ENDED:
                error.close()
                raise
            response = error  # a starter that has ended says so
        with response:
            body = bytearray()
            while chunk := response.read1(_CHUNK):
                body += chunk
                if self._clock.monotonic() > self._deadline:
                    raise self._late()
                if len(body) > _MOST:
                    raise ValueError
            return bytes(body)

    def _kept(self, made: http.client.HTTPConnection) -> None:
        if self._clock.monotonic() > self._deadline:
            raise self._late()  # nobody waits any more, and this would be the next of many redirections
        self._connection = made

    def _cut(self) -> None:
        """Let the thread end: `--watch` asks again and again."""
        taken = None if self._connection is None else self._connection.sock
        if taken is not None:
            with contextlib.suppress(OSError):
                taken.shutdown(socket.SHUT_RDWR)

    def _late(self) -> TimeoutError:
        return TimeoutError(f"timed out: no whole answer within {self._timeout:g} s")


class _Proxies(urllib.request.ProxyHandler):
    """The environment's, but for loopback: a proxy would ask its own machine, and get what was meant for this one."""

    def proxy_open(self, req: urllib.request.Request, proxy: str, type: str) -> Any:
        host = urlsplit(req.full_url).hostname or ""
        found = address(host)
        # 0.0.0.0 as well, where a starter listens that all can reach.
        if is_loopback(host) or (found is not None and found.is_unspecified):
            return None
        return super().proxy_open(req, proxy, type)


class _Connections(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Tells of each connection that is made."""

    def __init__(self, made: Callable[[http.client.HTTPConnection], None]) -> None:
        super().__init__()
        self._made = made

    def do_open(self, http_class: Any, req: urllib.request.Request, **options: Any) -> http.client.HTTPResponse:
        def connect(host: str, /, **options: Any) -> http.client.HTTPConnection:
            connection: http.client.HTTPConnection = http_class(host, **options)
            self._made(connection)
            return connection

        return super().do_open(connect, req, **options)


def parse(given: str) -> StatusUrl:
    """The address of the status: of the starter's page, or of `/status` itself, with or without `http://`.

    Raises ValueError, which shows nothing of the address: it may hold a password.
    """
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, SplitResult("", "", "", "", "")
    if not host or parts.scheme not in ("http", "https") or not given.isprintable() or " " in given:
        raise ValueError("it is not an address (and is not shown, for it may hold a password): write http://HOST:PORT")
    rest = f"{parts.path}?{parts.query}#{parts.fragment}"
    if "@" in rest:
        raise ValueError(
            "it has an @ after its host, which may be the end of a password, and is not shown: write / ? # @ in a "
            "password as %2F %3F %23 %40"
        )
    if not rest.isascii():
        raise ValueError("its path or query has letters that an address cannot have: write ü as %C3%BC")
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("its host is not the name of one: each part between dots has 1 to 63 letters") from None
    place = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/")
    shown = f"{parts.scheme}://{place}{'' if port is None else f':{port}'}{path.removesuffix('/status')}/status"
    credentials = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return StatusUrl(shown, f"?{parts.query}" if parts.query else "", credentials)
