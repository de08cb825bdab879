"""Pictures of what a browser shows, into docs/pictures."""

from __future__ import annotations

from pathlib import Path

from selenium.webdriver.common.by import By

from tests.browser.chromium import Page
from tests.support.programs import ROOT

FOLDER = ROOT / "docs" / "pictures"
MOST_BYTES = 250_000


def shoot_top(page: Page, name: str, height: int, scale: float = 1) -> None:
    """The top of what the page shows, `height` CSS pixels of it at most."""
    width, whole = page.run("return [innerWidth, document.documentElement.scrollHeight]")
    shown = {"width": width, "height": min(whole, height), "deviceScaleFactor": scale, "mobile": width < 600}
    page.command("Emulation.setDeviceMetricsOverride", **shown)
    file = _file(name)
    page.driver.save_screenshot(str(file))
    _checked(file)


def shoot_part(page: Page, name: str, selector: str) -> None:
    """What is found there, as soon as it stands still meanwhile: the page is live."""
    file, part = _file(name), page.driver.find_element(By.CSS_SELECTOR, selector)
    place = None
    while part.rect != place:
        place = part.rect
        part.screenshot(str(file))
    _checked(file)


def _file(name: str) -> Path:
    FOLDER.mkdir(exist_ok=True)
    return FOLDER / f"{name}.png"


def _checked(file: Path) -> None:
    """Raises ValueError where it is too large to be committed."""
    size = file.stat().st_size
    if size > MOST_BYTES:
        msg = f"{file.name} has {size:,} bytes, which are more than {MOST_BYTES:,}"
        raise ValueError(msg)
    print(f"{file.relative_to(ROOT)}: {size:,} bytes")
