"""After an action the page looks at once, whatever its next look was planned for, and says what became of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.browser.chromium import Page
from tests.browser.desk import Answer, Desk, served
from tests.browser.nights import RUNNING, ago, answer, bad, calm, problem, running_run
from tests.browser.scenes import healthy
from tests.browser.test_problems import click
from tests.web.stage import Stage, module

NAME = "nightly_report"
TRY = f"Try {NAME} now"


def still(page: Page) -> None:
    """From now on the page does nothing by the clock."""
    page.run("for (let n = setTimeout(() => 0); n > 0; n--) clearTimeout(n); window.setTimeout = () => 0")


def registering(detail: str) -> dict[str, Any]:
    return answer(problems=[problem("module_retrying", "not registered", detail=detail, link={"module": NAME})])


def stuck() -> tuple[Stage, Desk]:
    """A module that cannot register."""
    stage = Stage(modules=(module(NAME, "retrying", reason="locked"),))
    return stage, Desk(stage, {**calm(), "problems": registering("locked")}, "t0ken")


def tried(page: Page, desk: Desk, became: Callable[[], None]) -> None:
    """Somebody has it tried now, and that is what becomes of it."""

    def retry() -> Answer:
        became()
        return "200 OK", {"module": NAME}

    desk.deeds["retry-now"] = retry
    page.shows(TRY, "#problems")
    page.shows("Live", "#link")
    still(page)
    click(page, "#problems button", TRY)


def test_an_attempt_that_fails_again_says_so_with_its_new_reason(page: Page) -> None:
    stage, desk = stuck()

    def became() -> None:
        stage.modules = (module(NAME, "retrying", reason="no such table", attempts=8),)
        desk.answers["problems"] = registering("no such table")

    with served(desk) as url:
        page.open(url)
        tried(page, desk, became)
        page.shows("It was tried, and failed again.", "#problems")
        page.shows("no such table", "#problems .detail")
        page.shows("8 attempts", "#modules")


def test_of_an_attempt_that_mends_it_the_problem_goes(page: Page) -> None:
    stage, desk = stuck()

    def became() -> None:
        stage.modules = (module(NAME, attempts=8),)
        desk.answers["problems"] = answer(problems=[])

    with served(desk) as url:
        page.open(url)
        tried(page, desk, became)
        page.shows("Ready and healthy", "h1")
        assert "What is wrong" not in page.text()


def test_an_attempt_that_goes_on_is_waited_for(page: Page) -> None:
    stage, desk = stuck()
    with served(desk) as url:
        page.open(url)
        tried(page, desk, lambda: None)
        page.shows("An attempt begins at once.", "#problems")
        desk.answers["problems"] = answer(problems=[])
        stage.modules = (module(NAME, attempts=8),)
        page.shows("Ready and healthy", "h1")


def test_a_run_that_was_cancelled_is_seen_to_have_ended(page: Page) -> None:
    desk = Desk(healthy(), bad(), "t0ken")
    ended = running_run()
    ended["run"] |= {"status": "failed", "ended_at": ago(0), "error": "cancelled on the page", "actions": ["rerun"]}

    def cancel() -> Answer:
        desk.answers[f"runs/{RUNNING}"] = ended
        return "200 OK", {"run": RUNNING, "status": "failed"}

    desk.deeds["cancel"] = cancel
    with served(desk) as url:
        page.open(f"{url}#run={RUNNING}")
        page.shows("Cancel", "#run .buttons")
        click(page, "#run button", "Cancel")
        page.shows("It cannot be undone", "dialog")
        still(page)
        click(page, "dialog button", "Cancel")
        page.shows("failed", "#run header")
        page.shows("Done.", "#run .done")


def test_what_may_be_done_can_be_pressed_as_soon_as_the_page_knows(page: Page, release: threading.Event) -> None:
    _, desk = stuck()
    known = desk.answers["actions"]
    desk.answers["actions"] = lambda query: release.wait() and known
    with served(desk) as url:
        page.open(url)
        page.shows("not registered", "#problems")
        assert "Try " not in page.text("#problems")
        still(page)
        release.set()
        page.shows(TRY, "#problems")
