"""The queues with their last hour, and the workers of all processes."""

from __future__ import annotations

from tests.browser.chromium import Page
from tests.browser.desk import Desk, served
from tests.browser.nights import answer, bad, calm, worker
from tests.browser.scenes import healthy


def test_a_queue_that_does_not_get_on_comes_first_with_its_hour(page: Page) -> None:
    with served(Desk(healthy(), bad())) as url:
        page.open(url)
        page.shows("Queues 4", "#queues")
        assert page.texts("#queues tbody th")[:2] == ["send_email", "process_order"]
        assert page.texts("#queues .now")[0] == "1,204 waiting, the oldest for 12 min, 20 at work or put off"
        assert page.texts("#queues tr:nth-child(2) .lately")[1:] == ["748 done", "20 failed"]
        labels = page.run(
            "return [...document.querySelectorAll('#queues .plot')].map((p) => p.getAttribute('aria-label'))"
        )
        assert labels[0] == "In the last hour up to 1,155 waiting"
        ground = page.run("return document.querySelector('#queues .plot .base').getAttribute('d')")
        assert ground == "M10 27.5H60", "where nobody counted there is a gap"


def test_queues_change_before_ones_eyes(page: Page) -> None:
    desk = Desk(healthy(), bad())
    with served(desk) as url:
        page.open(url)
        page.shows("1,204 waiting", "#queues")
        desk.answers["queues"] = calm()["queues"]
        page.shows("send_email 0 waiting", "#queues", 10)
        assert "1,204" not in page.text("#queues")


def test_workers_of_other_processes_are_told_by_flow(page: Page) -> None:
    with served(Desk(healthy(), bad())) as url:
        page.open(url)
        page.shows("Workers of all processes 8", "#processes")
        assert page.texts("#processes summary")[0] == "send_email 1 here 2 alive, 1 dead"
        page.focus("#processes summary")
        page.press(" ")
        page.shows("dead 00000031 elsewhere, began 3 h 3 min ago, heard of 3 min", "#processes")


def test_one_that_was_told_to_stop_is_no_loss(page: Page) -> None:
    retired = worker("order", 1, alive=False, told=True)
    with served(Desk(healthy(), {**calm(), "workers": answer(workers=[retired])})) as url:
        page.open(url)
        page.shows("order none alive", "#processes")
        page.focus("#processes summary")
        page.press(" ")
        page.shows("retired 00000001", "#processes")
