"""States change before one's eyes; connections break and come back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from selenium.webdriver.common.keys import Keys

import pgflow_starter as pgflow
from pgflow_starter import StarterStopped, StarterTerminated, web
from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from pgflow_starter.web import Application
from pgflow_starter.web.address import bind, parse_address
from pgflow_starter.web.server import STREAMS, serve_application
from tests.browser.chromium import Page
from tests.browser.scenes import healthy, many
from tests.browser.test_problems import click
from tests.support.databases import FAST, memory_folder
from tests.support.starters import running
from tests.support.waiting import eventually
from tests.web.client import stream
from tests.web.stage import Stage, module, schedule, tree, worker


def test_a_module_goes_from_pending_to_succeeded(page: Page) -> None:
    stage = Stage(modules=(module("order", "pending", attempts=0), module("mail")))
    with web.serve(stage, ":0") as server:
        page.open(f"{server.url}/")
        page.shows("Not ready", "h1")
        page.shows("1 of 2 modules has yet to register: order.", "#banner")
        assert page.driver.title == "Not ready · pgflow starter"
        stage.modules = (module("order", "retrying", reason="the queue is locked by pid 7: wait"), stage.modules[1])
        page.shows("the queue is locked by pid 7: wait SQLSTATE 55P03 · transient · in phase worker", "#modules")
        assert page.texts("#modules tbody th") == ["order flow", "mail flow"]
        stage.workers_ = (worker("order", running=2, completed=1234),)
        stage.modules = (module("order"), stage.modules[1])
        page.shows("Ready and healthy", "h1")
        page.shows("2 of 10 running 1,234 done 0 failed", "#workers")
        assert "locked" not in page.text("#modules")
        assert page.driver.title == "Ready and healthy · pgflow starter"
        assert page.complaints() == []


def test_the_countdown_counts_down(page: Page) -> None:
    soon = module("order", "retrying", reason="locked")
    stage = Stage(modules=(replace(soon, next_attempt_at=SystemClock().now() + timedelta(seconds=6)),))
    with web.serve(stage, ":0") as server:
        page.open(f"{server.url}/")
        for seconds in (4, 2):
            page.shows(f"in {seconds} s", "#modules")
        page.shows("now", "#modules tbody td:nth-child(5)")


def test_schedules_are_shown_where_there_are_some(page: Page) -> None:
    stage = Stage(modules=(module("order"),))
    with web.serve(stage, ":0") as server:
        page.open(f"{server.url}/")
        page.shows("Ready and healthy", "h1")
        assert "Schedules" not in page.text()
        stage.schedules = (schedule("nightly"), schedule("hourly", error="permission denied", next_at=None))
        page.shows("nightly 0 7 * * * Europe/Berlin started next in 2 h 59 min last due 1 min", "#schedules")
        page.shows("failed never again last due 1 min", "#schedules")
        page.shows("permission denied", "#schedules")
        page.shows("Schedules 2", "nav")
        assert page.complaints() == []


def test_names_and_reasons_are_shown_and_never_markup(page: Page) -> None:
    evil = '<script>window.caught = 1</script><img src=x onerror="window.caught = 2">'
    stage = healthy()
    stage.modules = (module(evil, "retrying", reason=evil, code=evil), module("mail"))
    stage.workers_ = (worker(evil, alive=False),)
    stage.children = tree([evil])
    with web.serve(stage, ":0") as server:
        page.open(f"{server.url}/")
        page.shows("yet to register", "#banner")
        for selector in ("#banner", "#modules tbody th", "#modules .reason", "#workers tbody th", ".tree"):
            assert evil in page.text(selector)
        assert page.run("return window.caught ?? null") is None
        assert page.run("return document.querySelectorAll('main script, main img').length") == 0
        assert page.complaints() == []


def test_a_lost_worker_and_an_outage_are_seen_above_all(page: Page) -> None:
    stage = healthy()
    with web.serve(stage, ":0") as server:
        page.open(f"{server.url}/")
        page.shows("Ready and healthy", "h1")
        stage.outage = pgflow.Outage(SystemClock().now() - timedelta(seconds=75), "connection refused")
        page.shows("Ready, but the database is away", "h1")
        page.shows("connection refused", "#problems")
        page.shows("away for 1 min 1", "#banner")
        page.shows("connection refused", "#runs", 10)
        assert "send_email" in page.text("#runs")
        stage.workers_ = (replace(stage.workers_[0], alive=False), *stage.workers_[1:])
        page.shows("Not healthy", "h1")
        page.shows("1 worker is lost: process_order.", "#banner")
        assert page.texts("#workers tbody .pill")[0] == "lost"
        assert page.complaints() == []


@pytest.mark.parametrize(
    ("end", "headline", "words"),
    [
        (StarterStopped("the starter was stopped"), "Stopped", "no task runs in this process"),
        (StarterTerminated("the supervisor gave up: boom"), "Terminated", "the supervisor gave up: boom."),
    ],
)
def test_the_end_of_the_starter_is_seen(page: Page, end: pgflow.PgflowError, headline: str, words: str) -> None:
    stage = healthy()
    with web.serve(stage, ":0") as server:
        page.open(f"{server.url}/")
        page.shows("Ready and healthy", "h1")
        stage.end = end
        page.shows(headline, "h1")
        assert words in page.text("#banner")


def test_a_lost_connection_is_said_and_made_again(page: Page) -> None:
    stage = healthy()
    with web.serve(stage, ":0") as server:
        page.open(f"{server.url}/")
        page.shows("Live", "#link")
    page.shows("Connection lost", "#link")
    page.shows("This is how it was.", "#banner")
    assert "Ready and healthy" in page.text("h1")
    assert page.run("return document.body.classList.contains('stale')")
    stage.modules = (*stage.modules, module("late", "pending"))
    with web.serve(stage, server.url.removeprefix("http://")):
        page.shows("Not ready", "h1")
        page.shows("Live", "#link")
        assert not page.run("return document.body.classList.contains('stale')")
        assert "This is how it was" not in page.text("#banner")


def test_streams_that_end_as_planned_are_no_loss(page: Page) -> None:
    stage = healthy()
    app = Application(stage, SystemClock(), lasts=0.6)
    asked: list[str] = []

    def listening(environ: Any, start_response: Any) -> Any:
        asked.append(environ["PATH_INFO"])
        return app(environ, start_response)

    listening.close = app.close  # type: ignore[attr-defined]
    with serve_application(listening, bind(parse_address(":0"))) as server:  # type: ignore[arg-type]
        page.open(f"{server.url}/")
        page.shows("Live", "#link")
        page.run(
            "window.links = []; new MutationObserver(() => links.push(document.getElementById('link').textContent))"
            ".observe(document.getElementById('link'), {subtree: true, childList: true, characterData: true})"
        )
        eventually(lambda: asked.count("/events") > 4, 20, "streams again and again")
        assert page.run("return window.links") == []
        assert page.text("#link") == "Live"
        assert "/status" not in asked
        stage.modules = (*stage.modules, module("late", "pending"))
        page.shows("Not ready", "h1")
    page.shows("Connection lost", "#link")


def test_where_there_is_no_stream_to_be_had_it_asks_now_and_then(page: Page) -> None:
    stage = healthy()
    with web.serve(stage, ":0") as server, ExitStack() as open_:
        for _ in range(STREAMS):
            assert open_.enter_context(stream(server.url)).response.status == 200
        page.open(f"{server.url}/")
        page.shows("Every 2 seconds", "#link")
        page.shows("Ready and healthy", "h1")
        stage.modules = (*stage.modules, module("late", "pending"))
        page.shows("Not ready", "h1")


def test_the_keyboard_goes_everywhere_and_is_seen(page: Page) -> None:
    with web.serve(many(30), ":0") as server:
        page.open(f"{server.url}/")
        page.shows("Not ready", "h1")
        assert page.tab() == "A Skip to the status"
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        assert page.run(outline) == "solid"
        page.press(Keys.ENTER)
        assert page.run("return document.activeElement.id") == "main"
        seen = [page.tab() for _ in range(7)]
        assert seen == [
            "A Look at the module",
            "SUMMARY About “locked”: how to make sure, and what to do",
            "A Runs",
            "A Modules 30",
            "A Flows 30",
            "A Workers 30",
            "A Supervision 68",
        ]
        page.press(Keys.ENTER)
        assert page.run("return location.hash") == "#supervision"
        page.focus(".tree ul summary")
        page.tab()
        closed = "return [...document.querySelectorAll('.tree details')].map((d) => d.open)"
        assert page.run(closed) == [True, False, False]
        page.press(Keys.ENTER)
        assert page.run(closed) == [True, False, True]
        assert page.run(outline) == "solid"


def test_a_graph_that_is_too_wide_is_scrolled_with_the_keyboard(page: Page) -> None:
    with web.serve(healthy(), ":0") as server:
        page.open(f"{server.url}/", size=(375, 812))
        page.shows("process_order", "#flows")
        eventually(lambda: page.run("return document.querySelector('#flows .canvas').tabIndex") == 0)
        page.focus("#flows .canvas")
        page.press(Keys.ARROW_RIGHT)
        eventually(lambda: page.run("return document.querySelector('#flows .canvas').scrollLeft") > 0)


class Quiet(WSGIRequestHandler):
    """Says nothing of requests."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Threaded(ThreadingMixIn, WSGIServer):
    """A thread for each request, all waited for at the end."""

    block_on_close = True
    daemon_threads = False


