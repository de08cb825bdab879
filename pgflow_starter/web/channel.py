"""Waitress's connections, each for one answer. Needs the extra `web`."""

from __future__ import annotations

from waitress.channel import HTTPChannel
from waitress.task import WSGITask


class _OneAnswer(WSGITask):  # type: ignore[misc]  # waitress has no types
    """Closes the connection after its answer."""

    def build_response_header(self) -> bytes:
        # As if it had been asked for. An application may not say it: the header is the server's.
        self.request.headers["CONNECTION"] = "close"
        header: bytes = super().build_response_header()
        if self.request.command == "HEAD":
            self.chunked_response = False  # else the end of the chunks that there are not would be sent
        return header


class OneAnswerChannel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """One request is answered, whatever was sent after it.

    Who asks many times without reading would take a thread until it reads. One answer is kept for it, and the thread
    is free.
    """

    task_class = _OneAnswer
