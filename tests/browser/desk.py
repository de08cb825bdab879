"""`Desk`: the application on a stage, and before it what a test lets the database say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from pgflow_starter.clock import SystemClock
from pgflow_starter.web import Application
from pgflow_starter.web.address import bind, parse_address
from pgflow_starter.web.server import serve_application
from tests.web.stage import Stage

Answer = tuple[str, dict[str, Any]]
Query = dict[str, list[str]]


class Desk:
    """Answers the paths in `answers` by what is there, or what it returns for the query; all others as the application.

    `asked` notes each of these with its query; `posted` each deed with its words, where the token was right.
    """

    def __init__(self, stage: Stage, answers: dict[str, Any], token: str | None = None) -> None:
        self.app = Application(stage, SystemClock())
        self.answers = {"actions": {"actions": token is not None, "token": token}, **answers}
        self.token = token
        self.deeds: dict[str, Answer | Callable[[], Answer]] = {}
        self.asked: list[tuple[str, Query]] = []
        self.posted: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"].lstrip("/")
        if environ["REQUEST_METHOD"] == "POST":
            return _answer(self._done(path.removeprefix("actions/"), environ), start_response)
        if path not in self.answers:
            return self.app(environ, start_response)
        query = parse_qs(environ["QUERY_STRING"])
        self.asked.append((path, query))
        said = self.answers[path]
        told = said(query) if callable(said) else said
        return _answer(told if isinstance(told, tuple) else ("200 OK", told), start_response)

    def close(self) -> None:
        self.app.close()

    def _done(self, deed: str, environ: dict[str, Any]) -> Answer:
        words = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        if self.token is None or environ.get("HTTP_X_PGFLOW_TOKEN") != self.token:
            return "403 Forbidden", {"error": "the token is not this process's"}
        self.posted.append((deed, words))
        done = self.deeds[deed]
        return done() if callable(done) else done


def _answer(answer: Answer, start_response: Callable[..., Any]) -> list[bytes]:
    status, data = answer
    body = json.dumps(data).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


@contextmanager
def served(desk: Desk) -> Iterator[str]:
    """Its address."""
    with serve_application(desk, bind(parse_address(":0"))) as server:
        yield f"{server.url}/"
