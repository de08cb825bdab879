"""`Application`: the WSGI application."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pgflow_starter.clock import Clock
from pgflow_starter.errors import PgflowError
from pgflow_starter.web.acting import Actions
from pgflow_starter.web.events import LASTS, Streams, ended
from pgflow_starter.web.hosts import REFUSED, answers
from pgflow_starter.web.looks import Looks, Shown
from pgflow_starter.web.probes import PROBES, Probes
from pgflow_starter.web.response import Response, json_data, text
from pgflow_starter.web.sections import sections
from pgflow_starter.web.snapshot import Snapshots
from pgflow_starter.web.source import Source
from pgflow_starter.web.words import runs_wanted, uuid_in

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

STREAMS = 2
"""Streams at a time where nobody says how many threads there are."""

RETRY_AFTER = 15
"""Seconds after which it is worth asking for a stream again."""

_METHODS = ("GET", "HEAD")
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/schema+json",
    ".svg": "image/svg+xml",
}
_PLACES = {"page.html": "/"} | {
    f"{name}.schema.json": f"/{name}/schema" for name in ("status", "runs", "run", "queues", "workers", "problems")
}


class Application:
    """Serves a starter's probes, what it and its database say as JSON, and a page. Thread-safe.

    What is asked of the database has one thread and one connection at a time, others wait half a second for it at most;
    and `/events` lasts. So neither can keep a probe waiting for long as long as the server has threads left. A stream
    ends by itself after `lasts` seconds; `close` ends all of them. Where the server says by SERVER_NAME that it listens
    on a loopback address, other Hosts are refused.
    """

    def __init__(
        self,
        source: Source,
        clock: Clock,
        *,
        streams: int = STREAMS,
        lasts: float = LASTS,
        shown: Shown = Shown(),  # noqa: B008 - immutable
    ) -> None:
        self._snapshots = Snapshots(source, clock)
        self._streams = Streams(self._snapshots, clock, limit=streams, lasts=lasts)
        looks = self._looks = Looks(source, clock, shown)
        actions = self._actions = Actions(source, looks.outdate, allowed=shown.actions)
        probes = Probes(source, clock)
        self._probes = dict(zip(PROBES, (probes.livez, probes.readyz, probes.healthz), strict=True))
        self._data: dict[str, Callable[[], Response]] = {
            "/status": self._status,
            "/actions": lambda: json_data(HTTPStatus.OK, actions.told()),
            "/queues": lambda: json_data(HTTPStatus.OK, looks.queues()),
            "/problems": lambda: json_data(HTTPStatus.OK, looks.problems()),
            "/workers": lambda: json_data(HTTPStatus.OK, looks.workers()),
        }
        self._assets = _assets()
        self._sections = {
            f"/sections/{name}": json_data(HTTPStatus.OK, section) for name, section in sections().items()
        }

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        response = self._answer(environ)
        start_response(f"{response.status.value} {response.status.phrase}", response.header_list())
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        return [response.body] if isinstance(response.body, bytes) else response.body

    def close(self) -> None:
        """End the streams within a quarter of a second and open no more; all else goes on. Does not wait. Idempotent.

        For servers that tell when they begin to stop: those that wait for open requests then need not wait for streams.
        """
        self._streams.close()

    def _answer(self, environ: Mapping[str, Any]) -> Response:
        if not answers(environ):
            return text(HTTPStatus.MISDIRECTED_REQUEST, REFUSED)
        path = environ.get("PATH_INFO", "")
        if path.removesuffix("/") in self._probes:
            path = path.removesuffix("/")
        found = self._find(path, environ)
        if found is None:
            return text(HTTPStatus.NOT_FOUND, "not found")
        if environ["REQUEST_METHOD"] not in _METHODS and not self._actions.knows(path):
            return text(HTTPStatus.METHOD_NOT_ALLOWED, "read only: GET and HEAD", Allow=", ".join(_METHODS))
        try:
            return found()
        except PgflowError as error:
            if path in self._probes:
                return text(HTTPStatus.SERVICE_UNAVAILABLE, "{error}: {reason}".format(**ended(error)))
            return json_data(HTTPStatus.SERVICE_UNAVAILABLE, ended(error))

    def _find(self, path: str, environ: Mapping[str, Any]) -> Callable[[], Response] | None:
        if path in self._probes:
            return self._probes[path]
        for written in (self._assets, self._sections):
            if path in written:
                return partial(written.__getitem__, path)
        if not path:
            return partial(_to_folder, environ.get("SCRIPT_NAME", ""))
        if path == "/events":
            return partial(self._events, environ)
        if self._actions.knows(path):
            return partial(self._actions.answer, path, environ)
        if path == "/runs":
            return partial(self._listing, environ)
        if path.startswith("/runs/"):
            return partial(self._run, path.removeprefix("/runs/"))
        return self._data.get(path)

    def _status(self) -> Response:
        facts = self._snapshots.look()
        return Response(HTTPStatus.OK, "application/json", self._snapshots.write(facts).encode())

    def _listing(self, environ: Mapping[str, Any]) -> Response:
        try:
            wanted = runs_wanted(environ)
        except ValueError as wrong:
            return json_data(HTTPStatus.BAD_REQUEST, {"error": str(wrong)})
        return json_data(HTTPStatus.OK, self._looks.runs(wanted))

    def _run(self, text: str) -> Response:
        try:
            told = self._looks.run(uuid_in(text, "a run"))
        except ValueError as wrong:
            return json_data(HTTPStatus.NOT_FOUND, {"error": str(wrong)})
        if told is None:
            return json_data(HTTPStatus.NOT_FOUND, {"error": f"there is no run {text}"})
        return json_data(HTTPStatus.OK, told)

    def _events(self, environ: Mapping[str, Any]) -> Response:
        self._snapshots.look()  # one that has ended is told by the status, before there is a stream
        headers = {"X-Accel-Buffering": "no"}
        if environ["REQUEST_METHOD"] == "HEAD":
            return Response(HTTPStatus.OK, "text/event-stream", (), headers)
        gone = environ.get("waitress.client_disconnected")
        stream = self._streams.open(gone) if environ.get("wsgi.multithread") else None
        if stream is None:
            said = "no more streams at a time: ask for /status now and then"
            return text(HTTPStatus.SERVICE_UNAVAILABLE, said, Retry_After=str(RETRY_AFTER))
        return Response(HTTPStatus.OK, "text/event-stream", stream, headers)


def _to_folder(script_name: str) -> Response:
    """From the mount point to the folder that the page's addresses are relative to."""
    own_name = script_name.rpartition("/")[2].encode("latin-1", "replace")
    return text(HTTPStatus.PERMANENT_REDIRECT, "the page is here", Location=f"./{quote(own_name)}/")


def _assets() -> dict[str, Response]:
    """The page's files, as answers, by their paths below the application. Reads them once from the package."""
    found: dict[str, Response] = {}
    for folder in ("page", "schemas"):
        for file in (files("pgflow_starter.web") / folder).iterdir():
            name = file.name
            content_type = _TYPES.get(name[name.rfind(".") :])
            if content_type is not None:
                found[_PLACES.get(name, f"/{name}")] = Response(HTTPStatus.OK, content_type, file.read_bytes())
    return found
