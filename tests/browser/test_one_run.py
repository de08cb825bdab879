"""A run by itself: where it stands, what went wrong, and what can be done about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import PHONE, WIDE, Page
from tests.browser.desk import Desk, served
from tests.browser.nights import FAILED, MAPPED, REFUSED, RUNNING, ago, bad, failed_run, running_run
from tests.browser.scenes import healthy
from tests.browser.test_problems import click
from tests.browser.test_runs import hash_of
from tests.support.waiting import eventually


@contextmanager
def opened(page: Page, desk: Desk, run: str, size: tuple[int, int] = WIDE) -> Iterator[None]:
    """The run's own page, of what is on that desk."""
    with served(desk) as url:
        page.open(f"{url}#run={run}", size=size)
        yield


def test_a_failed_run_tells_what_went_wrong(page: Page) -> None:
    with served(Desk(healthy(), bad())) as url:
        page.open(f"{url}#status=failed")
        page.shows("3ce3e2b6", "#runs")
        page.focus("#runs tbody tr:nth-child(2) a")
        page.press(Keys.ENTER)
        page.shows("process_order", "#run h2")
        assert hash_of(page) == f"#run={FAILED}&status=failed"
        title = "process_order failed · Ready, with 2 problems and 1 warning · pgflow starter"
        eventually(lambda: page.driver.title == title)
        assert page.texts(".errors .reason") == [REFUSED, "TimeoutError: 60 s"]
        assert "in charge: failed after 3 attempts" in page.text(".errors")
        assert "in each_price: completed at last, 2 attempts" in page.text(".errors")
        assert "flows.py" in page.text(".errors pre")
        label = page.run("return document.querySelector('#run .graph').getAttribute('aria-label')")
        assert "charge after each_price and discount, failed" in label
        words = page.run("return [...document.querySelectorAll('#run .state-word')].map((w) => w.textContent)")
        assert words == ["completed", "completed", "completed, 3 of 3", "failed", "skipped", "created"]
        assert "gift skipped: its condition was not met" in page.text(".timeline")
        assert "charge failed 3 attempts 5.2 s" in page.text(".timeline")
        assert page.run("return document.querySelector('#run .facts a[rel]').getAttribute('href')") == f"#run={MAPPED}"
        trace = page.run("return [...document.querySelectorAll('#run .facts a')].at(-1).href")
        assert trace == "https://traces.example/4bf92f"
        assert page.run("return document.activeElement.id") == "run-title"
        assert not page.run("return document.querySelector('.columns').checkVisibility()")
        page.focus(".back")
        page.press(Keys.ENTER)
        page.shows("3ce3e2b6", "#runs")
        assert hash_of(page) == "#status=failed"
        assert page.complaints() == []


def test_a_run_at_work_is_followed_until_its_end(page: Page) -> None:
    desk = Desk(healthy(), bad(), "t0ken")
    with opened(page, desk, RUNNING):
        page.shows("nightly_report started", "#run header")
        page.shows("so far", "#run .facts")
        assert "320 of 600, up to 2 attempts" in page.text(".timeline")
        assert "499 tasks: 20 failed, 10 started, 169 queued, 300 completed" in page.text(".timeline")
        assert "100 further tasks" in page.text("#run")
        said = page.text(".errors")
        assert f"{REFUSED} in each_region: 20 tasks (300, 301, 302, …), 20 failed" in said
        run = running_run()
        run["run"] |= {"status": "completed", "ended_at": ago(0), "actions": []}
        desk.answers[f"runs/{RUNNING}"] = run
        page.shows("completed", "#run header")
        assert "so far" not in page.text("#run")
        assert "Cancel" not in page.text("#run")


def test_a_run_that_was_cancelled_says_so(page: Page) -> None:
    run = running_run()
    run["run"] |= {"status": "failed", "ended_at": ago(0), "error": "cancelled on the page", "actions": ["rerun"]}
    run["run"]["tasks"] = [{**run["run"]["tasks"][0], "status": "cancelled"}]
    with opened(page, Desk(healthy(), {**bad(), f"runs/{RUNNING}": run}), RUNNING):
        page.shows("cancelled on the page", "#run .failure")
        page.shows("in each_region: cancelled at last, 2 attempts", ".errors")


def test_a_task_that_is_tried_again_says_when(page: Page) -> None:
    run = running_run()
    first = next(each for each in run["run"]["tasks"] if each["step"] == "collect")
    first |= {"status": "queued", "started_at": None, "ended_at": None, "visible_at": ago(-590)}
    run["run"]["steps"][0] |= {"status": "started", "remaining": 1}
    with opened(page, Desk(healthy(), {**bad(), f"runs/{RUNNING}": run}), RUNNING):
        page.shows("collect again in 9 min", ".timeline")


