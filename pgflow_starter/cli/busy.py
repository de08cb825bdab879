"""What a person sees of something that takes longer than a second: a line that moves, gone when it is done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import click
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from pgflow_starter.cli.options import stderr_console
from pgflow_starter.clock import SystemClock

SHOWN_AFTER = 1.0
"""Seconds until it is shown."""

_FRAMES = 8.0


def busy(words: str | Callable[[], str]) -> AbstractContextManager[Callable[[str], None]]:
    """Show the words and the time while the block lasts, on a terminal alone: elsewhere they would be noise.

    A function is asked for the words each time.
    Gives a function that prints a line to standard output meanwhile, on any thread.
    """
    return _MovingLine(words, SystemClock()) if stderr_console().is_terminal else nullcontext(click.echo)


class _MovingLine:
    def __init__(self, words: str | Callable[[], str], clock: SystemClock) -> None:
        self._began = clock.monotonic()
        self._clock = clock
        self._words = words
        self._spinner = Spinner("dots")
        # Nothing is redirected: what goes to standard output may go to a file.
        self._live = Live(
            get_renderable=self._picture,
            console=stderr_console(),
            refresh_per_second=_FRAMES,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._lock = threading.Lock()
        self._done = threading.Event()

    def __enter__(self) -> Callable[[str], None]:
        threading.Thread(target=self._show_late, name="pgflow-busy", daemon=True).start()
        return self._say

    def __exit__(self, *_: object) -> None:
        self._done.set()
        with self._lock:
            self._live.stop()

    def _say(self, line: str) -> None:
        with self._lock:
            shown = self._live.is_started
            self._live.stop()
            click.echo(line)
            if shown and not self._done.is_set():
                self._live.start()

    def _show_late(self) -> None:
        self._done.wait(SHOWN_AFTER)
        with self._lock:
            if not self._done.is_set():
                self._live.start()

    def _picture(self) -> Spinner:
        words = self._words if isinstance(self._words, str) else self._words()
        self._spinner.update(text=Text(f"{words} ({self._clock.monotonic() - self._began:.0f} s)"))
        return self._spinner
