"""What a person sees of something that takes longer than a second."""

from __future__ import annotations

from tests.support.programs import finished
from tests.support.terminal import on_terminal

WAITING = """
import threading
from pgflow_starter.cli.busy import busy

with busy("knitting") as say:
    threading.Event().wait({seconds})
    say("a sleeve is done")
    threading.Event().wait({seconds})
print("and now the rest")
"""


def test_on_a_terminal_a_line_moves_until_it_is_done_and_then_is_gone() -> None:
    with on_terminal("-c", WAITING.format(seconds=1.5)) as screen:
        screen.read_until("knitting (1 s)")
        screen.read_until("a sleeve is done")
        shown = screen.rest()
    assert "\x1b[2K" in shown.rpartition("knitting")[2]
    assert shown.splitlines()[-1].endswith("and now the rest")


def test_what_is_done_at_once_shows_nothing() -> None:
    with on_terminal("-c", WAITING.format(seconds=0.1)) as screen:
        shown = screen.rest()
    assert "knitting" not in shown


def test_what_goes_to_a_file_is_what_was_said_and_nothing_else() -> None:
    with on_terminal("-c", WAITING.format(seconds=1.2), piped=True) as screen:
        shown = screen.rest()
    assert "knitting" in shown
    assert "sleeve" not in shown
    done = finished("-c", WAITING.format(seconds=1.2))
    assert (done.stdout, done.stderr) == ("a sleeve is done\nand now the rest\n", "")