def test_running_again_is_asked_first_and_leads_to_the_new_run(page: Page) -> None:
    desk = Desk(healthy(), bad(), "t0ken")
    desk.deeds["rerun"] = ("200 OK", {"run": FAILED, "new_run": RUNNING})
    with opened(page, desk, FAILED):
        page.shows("Run again", "#run .buttons")
        click(page, "#run button", "Run again")
        page.shows("Run it again?", "dialog")
        assert page.run("return document.activeElement.textContent") == "Leave it as it is"
        page.press(Keys.ESCAPE)
        eventually(lambda: page.run("return document.querySelector('dialog')") is None)
        assert desk.posted == []
        assert page.run("return document.activeElement.textContent") == "Run again"
        click(page, "#run button", "Run again")
        click(page, "dialog button", "Run again")
        page.shows(f"It runs again, as {RUNNING}.", "#run .done")
        assert desk.posted == [("rerun", {"run": FAILED})]
        click(page, ".done a", RUNNING)
        page.shows("nightly_report started", "#run header")
        assert page.text(".done") == ""
        assert page.complaints() == []


def test_what_the_server_refuses_is_said(page: Page) -> None:
    desk = Desk(healthy(), bad(), "t0ken")
    desk.deeds["cancel"] = ("404 Not Found", {"error": "there is no such run any more"})
    with opened(page, desk, RUNNING):
        page.shows("Cancel", "#run .buttons")
        click(page, "#run button", "Cancel")
        page.shows("It cannot be undone", "dialog")
        click(page, "dialog button", "Cancel")
        page.shows("Not done: there is no such run any more", "#run .done")


def test_after_the_server_began_anew_its_new_token_is_asked_for(page: Page) -> None:
    desk = Desk(healthy(), bad(), "t0ken")
    desk.deeds["cancel"] = ("200 OK", {})
    with opened(page, desk, RUNNING):
        page.shows("Cancel", "#run .buttons")
        desk.token, desk.answers["actions"] = "another", {"actions": True, "token": "another"}
        click(page, "#run button", "Cancel")
        click(page, "dialog button", "Cancel")
        page.shows("Done.", "#run .done")
        assert desk.posted == [("cancel", {"run": RUNNING})]


def test_an_unknown_run_and_one_of_a_database_that_is_away_are_said(page: Page) -> None:
    unknown = ("404 Not Found", {"error": "there is no run of this id"})
    away = {"as_of": None, "error": "the database is away: refused", "run": None}
    with opened(page, Desk(healthy(), {**bad(), "runs/x": unknown, "runs/y": away}), "x"):
        page.shows("there is no run of this id", "#run")
        assert "not known" in page.text("#run header")
        page.run("location.hash = '#run=y'")
        page.shows("the database is away: refused", "#run")
        assert "no run of this id" not in page.text("#run")


def test_payloads_are_shown_where_the_server_tells_them_and_nowhere_else(page: Page) -> None:
    desk = Desk(healthy(), bad())
    with opened(page, desk, FAILED):
        page.shows("What went wrong", "#run")
        assert "Input" not in page.text("#run")
        desk.answers[f"runs/{FAILED}"] = failed_run(payloads={"input": '{\n    "order": 7\n}', "output": None})
        page.driver.refresh()
        page.shows("Input", "#run")
        page.run("document.querySelector('.payloads details').open = true")
        page.shows('{ "order": 7 }', "#run")


def test_names_and_errors_of_any_kind_are_text_and_fit(page: Page) -> None:
    evil = '<img src=x onerror="window.caught = 1">'
    long = "a" * 64
    steps: list[dict[str, Any]] = failed_run()["run"]["steps"]
    for each, slug in zip(steps, (long, evil), strict=False):
        each["slug"], each["error"] = slug, evil
    run = failed_run(flow_slug=long, steps=steps[:2], error=evil)
    run["run"]["tasks"] = [
        {**run["run"]["tasks"][0], "step": evil, "status": "failed", "error": evil, "traceback": long * 9}
    ]
    with opened(page, Desk(healthy(), {**bad(), f"runs/{FAILED}": run}), FAILED, size=PHONE):
        page.shows(evil, ".errors")
        assert page.text("#run h2") == long
        assert page.run("return document.documentElement.scrollWidth - innerWidth") == 0
        assert page.run("return window.caught ?? document.querySelectorAll('main img').length") == 0


def test_the_tasks_of_a_map_are_opened_with_their_times(page: Page) -> None:
    with opened(page, Desk(healthy(), bad()), FAILED):
        page.shows("3 tasks: 3 completed", ".timeline")
        page.focus(".tasks:not([hidden]) summary")
        page.press(Keys.ENTER)
        page.shows("1 completed 2 attempts, 1.0 s, worker 00000000", ".tasks:not([hidden])")
        wide = "return [...document.querySelectorAll('.tasks li .work')].map((w) => w.style.width)"
        eventually(lambda: all(float(width.rstrip("%") or 0) > 5 for width in page.run(wide)))


def test_many_errors_of_their_own_begin_short(page: Page) -> None:
    run = running_run()
    for each in run["run"]["tasks"]:
        if each["error"]:
            each["error"] = f"KeyError: {each['index']}"
    with opened(page, Desk(healthy(), {**bad(), f"runs/{RUNNING}": run}), RUNNING):
        page.shows("KeyError: 300", ".errors")
        assert len(page.texts(".errors > li")) == 6
        click(page, "#run section button", "Show all 20")
        assert len(page.texts(".errors > li")) == 20
