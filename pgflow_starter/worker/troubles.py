"""`Troubles`: what keeps one worker from claiming or recording, from the first call that fails to the first that goes
through."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

from pgflow_starter.actors.module_log import ModuleLog
from pgflow_starter.core.dataclass import dataclass
from pgflow_starter.core.state import one_line
from pgflow_starter.core.trouble import LASTING, Trouble, TroubleKind, TroubleScope
from pgflow_starter.ports import Clock, Timers

LONGEST = 1000
"""Characters of a reason: one holds the statement that mends it."""


@dataclass(frozen=True, slots=True)
class _Known:
    trouble: Trouble
    began: float


class Troubles:
    """One worker's, one of each kind. Told of by its log when they begin and when they end. Thread-safe; never waits.

    `turned` is called, from any thread, when the module may have to be judged anew.
    """

    def __init__(self, clock: Clock, timers: Timers, log: ModuleLog, turned: Callable[[], object]) -> None:
        self._clock = clock
        self._timers = timers
        self._log = log
        self._turned = turned
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

        Where that is known, it stays as it was told first, or has the new reason where another error is behind it.
        Another scope makes another trouble of it.
        """
        now = self._clock.monotonic()
        with self._lock:
            known = self._known.get(kind)
            same = known is not None and known.trouble.scope is scope
            if known is not None and same:
                if known.trouble.error_type == error_type:
                    return
                began, since = known.began, known.trouble.since
            else:
                began = now if began is None else began
                since = self._clock.now() - timedelta(seconds=now - began)
            trouble = Trouble(kind, one_line(reason, LONGEST), since, error_type, scope)
            self._known[kind] = _Known(trouble, began)
            self._look()
        if same:
            return
        if known is not None and scope is TroubleScope.SOME:
            self._log.info("the trouble is of scope some now (%s)", kind)
            self._turned()
            return
        after = f" [{error_type}]" if error_type else ""
        self._log.warning("trouble (%s, scope %s): %s%s", kind, scope, trouble.reason, after)
        if scope is TroubleScope.ALL:
            self._timers.after(max(0.0, began + LASTING - now), self._turned)

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

    @property
    def lasting(self) -> Trouble | None:
        """The one that keeps the module from being ready."""
        now = self._clock.monotonic()
        for known in list(self._known.values()):
            if known.trouble.scope is TroubleScope.ALL and now - known.began >= LASTING:
                return known.trouble
        return None

    def _look(self) -> None:
        """Under the lock."""
        found = [known.trouble for known in self._known.values()]
        self.current = min(found, key=lambda t: (t.scope is not TroubleScope.ALL, t.since), default=None)
