"""Paths, methods, prefixes, headers, and the rules of WSGI."""

from __future__ import annotations

import io
import re
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from pgflow_starter import StarterStopped, web
from pgflow_starter.clock import SystemClock
from pgflow_starter.web import Application
from tests.web.client import get
from tests.web.stage import Stage, module

SCHEMAS = tuple(f"/{name}/schema" for name in ("status", "problems", "runs", "run", "queues", "workers"))
DATA = ("/status", "/problems", "/runs", "/queues", "/workers")
PATHS = ("/", "/livez", "/readyz", "/healthz", "/events", *DATA, *SCHEMAS)
FILES = ("/page.css", "/page.js", "/icon.svg")


def asked(app: Any, path: str, method: str = "GET", prefix: str = "") -> tuple[str, dict[str, str], bytes]:
    """One request, through the checker of the WSGI rules; of a stream its first part."""
    path, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SCRIPT_NAME": prefix,
        "QUERY_STRING": query,
        "wsgi.multithread": True,
    }
    setup_testing_defaults(environ)
    told: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        told.update(status=status, headers={k.lower(): v for k, v in headers})
        return io.BytesIO().write

    answer = validator(app)(environ, start_response)
    try:
        body = next(iter(answer), b"") if path == "/events" else b"".join(answer)
    finally:
        answer.close()  # type: ignore[attr-defined]
    return told["status"], told["headers"], body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_answer_keeps_the_rules_of_wsgi(method: str) -> None:
    stage = Stage()
    app = web.application(stage)
    for end, expected in ((None, "200 OK"), (StarterStopped("stopped"), "503 Service Unavailable")):
        stage.end = end
        for path in PATHS:
            status, headers, body = asked(app, path, method)
            standing = expected if path not in ("/", *SCHEMAS) else "200 OK"
            assert status == standing, path
            assert headers["cache-control"] == "no-store"
            assert (body == b"") == (method == "HEAD"), path


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_get_and_head_is_taken(method: str) -> None:
    app = web.application(Stage())
    for path in (*PATHS, *FILES):
        status, headers, _ = asked(app, path, method)
        assert (status, headers["allow"]) == ("405 Method Not Allowed", "GET, HEAD")


@pytest.mark.parametrize("path", ["/nothing", "/livez//", "/status/", "/page.html", "/../livez", "/application.py"])
def test_other_paths_are_not_found(path: str) -> None:
    with web.serve(Stage(), ":0") as server:
        answer = get(server.url, path)
    assert (answer.status, answer.text) == (404, "not found\n")
    assert asked(web.application(Stage()), path, "POST")[0] == "404 Not Found"


def test_below_a_prefix_all_addresses_of_the_page_are_its_own() -> None:
    app = web.application(Stage())
    status, headers, _ = asked(app, "", prefix="/ops/pgflow")
    assert (status, headers["location"]) == ("308 Permanent Redirect", "./pgflow/")
    page = asked(app, "/", prefix="/ops/pgflow")[2].decode()
    addresses = re.findall(r'(?:href|src)="([^"#]+)"', page)
    assert "page.js" in addresses
    for address in addresses:
        assert not address.startswith("/")
        assert asked(app, f"/{address}", prefix="/ops/pgflow")[0] == "200 OK"


@pytest.mark.parametrize("prefix", ["//evil.example", "/javascript:alert(1)", "/a b\xff"])
def test_the_way_to_the_page_leads_nowhere_else(prefix: str) -> None:
    location = asked(web.application(Stage()), "", prefix=prefix)[1]["location"]
    assert re.fullmatch(r"\./[A-Za-z0-9%._~-]*/", location)


def test_the_page_may_load_only_what_is_its_own_and_no_markup_from_texts() -> None:
    app = web.application(Stage(modules=(module("<script>alert(1)</script>"),)))
    _, headers, page = asked(app, "/")
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "connect", "img")} == {"'self'"}
    assert "unsafe" not in headers["content-security-policy"]
    assert b"alert" not in page
    assert not re.search(rb"<script(?! type=\"module\" src)|<style|\son\w+=|\sstyle=|https?:", page)


def test_every_script_that_is_loaded_is_there_and_makes_no_markup() -> None:
    app = web.application(Stage())
    open_, seen = ["page.js"], set[str]()
    while open_:
        name = open_.pop()
        seen.add(name)
        status, headers, body = asked(app, f"/{name}")
        assert (status, headers["content-type"]) == ("200 OK", "text/javascript; charset=utf-8")
        assert not re.search(
            rb"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?:(?!//www\.w3\.org)", body
        )
        open_ += set(re.findall(r'from "\./([^"]+)"', body.decode())) - seen
    assert len(seen) > 5


def test_a_name_that_is_no_unicode_breaks_nothing() -> None:
    app = Application(Stage(modules=(module("\ud800", "retrying", reason="\udfff"),)), SystemClock())
    for path in ("/readyz", "/healthz", "/status", "/events"):
        assert asked(app, path)[2]
