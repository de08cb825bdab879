"""Probes, a page and JSON over HTTP that say where a starter stands. Read only unless actions are on.

server = pgflow_starter.web.serve(starter, "127.0.0.1:8080")   # by itself, with the extra web
app = pgflow_starter.web.application(starter)                   # WSGI, to be mounted in another application
"""

from __future__ import annotations

from pgflow_starter.clock import SystemClock
from pgflow_starter.web.address import parse_address
from pgflow_starter.web.application import STREAMS, Application
from pgflow_starter.web.looks import Shown
from pgflow_starter.web.server import Server, serve
from pgflow_starter.web.source import Source

__all__ = ["Application", "Server", "Source", "application", "parse_address", "serve"]


def application(
    starter: Source,
    *,
    streams: int = STREAMS,
    trace_url: str | None = None,
    payloads: bool = False,
    actions: bool = False,
) -> Application:
    """A WSGI application for a starter, to be served by any WSGI server under any prefix. Thread-safe.

    `trace_url` leads from a run to its trace: an address with `{trace_id}`, or `{run_id}`, in it. Runs show inputs and
    outputs with `payloads` alone, and can be cancelled and run again with `actions` alone.

    Each of the `streams` of live news that it allows at a time holds one of the server's threads: give it fewer than
    half of them. A reader that finds none free polls. A stream ends by itself after 10 s, and the page opens another: a
    server that stops and waits for open requests, as gunicorn does for its `graceful_timeout`, has to wait for that
    long. Where it tells that it begins to stop, call the application's `close`, and it need not.
    """
    return Application(starter, SystemClock(), streams=streams, shown=Shown(trace_url, payloads, actions))
