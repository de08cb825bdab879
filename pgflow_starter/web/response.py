"""`Response`: a status, a content type and a body."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer."""


@dataclass(frozen=True, slots=True)
class Response:
    """What is to be answered. A `body` of bytes gets its length told; any other is streamed."""

    status: HTTPStatus
    content_type: str
    body: bytes | Iterable[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)

    def header_list(self) -> list[tuple[str, str]]:
        """The headers as WSGI wants them."""
        told = {"Content-Type": self.content_type, **SECURITY, **self.headers}
        if isinstance(self.body, bytes):
            told["Content-Length"] = str(len(self.body))
        return list(told.items())


def text(status: HTTPStatus, body: str, **headers: str) -> Response:
    """A plain text."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, "text/plain; charset=utf-8", f"{body}\n".encode("utf-8", "replace"), named)


def json_data(status: HTTPStatus, data: Any) -> Response:
    """Data as JSON."""
    return Response(status, "application/json", json.dumps(data, separators=(",", ":")).encode())
