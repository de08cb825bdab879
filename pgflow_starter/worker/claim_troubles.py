"""`ClaimTroubles`: what claims, and looks into the database, say of a worker's troubles."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from pgflow_starter.clock import Clock
from pgflow_starter.core.classify import error_type, reason_for_logs
from pgflow_starter.core.evidence import Evidence, MessageKey, TaskKey, hidden_tables, lost_messages, shown_again
from pgflow_starter.core.task import Claimed
from pgflow_starter.core.trouble import LASTING, TroubleKind, with_remedy
from pgflow_starter.errors import MISSING_STATES, DatabaseError
from pgflow_starter.worker.troubles import Troubles

ALL_REFUSED = 3
"""Messages of which not one can be started until that counts as trouble of scope all."""


class ClaimTroubles:
    """One worker's; `busy` says whether it runs tasks. For one thread at a time, but for `heed` and `recorded`."""

    def __init__(self, queue: str, troubles: Troubles, clock: Clock, busy: Callable[[], bool]) -> None:
        self._queue = queue
        self._troubles = troubles
        self._clock = clock
        self._busy = busy
        self._work_moved_at = -inf
        self._claimed_nothing_at = -inf
        self._overdue_since: float | None = None
        self.refused: set[MessageKey] = set()
        """Messages of which the task could not be started."""
        self.lost: tuple[TaskKey, ...] = ()
        """Tasks whose message was gone when somebody looked."""

    def failed(self, error: BaseException, began: float) -> None:
        """A claim that began then failed. An outage is everybody's trouble, and logged where it was found."""
        if isinstance(error, DatabaseError) and error.connection_lost:
            return
        kind = error_type(error)
        said = with_remedy(f"tasks cannot be claimed: {reason_for_logs(error)}", kind)
        self._troubles.refuse(TroubleKind.CLAIMS_REFUSED, said, kind, began)

    def recorded(self) -> None:
        """Outcomes were written."""
        self._work_moved_at = self._clock.monotonic()
        self._troubles.work_moves(TroubleKind.UNSTARTED, TroubleKind.MESSAGES_LOST, TroubleKind.LOCKED)

    def judge(self, claimed: Claimed) -> None:
        """A claim went through."""
        if claimed.barred:
            told = [
                with_remedy(f"tasks of step {step!r} cannot be claimed: {why}", k) for step, why, k in claimed.barred
            ]
            self._troubles.begin(TroubleKind.CLAIMS_REFUSED, "; ".join(told), error_type=claimed.barred[0].error_type)
        else:
            self._troubles.end(TroubleKind.CLAIMS_REFUSED)
        if claimed.refused or self.refused:
            self.refused -= {task.message for task in claimed.tasks}
            self.refused |= {message for message, _ in claimed.refused}
        if claimed.tasks:
            self.recorded()
            if not claimed.locked:
                self._troubles.end(TroubleKind.LOCKED)
        elif not claimed.read:
            self._claimed_nothing_at = self._clock.monotonic()
        if claimed.hidden and not claimed.tasks:
            every, said = (
                True,
                f"none of the messages that were read can be started, for {hidden_tables(claimed.hidden)}",
            )
        elif claimed.refused:
            (_, message), why = claimed.refused[0]
            every = len(self.refused) >= ALL_REFUSED
            said = f"the tasks of {len(self.refused)} messages cannot be started, of message {message} first: {why}"
        elif claimed.locked:
            said = f"the tasks of {claimed.locked} messages in pgmq.q_{claimed.queue or self._queue} cannot be started"
            self._judge_locked(said, claimed.locked >= ALL_REFUSED, self._moved_at())
            return
        elif claimed.nobodys:
            every, said = False, self._nobodys(claimed.queue or self._queue, claimed.veiled)
        else:
            return
        kind = "42501" if claimed.hidden else ""
        self._troubles.judge(TroubleKind.UNSTARTED, said, every=every, moved_at=self._moved_at(), error_type=kind)

    def heed(self, evidence: Evidence) -> bool:
        """What a look into the database says of its queue; whether a claim has to say more."""
        self.lost = evidence.lost_tasks or self.lost
        moved_at = self._moved_at()
        if evidence.moved_ago is not None:  # anybody's
            moved_at = max(moved_at, self._clock.monotonic() - evidence.moved_ago)
        if evidence.lost:
            every, said = evidence.lost == evidence.queued, lost_messages(self._queue, evidence)
            self._troubles.judge(TroubleKind.MESSAGES_LOST, said, every=every, moved_at=moved_at)
        elif evidence.whole or self.lost:  # these were looked at in any case
            self.lost = ()
            self._troubles.end(TroubleKind.MESSAGES_LOST)
        if evidence.concealed:
            said = f"its work cannot be done, for {hidden_tables(evidence.concealed)}"
            self._troubles.refuse(TroubleKind.HIDDEN, said, "42501")
        else:
            self._troubles.end(TroubleKind.HIDDEN)
        if evidence.unstartable is False:
            self.refused.clear()
            self._troubles.end(TroubleKind.UNSTARTED)
        overdue = self._judge_overdue(evidence, moved_at)
        refused = self._troubles.of(TroubleKind.OUTCOMES_REFUSED)  # whether it is of one queue, a claim says
        return overdue or (refused is not None and refused.error_type in MISSING_STATES)

    def _judge_overdue(self, evidence: Evidence, moved_at: float) -> bool:
        """Messages that have been visible for long and that no claim gets: somebody has them locked."""
        now = self._clock.monotonic()
        others = self._troubles.of(TroubleKind.UNKNOWN_STEP) is not None  # whose messages are left visible on purpose
        if not evidence.overdue or others or now - moved_at < LASTING:
            self._overdue_since = None
            if not evidence.queued and evidence.whole:
                self._troubles.end(TroubleKind.LOCKED)
            return False
        if self._overdue_since is None:
            self._overdue_since = now
        elif self._claimed_nothing_at > self._overdue_since:
            said = (
                f"{evidence.overdue} messages in pgmq.q_{evidence.queue or self._queue} are visible and cannot be read"
            )
            self._judge_locked(said, True, moved_at, self._overdue_since)
        return True

    def _judge_locked(self, said: str, every: bool, moved_at: float, began: float | None = None) -> None:
        said = f"{said}: somebody has them locked (see pg_locks)"
        self._troubles.judge(TroubleKind.LOCKED, said, every=every, moved_at=moved_at, began=began)

    def _moved_at(self) -> float:
        """When tasks of its own were last started or recorded; while some run work moves all the time."""
        return inf if self._busy() else self._work_moved_at

    def _nobodys(self, queue: str, veiled: tuple[str, ...]) -> str:
        if veiled:
            return (
                f"messages in pgmq.q_{queue} belong to no task that this role can see, and row level security of"
                f" {', '.join(veiled)} may hide theirs: {shown_again(veiled[0])}"
            )
        return (
            f"messages in pgmq.q_{queue} belong to no task that can be started: they are put aside, for longer"
            " each time, until pgmq.archive or pgmq.delete takes them away"
        )
