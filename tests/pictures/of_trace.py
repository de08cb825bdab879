"""The picture of a trace in the backend's own view."""

from __future__ import annotations

from tests.browser.chromium import Page
from tests.pictures.backend import Backend
from tests.pictures.camera import shoot_part
from tests.pictures.one_trace import failed_attempt, of_the_run

VIEW = "[data-testid=dialog]"
SIZE = (1400, 990)


def of_trace(page: Page, backend: Backend, trace_id: str) -> None:
    """With its first attempt open, which failed."""
    chosen = failed_attempt(backend.spans())
    page.open(backend.url, size=SIZE)
    page.run("localStorage.setItem('arize-phoenix-theme', 'light')")
    page.open(f"{backend.page_of(trace_id)}?selectedSpanNodeId={chosen['id']}", size=SIZE)
    for words in (*(span["name"] for span in of_the_run(backend.spans())), "pgflow.task.outcome"):
        page.shows(words, VIEW, 30)
    shoot_part(page, "trace", VIEW)
