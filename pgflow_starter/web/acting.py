"""`Actions`: what may be done from the page, by whom it was served to and nobody else.

A page of another site can have a browser send requests here, and cannot read the answers: so it does not know the
token, which is told in one. Beyond that a browser says from which site a request comes, and asks first before it sends
JSON to another.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from uuid import UUID

from pgflow_starter.core.cancelled import ON_THE_PAGE
from pgflow_starter.core.text import one_line
from pgflow_starter.errors import DatabaseError, PgflowError, RunNotFoundError, StarterStopped, StarterTerminated
from pgflow_starter.web.response import Response, json_data
from pgflow_starter.web.source import Source
from pgflow_starter.web.words import uuid_in

logger = logging.getLogger("pgflow_starter.web")

TOKEN = "HTTP_X_PGFLOW_TOKEN"
LONGEST_BODY = 4096
DENIED = "42501"
"""The SQLSTATE of what the role may not do: it may not later, either."""


class Refused(Exception):  # noqa: N818 - an answer, no fault
    """Not done, and why."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class Actions:
    """Of one application: its token lasts as long as it does. One action on a run at a time, and `acted` is
    called after it, whatever became of it. Thread-safe."""

    def __init__(self, source: Source, acted: Callable[[], object], *, allowed: bool) -> None:
        self._source = source
        self._acted = acted
        self._token = secrets.token_urlsafe(32) if allowed else None
        self._acting = threading.Lock()
        self._known: dict[str, Callable[[Any], dict[str, Any]]] = {
            "/actions/retry-now": self._retry_now,
            "/actions/cancel": self._cancel,
            "/actions/rerun": self._rerun,
        }

    def told(self) -> dict[str, Any]:
        """Whether anything may be done, and the token for it."""
        return {"actions": self._token is not None, "token": self._token}

    def knows(self, path: str) -> bool:
        """Whether that is the path of an action, may it be done or not."""
        return path in self._known

    def answer(self, path: str, environ: Mapping[str, Any]) -> Response:
        """Do what is asked for by that path, one that is known; on a run it takes 15 s at most.

        Raises PgflowError when the starter has ended.
        """
        try:
            self._check(environ)
            told = self._known[path](_body(environ))
            logger.info("%s, asked for by %s: %s", path.removeprefix("/"), environ.get("REMOTE_ADDR", "?"), told)
            return json_data(HTTPStatus.OK, told)
        except Refused as refused:
            if getattr(refused.__cause__, "unknown", False):
                who = environ.get("REMOTE_ADDR", "?")
                logger.warning("%s, asked for by %s, may be done or not: %s", path.removeprefix("/"), who, refused)
            answer = json_data(refused.status, {"error": str(refused)})
            wrong_method = refused.status is HTTPStatus.METHOD_NOT_ALLOWED
            return replace(answer, headers={"Allow": "POST" if self._token else ""}) if wrong_method else answer

    def _check(self, environ: Mapping[str, Any]) -> None:
        if self._token is None:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "read only: nothing can be done here")
        if environ["REQUEST_METHOD"] != "POST":
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "an action is a POST")
        if not of_this_site(environ):
            raise Refused(HTTPStatus.FORBIDDEN, "the request comes from another site")
        given = environ.get(TOKEN, "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, self._token.encode()):
            raise Refused(HTTPStatus.FORBIDDEN, "the token is not that of GET /actions: each process has another")
        if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")

    def _retry_now(self, body: Any) -> dict[str, Any]:
        name = _word(body, "module")
        if self._source.module_status(name) is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no module {one_line(name, 100)!r}")
        self._source.retry_now(name)
        return {"module": name}

    def _cancel(self, body: Any) -> dict[str, Any]:
        run_id = _run(body)
        run = self._on_run(lambda: self._source.client.cancel(run_id, ON_THE_PAGE))
        return {"run": str(run.id), "status": run.status}

    def _rerun(self, body: Any) -> dict[str, Any]:
        run_id = _run(body)
        run = self._on_run(lambda: self._source.client.rerun(run_id))
        return {"run": str(run_id), "new_run": str(run.id)}

    def _on_run(self, act: Callable[[], Any]) -> Any:
        self._source.status()  # one that has ended is told as everywhere
        if not self._acting.acquire(blocking=False):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "another action is under way: try again")
        try:
            return act()
        except RunNotFoundError as error:
            raise Refused(HTTPStatus.NOT_FOUND, one_line(str(error))) from error
        except DatabaseError as error:
            status = HTTPStatus.CONFLICT if error.sqlstate == DENIED else HTTPStatus.SERVICE_UNAVAILABLE
            raise Refused(status, one_line(str(error))) from error
        except (StarterStopped, StarterTerminated):
            raise  # it ended meanwhile
        except PgflowError as error:
            raise Refused(HTTPStatus.CONFLICT, one_line(str(error))) from error
        finally:
            self._acting.release()
            self._acted()


def of_this_site(environ: Mapping[str, Any]) -> bool:
    """Whether a browser, if it is one, says that the request comes from the page that we served.

    Its own word for it is no script's to change, and holds behind a proxy, which may send another Host than it was
    asked for. Browsers do not say it to a plain-text address other than this machine's: there the Origin is the Host.
    """
    word, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
    if word is not None:
        return bool(word == "same-origin")
    if origin is None:
        return True
    scheme, _, host = origin.partition("://")
    return scheme in ("http", "https") and host.lower() == environ.get("HTTP_HOST", "").lower() != ""


def _body(environ: Mapping[str, Any]) -> Any:
    length = environ.get("CONTENT_LENGTH") or "0"
    if not re.fullmatch("[0-9]{1,9}", length) or int(length) > LONGEST_BODY:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body must be of {LONGEST_BODY} bytes at most")
    try:
        return json.loads(environ["wsgi.input"].read(int(length)))
    except (ValueError, RecursionError):
        raise Refused(HTTPStatus.BAD_REQUEST, "the body is no JSON") from None


def _word(body: Any, name: str) -> str:
    if not isinstance(body, dict) or body.keys() != {name} or not isinstance(body[name], str):
        raise Refused(HTTPStatus.BAD_REQUEST, f"the body must be an object of {name}, a text")
    return str(body[name])


def _run(body: Any) -> UUID:
    try:
        return uuid_in(_word(body, "run"), "run")
    except ValueError as wrong:
        raise Refused(HTTPStatus.NOT_FOUND, str(wrong)) from None
