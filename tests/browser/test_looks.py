"""The page in both schemes, on a phone and a wide screen: readable, named, without a word from the console."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgflow_starter import web
from tests.browser.chromium import PHONE, WIDE, Page
from tests.browser.desk import Desk, served
from tests.browser.nights import FAILED, RUNNING, bad
from tests.browser.scenes import SCENES, healthy, many
from tests.support.waiting import eventually
from tests.web.stage import Stage

AUDIT = (Path(__file__).parent / "audit.js").read_text()
HEADLINES = {
    "healthy": "Ready and healthy",
    "retrying": "Not ready",
    "troubled": "Not ready",
    "failed": "Ready, but not complete",
    "outage": "Not ready",
    "nothing": "Ready",
}
VIEWS = {
    "overview": ("#status=failed&id=" + FAILED, "1,204 waiting"),
    "failed": (f"#run={FAILED}", "What went wrong"),
    "running": (f"#run={RUNNING}", "499 tasks"),
}
"""Addresses, and words of what comes last there."""


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("scene", SCENES)
def test_it_can_be_read_and_nothing_is_without_a_name(
    page: Page, scene: str, scheme: str, size: tuple[int, int]
) -> None:
    stage = SCENES[scene]()
    with web.serve(stage, ":0") as server:
        page.open(f"{server.url}/", scheme=scheme, size=size)
        page.shows(HEADLINES[scene], "h1")
        page.shows("Live", "#link")
        if stage.runs and not stage.outage:
            page.shows("send_email", "#runs")
        found = page.run(AUDIT)
        picture(page, f"{scene}-{scheme}-{'phone' if size == PHONE else 'wide'}")
        assert found.pop("checked") > 20
        assert found == {"contrast": [], "unnamed": [], "wide": 0}
        assert page.complaints() == []


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_bad_night_can_be_read_too(page: Page, view: str, scheme: str, size: tuple[int, int]) -> None:
    address, words = VIEWS[view]
    with served(Desk(healthy(), bad(), "t0ken")) as url:
        page.open(f"{url}{address}", scheme=scheme, size=size)
        page.shows("Ready, with 2 problems and 1 warning", "h1")
        page.shows("Live", "#link")
        page.shows(words, "main")
        found = page.run(AUDIT)
        picture(page, f"night-{view}-{scheme}-{'phone' if size == PHONE else 'wide'}")
        assert found.pop("checked") > 20
        assert found == {"contrast": [], "unnamed": [], "wide": 0}
        assert page.complaints() == []


def picture(page: Page, name: str) -> None:
    """Where PGFLOW_SCREENSHOTS names a folder, a picture of the whole page goes there."""
    folder = os.environ.get("PGFLOW_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        width, height = page.run("return [innerWidth, Math.min(document.documentElement.scrollHeight, 4000)]")
        page.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        page.driver.save_screenshot(f"{folder}/{name}.png")


def test_the_schemes_differ(page: Page) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        with web.serve(Stage(), ":0") as server:
            page.open(f"{server.url}/", scheme=scheme)
            grounds.append(page.run("return getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(245, 246, 248)", "rgb(14, 17, 22)"]


def test_who_wants_no_motion_gets_none(page: Page) -> None:
    script = "return getComputedStyle(document.querySelector('.level')).transitionDuration"
    with web.serve(healthy(), ":0") as server:
        for motion, expected in (("", "0.3s"), ("reduce", "0s")):
            page.open(f"{server.url}/", motion=motion)
            page.shows("process_order", "#workers")
            assert page.run(script) == expected


def test_landmarks_and_headings_lead_through_the_page(page: Page) -> None:
    with web.serve(healthy(), ":0") as server:
        page.open(f"{server.url}/")
        page.shows("process_order", "#flows")
        for landmark in ("header", "main", "nav", "footer"):
            assert page.run("return document.querySelectorAll(`body ${arguments[0]}`).length", landmark) >= 1
        headings = "[...document.querySelectorAll('h1, h2, h3')].filter((h) => h.checkVisibility())"
        assert page.run(f"return {headings}.map((h) => h.innerText)") == [
            "Ready and healthy",
            "Runs 4",
            "Modules 4",
            "Flows 2",
            "process_order",
            "nightly_report",
            "Workers 4",
            "Schedules 2",
            "Supervision 16",
        ]
        names = page.run("return [...document.querySelectorAll('[role=img]')].map((g) => g.getAttribute('aria-label'))")
        assert names[1] == (
            "Steps of nightly_report: collect; each_region (one task for each element) after collect; "
            "publish after each_region"
        )


def test_200_modules_are_there_and_how_soon_is_printed(page: Page) -> None:
    with web.serve(many(), ":0") as server:
        added = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": NOTE_WHEN_RENDERED})
        try:
            took = min(seconds_to_render(page, f"{server.url}/") for _ in range(3))
        finally:
            page.command("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])
        print(f"200 modules were there {took * 1000:.0f} ms after the navigation began")
        assert page.complaints() == []


NOTE_WHEN_RENDERED = """
    const there = (selector) => document.querySelectorAll(selector).length === 20;
    const timer = setInterval(() => {
        if (!['#modules tbody tr', '#workers tbody tr', '#flows .graph'].every(there)) return;
        clearInterval(timer);
        requestAnimationFrame(() => requestAnimationFrame(() => { window.renderedAt = performance.now(); }));
    }, 5);
"""


def seconds_to_render(page: Page, url: str) -> float:
    """From the beginning of the navigation to the frame after all is there."""
    page.open(url)
    return float(eventually(lambda: page.run("return window.renderedAt ?? 0"), 10, "the page")) / 1000
