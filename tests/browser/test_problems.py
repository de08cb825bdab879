"""What is wrong stands first, with what to do about it; a night on which nothing is, is calm."""

from __future__ import annotations

from selenium.webdriver.common.by import By

from tests.browser.chromium import Page
from tests.browser.desk import Desk, served
from tests.browser.nights import answer, bad, calm, problem, runs
from tests.browser.scenes import healthy
from tests.support.waiting import eventually
from tests.web.stage import Stage, module


def click(page: Page, selector: str, words: str) -> None:
    """A click on the first that says these words."""
    found = [each for each in page.driver.find_elements(By.CSS_SELECTOR, selector) if each.text == words]
    assert found, f"no {words!r} in {page.texts(selector)}"
    found[0].click()


def test_the_worst_comes_first_each_with_its_next_step(page: Page) -> None:
    with served(Desk(healthy(), bad())) as url:
        page.open(url)
        page.shows("Ready, with 2 problems and 1 warning", "h1")
        assert page.run("return document.getElementById('banner').dataset.tone") == "bad"
        eventually(lambda: page.driver.title == "Ready, with 2 problems and 1 warning · pgflow starter")
        assert page.texts(".problem h3")[0] == "38 runs of process_order have failed in the last hour"
        assert page.texts(".problem .pill") == ["problem", "problem", "warning"]
        assert all(each.startswith("Next: ") for each in page.texts(".problem .next"))
        assert "for 12 min" in page.text(".problem header")
        assert "About “some runs fail”: how to make sure, and what to do" in page.text(".problem")
        top = page.run(
            "const [a, b] = ['problems', 'runs'].map((i) => document.getElementById(i).offsetTop); return a < b"
        )
        assert top


def test_where_nothing_is_wrong_nothing_asks_for_attention(page: Page) -> None:
    with served(Desk(healthy(), calm())) as url:
        page.open(url)
        page.shows("Nothing is known to be wrong.", "#banner")
        assert page.text("h1") == "Ready and healthy"
        assert "What is wrong" not in page.text()
        assert page.complaints() == []


def test_a_problem_that_is_over_goes_and_one_that_comes_is_seen(page: Page) -> None:
    desk = Desk(healthy(), calm())
    with served(desk) as url:
        page.open(url)
        page.shows("Nothing is known to be wrong.", "#banner")
        desk.answers["problems"] = answer(problems=[problem("schedule_late", "nightly_report is 4 min late", "warn")])
        page.shows("nightly_report is 4 min late", "#problems")
        page.shows("Ready, with 1 warning", "h1")
        desk.answers["problems"] = answer(problems=[])
        page.shows("Ready and healthy", "h1")


def test_from_failing_runs_one_comes_to_them(page: Page) -> None:
    desk = Desk(healthy(), bad())
    with served(desk) as url:
        page.open(url)
        page.shows("38 runs", "#problems")
        click(page, ".problem a", "Its failed runs")
        eventually(
            lambda: {"status": ["failed"], "flow": ["process_order"]} in [q for p, q in desk.asked if p == "runs"]
        )
        assert page.run("return location.hash") == "#status=failed&flow=process_order"
        eventually(lambda: abs(page.run("return document.getElementById('runs').getBoundingClientRect().top")) < 50)
        assert page.run("return document.querySelector('[list=slugs]').value") == "process_order"


def test_a_module_is_tried_at_once_where_that_is_allowed(page: Page) -> None:
    stage = Stage(modules=(module("nightly_report", "retrying", reason="locked"),))
    desk = Desk(
        stage,
        {
            **calm(),
            "problems": answer(
                problems=[problem("module_retrying", "not registered", link={"module": "nightly_report"})]
            ),
        },
        "t0ken",
    )
    desk.deeds["retry-now"] = ("200 OK", {})
    with served(desk) as url:
        page.open(url)
        page.shows("Try nightly_report now", "#problems")
        click(page, ".problem button", "Try nightly_report now")
        page.shows("An attempt begins at once.", "#problems")
        click(page, "#modules button", "Try now")
        page.shows("An attempt begins at once.", "#modules")
        assert desk.posted == [("retry-now", {"module": "nightly_report"})] * 2


def test_where_actions_are_off_nothing_can_be_pressed_that_changes_anything(page: Page) -> None:
    stage = Stage(modules=(module("nightly_report", "retrying", reason="locked"),))
    with served(Desk(stage, bad())) as url:
        page.open(url)
        page.shows("nightly_report is not registered", "#problems")
        page.shows("locked", "#modules")
        assert "Try " not in page.text("main")
        assert "Read only." in page.text("footer")


def test_problems_that_are_old_say_so_and_stay(page: Page) -> None:
    desk = Desk(healthy(), {**bad(), "runs": runs()})
    with served(desk) as url:
        page.open(url)
        page.shows("38 runs", "#problems")
        desk.answers["problems"] = {**desk.answers["problems"], "error": "the database is slow"}
        page.shows("the database is slow", "#problems", 10)
        assert "38 runs" in page.text("#problems")


def test_what_is_over_says_when_it_was_and_not_for_how_long(page: Page) -> None:
    desk = Desk(healthy(), {**calm(), "problems": answer(problems=[problem("schedule_missed", "5 missed", "warn")])})
    with served(desk) as url:
        page.open(url)
        page.shows("5 missed", "#problems")
        assert "12 min ago" in page.text(".problem header")
