"""`StatusUrl`: where a running starter tells its status, and asking there."""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from pgflow_starter.cli.answer import Answer, read
from pgflow_starter.cli.failures import NoAnswer
from pgflow_starter.core.state import one_line
from pgflow_starter.ports import Clock

_MOST = 64 * 1024 * 1024
_CHUNK = 64 * 1024
_ENDED = 503


@dataclass(frozen=True, slots=True)
class StatusUrl:
    """The address without what is secret in it, as `str` shows it; what is secret apart."""

    shown: str
    query: str
    credentials: str | None

    def __str__(self) -> str:
        return self.shown

    def ask(self, timeout: float, clock: Clock) -> Answer:
        """What the starter says. Waits `timeout` seconds in all, a wait in progress apart. Raises NoAnswer."""
        # Not redirected: another host must not get what was meant for this one.
        request = urllib.request.Request(self.shown + self.query, headers={"Accept": "application/json"})
        if self.credentials is not None:
            request.add_unredirected_header("Authorization", self.credentials)
        try:
            body = self._body(request, timeout, clock)
            return read(body, clock.now())
        except urllib.error.HTTPError as error:
            raise self._no_answer(f"the answer is {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            why = error.reason if isinstance(error, urllib.error.URLError) else error
            raise self._no_answer(one_line(str(getattr(why, "strerror", None) or why) or type(why).__name__)) from None
        except ValueError:
            raise self._no_answer("what answers there is no status of a starter") from None

    def _body(self, request: urllib.request.Request, timeout: float, clock: Clock) -> bytes:
        deadline = clock.monotonic() + timeout
        try:
            response = urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            if error.code != _ENDED:
                error.close()
                raise
            response = error  # a starter that has ended says so
        with response:
            body = bytearray()
            while chunk := response.read1(_CHUNK):
                body += chunk
                if clock.monotonic() > deadline:
                    raise TimeoutError(f"no whole answer within {timeout:g} s")
                if len(body) > _MOST:
                    raise ValueError
            return bytes(body)

    def _no_answer(self, why: str) -> NoAnswer:
        return NoAnswer(
            f"no status from {self}: {why}; is a starter there (`pgflow-starter run --http`), and is that its address?"
        )


def parse(given: str) -> StatusUrl:
    """The address of the status: of the starter's page, or of `/status` itself, with or without `http://`.

    Raises ValueError, which shows nothing of the address: it may hold a password.
    """
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, SplitResult("", "", "", "", "")
    if not host or parts.scheme not in ("http", "https") or not given.isprintable() or " " in given:
        raise ValueError("it is no address (and is not shown, for it may hold a password): write http://HOST:PORT")
    place = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/")
    shown = f"{parts.scheme}://{place}{'' if port is None else f':{port}'}{path.removesuffix('/status')}/status"
    credentials = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return StatusUrl(shown, f"?{parts.query}" if parts.query else "", credentials)
