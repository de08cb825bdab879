"""A shop of a thousand modules stays usable."""

from __future__ import annotations

from selenium.webdriver.common.by import By

from tests.browser.chromium import PHONE, Page
from tests.browser.desk import Desk, served
from tests.browser.nights import bad, large
from tests.browser.scenes import many
from tests.browser.test_problems import click
from tests.support.waiting import eventually
from tests.web.stage import Stage, flow, module, worker

NAMES = [f"module_{i:03}" for i in range(1000)]


def test_long_lists_begin_short_and_are_shown_whole_on_demand(page: Page) -> None:
    with served(Desk(many(1000), large(NAMES))) as url:
        page.open(url)
        page.shows("Show all 1,000", "#modules", 20)
        page.shows("Show all 1,000", "#queues", 20)
        rows = "return document.querySelectorAll(`#${arguments[0]} ${arguments[1]}`).length"
        for section, row in (
            ("modules", "tbody tr"),
            ("queues", "tbody tr"),
            ("workers", "tbody tr"),
            ("flows", ".graph"),
        ):
            assert page.run(rows, section, row) == 20
        assert page.run(rows, "problems", ".problem") == 6
        click(page, "#modules button", "Show all 1,000")
        assert page.run(rows, "modules", "tbody tr") == 1000
        click(page, "#modules button", "Show the first 20 only")
        assert page.run(rows, "modules", "tbody tr") == 20


def test_a_part_of_a_name_finds_it_in_all_lists(page: Page) -> None:
    with served(Desk(many(1000), large(NAMES))) as url:
        page.open(url)
        page.shows("Show all 1,000", "#queues", 20)
        page.driver.find_element(By.ID, "find").send_keys("ULE_77")
        eventually(lambda: len(page.texts("#modules tbody th")) == 10)
        for selector in ("#queues tbody th", "#workers tbody th", "#flows h3", "#processes summary"):
            said = page.run("return [...document.querySelectorAll(arguments[0])].map((n) => n.textContent)", selector)
            assert ["module_77" in each for each in said] == [True] * 10, selector
        page.driver.find_element(By.ID, "find").send_keys("nothing")
        page.shows("Nothing here has “ule_77nothing” in its name.", "#modules")


def test_slugs_of_64_letters_fit_a_phone(page: Page) -> None:
    names = [f"{letter}{'_long_name' * 7}" for letter in "abcdefghijklmnopqrstuvw"]
    ours, longest = [n[:47] for n in names[:3]], [n[:64] for n in names]
    stage = Stage(
        modules=tuple(module(n, "retrying", reason="locked") for n in ours),
        workers_=tuple(worker(n) for n in ours),
        flows=tuple(flow(n, {name: [] for name in ours}) for n in ours),
    )
    with served(Desk(stage, {**bad(), **large(longest)})) as url:
        page.open(url, size=PHONE)
        page.shows("Queues 23", "#queues")
        page.run("document.getElementById('queues').scrollIntoView()")
        page.shows(longest[-1], "#queues")
        assert page.run("return document.documentElement.scrollWidth - innerWidth") == 0
