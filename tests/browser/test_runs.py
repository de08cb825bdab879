"""Runs are found: by status, flow, time and id, a page at a time, and by an address that was sent."""

from __future__ import annotations

from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import Page
from tests.browser.desk import Desk, Query, served
from tests.browser.nights import FAILED, answer, bad, runs, step, summary
from tests.browser.scenes import healthy
from tests.browser.test_problems import click
from tests.support.waiting import eventually


def hash_of(page: Page) -> str:
    """What the address says."""
    return str(page.run("return location.hash"))


def asked(desk: Desk, query: Query) -> bool:
    """Whether it was asked for these runs, and for no others since."""
    return [q for p, q in desk.asked if p == "runs"][-1] == query


def type_into(page: Page, selector: str, words: str) -> None:
    """Words and Enter, as a person would."""
    field = page.driver.find_element(By.CSS_SELECTOR, selector)
    field.clear()
    field.send_keys(words, Keys.ENTER)


def test_what_is_chosen_is_asked_for_and_stands_in_the_address(page: Page) -> None:
    desk = Desk(healthy(), bad())
    with served(desk) as url:
        page.open(url)
        page.shows("3ce3e2b6", "#runs")
        click(page, ".choice", "Failed")
        eventually(lambda: asked(desk, {"status": ["failed"]}))
        type_into(page, "[list=slugs]", "process_order")
        eventually(lambda: asked(desk, {"status": ["failed"], "flow": ["process_order"]}))
        assert hash_of(page) == "#status=failed&flow=process_order"
        page.driver.find_element(By.CSS_SELECTOR, ".further summary").click()
        click(page, ".fields button", "Last hour")
        type_into(page, "[pattern]", FAILED)
        eventually(lambda: asked(desk, {**desk.asked[-1][1], "id": [FAILED]}))
        last = next(q for p, q in reversed(desk.asked) if p == "runs")
        assert set(last) == {"status", "flow", "since", "id"}
        assert last["since"][0].endswith("Z")
        click(page, ".filter button", "Clear")
        eventually(lambda: asked(desk, {}))
        page.driver.back()
        eventually(lambda: asked(desk, last))
        assert page.complaints() == []


def test_an_address_that_was_sent_shows_the_same_runs(page: Page) -> None:
    desk = Desk(healthy(), bad())
    with served(desk) as url:
        page.open(f"{url}#status=failed&flow=a%26b&since=2026-03-01T12%3A00%3A00Z")
        eventually(lambda: asked(desk, {"status": ["failed"], "flow": ["a&b"], "since": ["2026-03-01T12:00:00Z"]}))
        assert page.run("return document.querySelector('[list=slugs]').value") == "a&b"
        assert page.texts("[aria-pressed=true]") == ["Failed"]
        assert page.run("return document.querySelector('.further').open")


def test_an_id_that_is_none_is_not_asked_for(page: Page) -> None:
    desk = Desk(healthy(), bad())
    with served(desk) as url:
        page.open(url)
        page.shows("3ce3e2b6", "#runs")
        page.driver.find_element(By.CSS_SELECTOR, ".further summary").click()
        type_into(page, "[pattern]", "3ce3")
        assert page.run("return document.querySelector('[pattern]').matches(':user-invalid')")
        assert hash_of(page) == ""


def test_older_and_newest_go_through_the_pages(page: Page) -> None:
    def pages(query: Query) -> dict[str, Any]:
        number = int(query.get("after", ["0"])[0])
        listed = [summary(f"{number:08}-0000-0000-0000-000000000000", f"page_{number}", "failed", 60, [step("a")])]
        return answer(runs=listed, next=str(number + 1) if number < 2 else None)

    with served(Desk(healthy(), {**bad(), "runs": pages})) as url:
        page.open(f"{url}#status=failed")
        page.shows("page_0", "#runs tbody")
        for number in (1, 2):
            click(page, ".paging button", "Older")
            page.shows(f"page_{number}", "#runs tbody")
        assert page.text(".paging") == "Newest"
        assert hash_of(page) == "#status=failed&after=2"
        page.driver.back()
        page.shows("page_1", "#runs tbody")
        click(page, ".paging button", "Newest")
        page.shows("page_0", "#runs tbody")
        assert hash_of(page) == "#status=failed"


def test_nothing_found_and_nothing_understood_are_said(page: Page) -> None:
    def picky(query: Query) -> Any:
        if "lost" in query.get("status", []):
            return "400 Bad Request", {"error": "status: no run is 'lost'"}
        return answer(runs=[], next="c9" if query else None)

    desk = Desk(healthy(), {**bad(), "runs": picky})
    with served(desk) as url:
        page.open(url)
        page.shows("No runs in this database yet.", "#runs")
        page.run("location.hash = '#status=lost'")
        page.shows("These runs cannot be listed: status: no run is 'lost'", "#runs")
        page.run("location.hash = '#status=failed'")
        page.shows("Older goes on with those before", "#runs")
        assert "cannot be listed" not in page.text("#runs")
        desk.answers["runs"] = answer(runs=[], next=None)
        page.shows("No run is so.", "#runs")


def test_a_section_is_gone_to_without_the_loss_of_the_filters(page: Page) -> None:
    with served(Desk(healthy(), {**bad(), "runs": runs()})) as url:
        page.open(f"{url}#status=failed")
        page.shows("Supervision", "nav")
        page.driver.find_element(By.CSS_SELECTOR, "nav a[href='#flows']").click()
        assert hash_of(page) == "#status=failed"
        eventually(lambda: page.run("return scrollY") > 0)