@contextmanager
def mounted(app: web.Application, prefix: str) -> Iterator[str]:
    """The application below a prefix of another one, on the standard library's server."""

    def outer(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path != prefix and not path.startswith(f"{prefix}/"):
            start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return [b""]
        # This server says that it has one thread, whatever is mixed in.
        own = {"SCRIPT_NAME": prefix, "PATH_INFO": path[len(prefix) :], "wsgi.multithread": True}
        return app({**environ, **own}, start_response)

    server = make_server("127.0.0.1", 0, outer, server_class=Threaded, handler_class=Quiet)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        app.close()
        server.shutdown()
        serving.join()
        server.server_close()


def test_below_a_prefix_all_of_it_works(page: Page) -> None:
    stage = healthy()
    with mounted(web.application(stage), "/ops/pgflow") as url:
        page.open(url)
        page.shows("Ready and healthy", "h1")
        page.shows("Live", "#link")
        page.shows("send_email", "#runs")
        assert page.driver.current_url == f"{url}/"
        stage.modules = (*stage.modules, module("late", "pending"))
        page.shows("Not ready", "h1")
        assert page.complaints() == []
        page.driver.get("about:blank")


def test_a_real_starter_from_a_database_that_is_down_to_a_finished_run(page: Page, pg_version: int) -> None:
    flow = pgflow.Flow("order")
    flow.step(slug="lines")(lambda given, ctx: given)
    flow.map(array="lines", slug="price")(lambda line, ctx: line * 2)
    with EmbeddedPostgres(version=pg_version, tcp=True, settings=FAST, parent=memory_folder()) as database:
        install(database.conninfo())
        database.stop()
        with running(database.conninfo(), flows=[flow]) as starter, web.serve(starter, ":0") as server:
            page.open(f"{server.url}/")
            page.shows("Not ready", "h1")
            page.shows("The database is away since", "#banner", 10)
            page.shows("retrying", "#modules")
            database.start()
            page.shows("Ready and healthy", "h1", 10)
            page.shows("order 2 steps", "#flows")
            starter.client.start_flow(flow, [1, 2, 3]).wait(10)
            page.shows("4 done", "#workers")
            page.shows("completed", "#runs")
            page.shows("price completed 3 of 3", "#runs")
            assert page.complaints() == []
            starter.stop()
            page.shows("Stopped", "h1")


def test_a_real_run_that_failed_is_found_and_run_again(page: Page, database: str) -> None:
    broken = threading.Event()
    broken.set()
    flow = pgflow.Flow("order", max_attempts=1)

    @flow.step()
    def charge(given: Any, ctx: pgflow.TaskContext) -> str:
        if broken.is_set():
            raise ConnectionError("the bank is closed")
        return "charged"

    with running(database, flows=[flow]) as starter, web.serve(starter, ":0", actions=True) as server:
        starter.await_ready(timeout=30)
        failed = starter.client.start_flow(flow, {}).wait(10)
        page.open(f"{server.url}/")
        page.shows("Step charge of order fails: 1 run in the last hour", "#problems", 10)
        page.shows("ConnectionError: the bank is closed", "#problems")
        click(page, ".problem a", "Look at the run")
        page.shows("in charge: failed after 1 attempt", "#run", 10)
        assert str(failed.id) in page.text("#run header")
        assert 'raise ConnectionError("the bank is closed")' in page.text("#run pre")
        broken.clear()
        click(page, "#run button", "Run again")
        click(page, "dialog button", "Run again")
        page.shows("It runs again, as", "#run .done", 10)
        page.run("document.querySelector('.done a').click()")
        page.shows("order completed", "#run header", 10)
        page.shows(str(failed.id)[:8], "#run .facts")
        assert page.complaints() == []
        page.driver.get("about:blank")
