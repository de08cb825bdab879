"""`Metrics`: the WSGI application for whoever collects metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pgflow_starter.clock import Clock
from pgflow_starter.web.hosts import REFUSED, answers
from pgflow_starter.web.response import Response, text

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

    from pgflow_starter.web.server import Closing

PATH = "/metrics"

FRESH_FOR = 1.0
"""Seconds that an answer counts for everybody who asks the same: to print a thousand modules takes half a second."""

_ASKED = ("REQUEST_METHOD", "QUERY_STRING", "HTTP_ACCEPT", "HTTP_ACCEPT_ENCODING")


class Metrics:
    """An application at `/metrics`, and nothing beside it; for the Hosts that the page is for. Thread-safe.

    One answer is made at a time, for all who wait for it: several who collect cost no more than one does, and the
    exporter may not be asked by two at once, which can mix up their answers.
    """

    def __init__(self, metrics: Closing, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._making = threading.Lock()
        self._asked: tuple[Any, ...] = ()
        self._last: tuple[str, list[tuple[str, str]], bytes] = ("", [], b"")
        self._fresh_until = 0.0

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if not answers(environ):
            return _say(text(HTTPStatus.MISDIRECTED_REQUEST, REFUSED), start_response)
        if environ.get("PATH_INFO", "").removesuffix("/") != PATH:
            return _say(text(HTTPStatus.NOT_FOUND, f"the metrics are at {PATH}"), start_response)
        status, headers, body = self._answer(environ)
        start_response(status, headers)
        return [body]

    def close(self) -> None:
        """Nothing is told any more. Idempotent as what it is made of."""
        self._metrics.close()

    def _answer(self, environ: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        asked = tuple(environ.get(name, "") for name in _ASKED)
        with self._making:
            if asked != self._asked or self._clock.monotonic() >= self._fresh_until:
                said: list[Any] = []
                body = b"".join(self._metrics(dict(environ), lambda *told: said.extend(told)))
                self._asked, self._last = asked, (said[0], list(said[1]), body)
                self._fresh_until = self._clock.monotonic() + FRESH_FOR
            return self._last


def _say(response: Response, start_response: StartResponse) -> Iterable[bytes]:
    start_response(f"{response.status.value} {response.status.phrase}", response.header_list())
    return [response.body] if isinstance(response.body, bytes) else response.body
