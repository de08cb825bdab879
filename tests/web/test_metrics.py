"""What is printed for whoever collects metrics is printed once for all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pgflow_starter.testing import ManualClock
from pgflow_starter.web.metrics import FRESH_FOR, Metrics
from tests.web.test_http import asked

AT_ONCE = 8


class Printer:
    """Prints how often it was asked. It fails whoever asks while another does."""

    def __init__(self) -> None:
        self.times = 0
        self._printing = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        assert self._printing.acquire(blocking=False)
        self.times += 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield f"asked {self.times}\n".encode()
        self._printing.release()

    def close(self) -> None:
        """Nothing is open."""


def test_many_who_collect_at_once_have_the_same_answer() -> None:
    printer = Printer()
    app = Metrics(printer, ManualClock())
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: asked(app, "/metrics"), range(10 * AT_ONCE)))
    assert {(status, body) for status, _, body in answers} == {("200 OK", b"asked 1\n")}
    assert printer.times == 1


def test_an_answer_counts_for_a_second_and_for_who_asks_the_same() -> None:
    clock = ManualClock()
    app = Metrics(Printer(), clock)
    assert asked(app, "/metrics")[2] == b"asked 1\n"
    assert asked(app, "/metrics", "POST")[2] == b"asked 2\n"
    clock.advance(FRESH_FOR)
    assert asked(app, "/metrics", "POST")[2] == b"asked 3\n"
    assert asked(app, "/elsewhere")[0] == "404 Not Found"
