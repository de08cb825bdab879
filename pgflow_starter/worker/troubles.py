"""`Troubles`: what keeps one worker from claiming or recording, from the first call that fails to the first that goes
through."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from pgflow_starter.clock import Clock, Timers
from pgflow_starter.core.symptoms import see
from pgflow_starter.core.text import one_line
from pgflow_starter.core.trouble import LASTING, Trouble, TroubleKind, TroubleScope
from pgflow_starter.module_log import ModuleLog

MOMENT = 0.5
"""Seconds by which two tellings of the same moment may differ."""

LONGEST = 1000
"""Characters of a reason: one holds the statement that mends it."""


class _Known(NamedTuple):
    trouble: Trouble
    began: float


class Troubles:
    """One worker's, one of each kind. Its log says when they begin and when they end. Thread-safe; never waits.

    `turned` is called, from any thread, when the module may have to be judged anew. None begins while it is `stopping`.
    """

    def __init__(
        self,
        clock: Clock,
        timers: Timers,
        log: ModuleLog,
        turned: Callable[[], object],
        stopping: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._timers = timers
        self._log = log
        self._turned = turned
        self._stopping = stopping
        self._lock = threading.Lock()
        self._known: dict[TroubleKind, _Known] = {}
        self.current: Trouble | None = None
        """The gravest: of scope all rather than some, then the oldest."""

    def begin(
        self,
        kind: TroubleKind,
        reason: str,
        *,
        scope: TroubleScope = TroubleScope.SOME,
        error_type: str = "",
        began: float | None = None,
    ) -> None:
        """There is trouble, since `began` (monotonic clock; now).

        Where that is known, it has the new reason and is logged no more. Another scope makes another trouble of it.
        """
        if self._stopping():
            return
        now = self._clock.monotonic()
        with self._lock:
            known = self._known.get(kind)
            same = known is not None and known.trouble.scope is scope
            if known is not None and same:
                began, since = known.began, known.trouble.since
            else:
                began = now if began is None else began
                since = self._clock.now() - timedelta(seconds=now - began)
            trouble = Trouble(kind, one_line(reason, LONGEST), since, error_type, scope)
            self._known[kind] = _Known(trouble, began)
            self._look()
        if same:
            if scope is TroubleScope.ALL and known is not None and known.trouble.error_type != error_type:
                self._turned()  # its module tells the reason
            return
        if known is not None and scope is TroubleScope.SOME:
            self._log.info("the trouble is of scope some now (%s)", kind)
            self._turned()
            return
        after = f" [{error_type}]" if error_type else ""
        self._log.warning("trouble (%s, scope %s): %s%s%s", kind, scope, trouble.reason, after, see(kind))
        if scope is TroubleScope.ALL:
            self._timers.after(max(0.0, began + LASTING - now), self._turned)

    def refuse(self, kind: TroubleKind, reason: str, error_type: str, began: float | None = None) -> None:
        """There is trouble of scope all, for the database refuses what is tried."""
        self.begin(kind, reason, scope=TroubleScope.ALL, error_type=error_type, began=began)

    def judge(
        self,
        kind: TroubleKind,
        reason: str,
        *,
        every: bool,
        moved_at: float,
        error_type: str = "",
        began: float | None = None,
    ) -> None:
        """There is trouble with `every` one that was tried, or with some; work moved last at `moved_at`.

        Where work moves it is of scope some. It becomes one of scope all again when nothing has moved for a while: it
        does not change with each that goes well.
        """
        now = self._clock.monotonic()
        known = self._known.get(kind)
        if known is None:
            stuck = every and moved_at < (now if began is None else began)
        elif known.trouble.scope is TroubleScope.ALL:
            stuck = every and moved_at < known.began + MOMENT
        else:
            stuck = every and now - max(moved_at, known.began) >= LASTING
            began = max(moved_at, known.began)
        scope = TroubleScope.ALL if stuck else TroubleScope.SOME
        self.begin(kind, reason, scope=scope, error_type=error_type, began=began)

    def work_moves(self, *kinds: TroubleKind) -> None:
        """What there is of these kinds is not of scope all: tasks were started, or recorded."""
        for kind in kinds:
            known = self.of(kind)
            if known is not None and known.scope is TroubleScope.ALL:
                self.begin(kind, known.reason, error_type=known.error_type)

    def renew(self) -> None:
        """The database was away: for how long it has lasted counts from now."""
        now = self._clock.monotonic()
        with self._lock:
            lasting = [kind for kind, known in self._known.items() if known.trouble.scope is TroubleScope.ALL]
            for kind in lasting:
                self._known[kind] = _Known(self._known[kind].trouble, now)
        if lasting:
            self._timers.after(LASTING, self._turned)

    def end(self, *kinds: TroubleKind) -> None:
        """Trouble of these kinds is over."""
        if not self._known:
            return
        with self._lock:
            over = [known.trouble for kind in kinds if (known := self._known.pop(kind, None)) is not None]
            self._look()
        for trouble in over:
            self._log.info("the trouble is over (%s, scope %s)", trouble.kind, trouble.scope)
        if any(trouble.scope is TroubleScope.ALL for trouble in over):
            self._turned()

    def of(self, kind: TroubleKind) -> Trouble | None:
        """That of the kind."""
        known = self._known.get(kind)
        return None if known is None else known.trouble

    def of_all(self, *, lasting: bool) -> Trouble | None:
        """One of scope all: `lasting` makes a module not ready, any keeps it so."""
        now = self._clock.monotonic()
        for known in list(self._known.values()):
            if known.trouble.scope is TroubleScope.ALL and (not lasting or now - known.began >= LASTING):
                return known.trouble
        return None

    def _look(self) -> None:
        """Under the lock."""
        found = [known.trouble for known in self._known.values()]
        self.current = min(found, key=lambda t: (t.scope is not TroubleScope.ALL, t.since), default=None)
