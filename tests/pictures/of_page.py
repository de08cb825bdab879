"""The pictures of the page and of a run's own."""

from __future__ import annotations

from uuid import UUID

from tests.browser.chromium import Page
from tests.pictures.camera import shoot_top

WIDE, PHONE = (1400, 1000), (390, 844)


def of_page(page: Page, url: str) -> None:
    """Both schemes, and a phone."""
    for name, scheme, size, height, scale in (
        ("page", "light", WIDE, 1280, 1),
        ("page-dark", "dark", WIDE, 1280, 1),
        ("page-phone", "light", PHONE, 844, 2),
    ):
        page.open(f"{url}/", scheme=scheme, size=size)
        page.shows("Live", "#link")
        page.shows("to be tried again", "#problems")
        page.shows("restock", "#queues")
        page.shows("send_email", "#processes")
        shoot_top(page, name, height, scale)


def of_run(page: Page, url: str, run: UUID) -> None:
    """Its own view."""
    page.open(f"{url}/#run={run}", size=WIDE)
    page.shows("Live", "#link")
    page.shows("BankClosed", "#run")
    shoot_top(page, "run", 1300)
