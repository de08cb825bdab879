"""`Metrics`: the WSGI application for whoever collects metrics."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pgflow_starter.web.hosts import REFUSED, answers
from pgflow_starter.web.response import Response, text

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

    from pgflow_starter.web.server import Closing

PATH = "/metrics"


class Metrics:
    """An application at `/metrics`, and nothing beside it; for the Hosts that the page is for. Thread-safe."""

    def __init__(self, metrics: Closing) -> None:
        self._metrics = metrics

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if not answers(environ):
            return _say(text(HTTPStatus.MISDIRECTED_REQUEST, REFUSED), start_response)
        if environ.get("PATH_INFO", "").removesuffix("/") != PATH:
            return _say(text(HTTPStatus.NOT_FOUND, f"the metrics are at {PATH}"), start_response)
        return self._metrics(environ, start_response)

    def close(self) -> None:
        """Nothing is told any more. Idempotent as what it is made of."""
        self._metrics.close()


def _say(response: Response, start_response: StartResponse) -> Iterable[bytes]:
    start_response(f"{response.status.value} {response.status.phrase}", response.header_list())
    return [response.body] if isinstance(response.body, bytes) else response.body
