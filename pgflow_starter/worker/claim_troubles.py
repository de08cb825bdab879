"""`ClaimTroubles`: what claims, and looks into the database, say of a worker's troubles."""

from __future__ import annotations

from pgflow_starter.core.classify import error_type, reason_for_logs
from pgflow_starter.core.evidence import Evidence, lost_messages, shown_again
from pgflow_starter.core.task import Claimed
from pgflow_starter.core.trouble import TroubleKind, TroubleScope, with_remedy
from pgflow_starter.errors import DatabaseError
from pgflow_starter.worker.troubles import Troubles

ALL_REFUSED = 10
"""Messages of which not one can be started until that counts as trouble of scope all."""


class ClaimTroubles:
    """One worker's. For one thread at a time, but for `heed`."""

    def __init__(self, queue: str, troubles: Troubles) -> None:
        self._queue = queue
        self._troubles = troubles
        self.refused: set[int] = set()
        """Messages of which the task could not be started."""

    def failed(self, error: BaseException, began: float) -> None:
        """A claim that began then failed. An outage is everybody's trouble, and told by who found it."""
        if isinstance(error, DatabaseError) and error.connection_lost:
            return
        kind = error_type(error)
        said = with_remedy(f"tasks cannot be claimed: {reason_for_logs(error)}", kind)
        self._troubles.begin(TroubleKind.CLAIMS_REFUSED, said, scope=TroubleScope.ALL, error_type=kind, began=began)

    def judge(self, claimed: Claimed) -> None:
        """A claim went through."""
        troubles = self._troubles
        troubles.end(TroubleKind.CLAIMS_REFUSED)
        if claimed.refused or self.refused:
            self.refused -= {task.msg_id for task in claimed.tasks}
            self.refused |= {message for message, _ in claimed.refused}
        if claimed.tasks:
            self._work_moves()
        if claimed.hidden:
            said = (
                "none of the messages that were read can be started, for row level security hides rows of"
                f" {', '.join(claimed.hidden)} from this role: {shown_again(claimed.hidden[0])}"
            )
            troubles.begin(TroubleKind.UNSTARTED, said, scope=TroubleScope.ALL, error_type="42501")
        elif claimed.refused:
            every = not claimed.tasks and len(self.refused) >= ALL_REFUSED
            message, why = claimed.refused[0]
            said = f"the tasks of {len(self.refused)} messages cannot be started, of message {message} first: {why}"
            troubles.begin(TroubleKind.UNSTARTED, said, scope=TroubleScope.ALL if every else TroubleScope.SOME)
        elif claimed.nobodys:
            said = (
                f"messages in pgmq.q_{self._queue} belong to no task that can be started: they are put aside,"
                " for longer each time, until pgmq.archive or pgmq.delete takes them away"
            )
            troubles.begin(TroubleKind.UNSTARTED, said)

    def heed(self, evidence: Evidence) -> None:
        """What a look into the database says of its queue."""
        troubles, known = self._troubles, self._troubles.of(TroubleKind.MESSAGES_LOST)
        if evidence.lost:
            every = evidence.lost == evidence.queued and (known is None or known.scope is TroubleScope.ALL)
            scope = TroubleScope.ALL if every else TroubleScope.SOME
            troubles.begin(TroubleKind.MESSAGES_LOST, lost_messages(self._queue, evidence), scope=scope)
        elif known is not None and (evidence.whole or known.scope is TroubleScope.ALL):
            troubles.end(TroubleKind.MESSAGES_LOST)
        if not evidence.unstartable and troubles.of(TroubleKind.UNSTARTED) is not None:
            self.refused.clear()
            troubles.end(TroubleKind.UNSTARTED)

    def _work_moves(self) -> None:
        """Tasks were started: whatever else there is, it is no trouble of scope all."""
        for kind in (TroubleKind.UNSTARTED, TroubleKind.MESSAGES_LOST):
            known = self._troubles.of(kind)
            if known is not None and known.scope is TroubleScope.ALL:
                self._troubles.begin(kind, known.reason, error_type=known.error_type)
