"""A headless Chromium, and the page in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.waiting import eventually

MISSING = (
    "a Chromium and its driver are missing: install them (Debian and Ubuntu: apt-get install chromium chromium-driver),"
    " or put chromium and chromedriver on PATH"
)
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
WIDE, PHONE = (1440, 1000), (375, 812)


def programs() -> tuple[str, str] | None:
    """The browser and its driver; None where one of them is missing."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return None if browser is None or driver is None else (browser, driver)


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """A browser with a profile of its own."""
    found = programs()
    assert found is not None, MISSING
    options = ChromeOptions()
    options.binary_location = found[0]
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(found[1], env={**os.environ, "NO_PROXY": "*"}))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page, as a person sees and uses it."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str, *, scheme: str = "light", size: tuple[int, int] = WIDE, motion: str = "") -> None:
        """Open it at an address, in a colour scheme and a window of that size."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        self.command("Emulation.setEmulatedMedia", features=features)
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=size[0] < 600,
        )
        self.complaints()
        self.driver.get(url)

    def command(self, name: str, **parameters: Any) -> None:
        """One of the browser's own commands."""
        self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str = "body") -> str:
        """What is to be read there."""
        found = self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return " ".join(str(found).split())

    def texts(self, selector: str) -> list[str]:
        """As `text`, of each that is found."""
        found = self.run("return [...document.querySelectorAll(arguments[0])].map((n) => n.innerText)", selector)
        return [" ".join(str(each).split()) for each in found]

    def shows(self, words: str, selector: str = "body", timeout: float = 5.0) -> None:
        """Wait until the words are to be read there."""
        eventually(lambda: words in self.text(selector), timeout, f"{words!r} in {self.text(selector)!r}")

    def press(self, key: str) -> None:
        """A key, wherever the focus is."""
        self.driver.switch_to.active_element.send_keys(key)

    def tab(self) -> str:
        """Go to what the next Tab leads to: its tag and its words."""
        self.press(Keys.TAB)
        return str(self.run("const e = document.activeElement; return `${e.tagName} ${e.innerText}`.trim()"))

    def focus(self, selector: str) -> None:
        """Put the focus there, as the keyboard would."""
        self.run("arguments[0].focus()", self.driver.find_element(By.CSS_SELECTOR, selector))

    def complaints(self) -> list[str]:
        """What the browser has logged since it was asked last."""
        driver: Any = self.driver  # without annotations there
        return [str(entry["message"]) for entry in driver.get_log("browser")]
