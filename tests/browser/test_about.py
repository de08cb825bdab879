"""What the documentation says of a problem is read below it, without a way to the documentation."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import PHONE, WIDE, Page
from tests.browser.desk import Desk, served
from tests.browser.nights import answer, bad, calm, problem
from tests.browser.scenes import healthy
from tests.browser.test_looks import AUDIT
from tests.support.waiting import eventually

OPENED = "return document.querySelector('.about').open"


def lacking(more: str | None) -> Desk:
    """A night with one problem, of which that section is about."""
    return Desk(healthy(), {**calm(), "problems": answer(problems=[problem("trouble", "It is so", more=more)])})


def open_it(page: Page) -> None:
    page.shows("It is so", "#problems")
    page.focus(".about summary")
    page.press(Keys.ENTER)


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_section_is_opened_by_a_key_and_fits(page: Page, size: tuple[int, int], scheme: str) -> None:
    with served(lacking("docs/troubleshooting.md#locked")) as url:
        page.open(url, scheme=scheme, size=size)
        open_it(page)
        page.shows("Confirm. Sessions that hold locks on these tables", ".section")
        assert page.run("return document.querySelector('.section pre').textContent").startswith("select a.pid,")
        assert "select pg_terminate_backend(PID)" in page.texts(".section code")
        assert [words for words in page.texts(".section strong") if words.endswith(".")] == ["Confirm.", "Do."]
        assert "In the documentation: docs/troubleshooting.md#locked" in page.text(".section")
        found = page.run(AUDIT)
        assert found.pop("checked") > 20
        assert found == {"contrast": [], "unnamed": [], "wide": 0}
        assert page.complaints() == []


def test_it_stays_open_while_the_page_looks_again_and_closes_with_another_section(page: Page) -> None:
    desk = lacking("docs/troubleshooting.md#locked")
    with served(desk) as url:
        page.open(url)
        open_it(page)
        page.shows("hold locks", ".section")
        desk.answers["problems"] = answer(
            problems=[problem("trouble", "It is still so", more="docs/troubleshooting.md#locked")]
        )
        page.shows("It is still so", "#problems")
        assert page.run(OPENED)
        desk.answers["problems"] = answer(
            problems=[problem("trouble", "It is other", more="docs/troubleshooting.md#hidden")]
        )
        page.shows("It is other", "#problems")
        eventually(lambda: not page.run(OPENED))
        page.press(Keys.ENTER)
        page.shows("Row level security is in force", ".section")
        assert "hold locks" not in page.text(".section")


def test_a_page_that_is_not_of_sections_is_named(page: Page) -> None:
    with served(lacking("docs/how-to/runs.md")) as url:
        page.open(url)
        page.shows("More in the documentation: docs/how-to/runs.md", "#problems")
        assert not page.run("return document.querySelector('.about').checkVisibility()")


def test_where_nobody_answers_the_place_is_told_and_it_can_be_opened_again(page: Page) -> None:
    desk = Desk(healthy(), {**bad(), "sections/some-runs-fail": ("503 Service Unavailable", {"error": "no"})})
    with served(desk) as url:
        page.open(url)
        page.shows("38 runs", "#problems")
        page.focus(".about summary")
        page.press(Keys.ENTER)
        page.shows("In the documentation: docs/troubleshooting.md#some-runs-fail", ".section")
        del desk.answers["sections/some-runs-fail"]
        page.press(Keys.ENTER)
        page.press(Keys.ENTER)
        page.shows("a handler raises", ".section")
