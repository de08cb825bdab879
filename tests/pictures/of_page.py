"""The pictures of the page and of a run's own."""

from __future__ import annotations

from uuid import UUID

from tests.browser.chromium import Page
from tests.pictures.camera import shoot_part, shoot_top

WIDE, PHONE = (1400, 1000), (390, 844)


def of_page(page: Page, url: str) -> None:
    """Both schemes, a phone, and the queues by themselves."""
    for name, scheme, size, height, scale in (
        ("page", "light", WIDE, 1200, 1),
        ("page-dark", "dark", WIDE, 1200, 1),
        ("page-phone", "light", PHONE, 844, 2),
    ):
        page.open(f"{url}/", scheme=scheme, size=size)
        page.shows("Live", "#link")
        page.shows("to be tried again", "#problems")
        for words in ("Queues", "Workers of all processes"):
            page.shows(words, "#links")
        shoot_top(page, name, height, scale)
    page.open(f"{url}/", size=WIDE)
    page.shows("Queues", "#links")
    shoot_part(page, "queues", "#queues")


def of_run(page: Page, url: str, run: UUID) -> None:
    """Its own view, with the tasks of its map."""
    page.open(f"{url}/#run={run}", size=WIDE)
    page.shows("Live", "#link")
    page.shows("BankClosed", "#run")
    page.run("for (const each of document.querySelectorAll('#run .tasks details')) each.open = true")
    shoot_top(page, "run", 1300)
