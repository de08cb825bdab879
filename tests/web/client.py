"""Real HTTP against a server of ours."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 10.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def data(self) -> Any:
        return json.loads(self.body)


def raw(url: str) -> socket.socket:
    """A connection that is read and written by hand."""
    where = urlsplit(url)
    return socket.create_connection((where.hostname or "", where.port or 80), timeout=TIMEOUT)


def read_all(connection: socket.socket) -> bytes:
    """Whatever comes until the other side ends it."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def get(url: str, path: str = "", method: str = "GET", *, host: str | None = None, timeout: float = TIMEOUT) -> Answer:
    """The answer to one request, on a connection of its own; redirects are not followed. `host` is what it says."""
    where = urlsplit(url)
    connection = HTTPConnection(where.hostname or "", where.port, timeout=timeout)
    try:
        connection.request(method, (where.path + path) or "/", headers={} if host is None else {"Host": host})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def post(url: str, path: str, body: bytes, **headers: str | None) -> Answer:
    """The answer to a POST, of JSON unless told otherwise; a header that is None is not sent."""
    where = urlsplit(url)
    told = {"Content_Type": "application/json", **headers}
    connection = HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT)
    try:
        sent = {name.replace("_", "-"): value for name, value in told.items() if value is not None}
        connection.request("POST", where.path + path, body, headers=sent)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


@dataclass
class Reader:
    """One open stream of events."""

    response: HTTPResponse

    def event(self) -> tuple[str, str]:
        """The next event's name and data; ("", "") at the end."""
        name = data = ""
        for line in self.response:
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                name = text[7:]
            elif text.startswith("data: "):
                data = text[6:]
            elif not text and name:
                return name, data
        return "", ""


@contextmanager
def stream(url: str, timeout: float = TIMEOUT) -> Iterator[Reader]:
    """The events at a server; `status` of the response is to be looked at."""
    where = urlsplit(url)
    connection = HTTPConnection(where.hostname or "", where.port, timeout=timeout)
    try:
        connection.request("GET", f"{where.path}/events")
        with connection.getresponse() as response:  # it holds the socket too
            yield Reader(response)
    finally:
        connection.close()
