"""Waitress's connections, each for one answer. Needs the extra `web`."""

from __future__ import annotations

import time
from typing import Any

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import ErrorTask, WSGITask

from pgflow_starter.web.response import SECURITY


class _OneAnswer(WSGITask):  # type: ignore[misc]  # waitress has no types
    """Closes the connection after its answer."""

    def service(self) -> None:
        try:
            super().service()
        except ClientDisconnected:
            # Nothing to tell, and waitress would: a reader that closes a page with a stream ends like this.
            self.close_on_finish = True

    def build_response_header(self) -> bytes:
        # As if it had been asked for. An application may not say it: the header is the server's.
        self.request.headers["CONNECTION"] = "close"
        header: bytes = super().build_response_header()
        if self.request.command == "HEAD":
            self.chunked_response = False  # else the end of the chunks that there are not would be sent
        return header


class _Refusal(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """What waitress itself answers to a request that is none, or to an application that fails."""

    def execute(self) -> None:
        self.response_headers.extend(SECURITY.items())
        super().execute()


class OneAnswerChannel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """One request is answered, whatever was sent after it.

    A client that asks many times without reading would take a thread until it reads. One answer is kept for it, and the
    thread is free.
    """

    task_class = _OneAnswer
    error_task_class = _Refusal

    def __init__(self, *args: Any, **options: Any) -> None:
        self._moved_at = time.monotonic()
        self._unread = 0
        super().__init__(*args, **options)

    def idle_for(self, now: float) -> float:
        """Seconds since the connection was made, or its reader read, or its request was being answered.

        What arrives of a request before it is whole does not count: somebody may send a byte now and then.
        """
        if self.requests or self.total_outbufs_len != self._unread:
            self._moved_at, self._unread = now, self.total_outbufs_len
        return now - self._moved_at
