"""`python -m tests.pictures`: the pictures of docs/pictures, anew. `make pictures`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pgflow_starter as pgflow
from pgflow_starter.testing import EmbeddedPostgres, install
from tests.browser.chromium import MISSING, Page, chromium, programs
from tests.pictures.backend import serving
from tests.pictures.evening import an_hour, things_go_wrong
from tests.pictures.of_page import of_page, of_run
from tests.pictures.of_trace import of_trace
from tests.pictures.processes import free_port, process, shop_in
from tests.pictures.tracing import trace
from tests.support.databases import fresh_database

WITH_PAGE = ("shop:order", "shop:send_email", "shop:nightly_report", "shop:nightly", "--notify", "--actions")
WITHOUT = ("shop:order", "shop:send_email", "--notify")


def main() -> int:
    """1 where no browser is there."""
    if programs() is None:
        print(MISSING, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="pgflow-pictures-") as name, EmbeddedPostgres() as server:
        folder = Path(name)
        shop_in(folder)
        with chromium(folder / "profile") as driver:
            for take in (take_trace, take_page):
                with fresh_database(server) as conninfo:
                    install(conninfo)
                    take(Page(driver), folder, conninfo)
    return 0


def take_trace(page: Page, folder: Path, conninfo: str) -> None:
    """Of a run over two processes."""
    with serving(folder / "backend") as backend:
        of_trace(page, backend, trace(folder, conninfo, backend))


def take_page(page: Page, folder: Path, conninfo: str) -> None:
    """Of a shop with three processes, of which one has ended."""
    address = f"127.0.0.1:{free_port()}"
    url = f"http://{address}"
    with (
        pgflow.PgflowClient(conninfo) as client,
        process(folder, conninfo, *WITHOUT),
        process(folder, conninfo, *WITH_PAGE, "--http", address),
    ):
        with process(folder, conninfo, "shop:restock"):
            an_hour(client, conninfo)
        page.open(url)  # who looks has the plots go on
        run = things_go_wrong(client, url)
        of_page(page, url)
        of_run(page, url, run)
        page.driver.get("about:blank")  # its streams end


if __name__ == "__main__":
    sys.exit(main())
