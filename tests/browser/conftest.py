"""One browser for the session, the page anew for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome

from tests.browser.chromium import MISSING, Page, chromium, programs


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if programs() is None:
        pytest.exit(MISSING, returncode=1)
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def page(driver: Chrome) -> Iterator[Page]:
    """Left at the end, so that its streams end."""
    yield Page(driver)
    driver.get("about:blank")
