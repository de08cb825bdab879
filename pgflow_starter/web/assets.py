"""The page's files, read once from the package."""

from __future__ import annotations

from http import HTTPStatus
from importlib.resources import files

from pgflow_starter.web.response import Response

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/schema+json",
    ".svg": "image/svg+xml",
}
_PLACES = {"page.html": "/", "status.schema.json": "/status/schema", "runs.schema.json": "/runs/schema"}


def assets() -> dict[str, Response]:
    """An answer for each path below the application. Reads files."""
    found: dict[str, Response] = {}
    for folder in ("page", "schemas"):
        for file in (files("pgflow_starter.web") / folder).iterdir():
            name = file.name
            content_type = _TYPES.get(name[name.rfind(".") :])
            if content_type is not None:
                found[_PLACES.get(name, f"/{name}")] = Response(HTTPStatus.OK, content_type, file.read_bytes())
    return found
