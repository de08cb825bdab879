"""`Subscriptions`: which queues are to be listened to, which are, and who waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from pgflow_starter.errors import PgflowError
from pgflow_starter.postgres.stores.pgmq import channel

logger = logging.getLogger("pgflow_starter.listener")

Answer = Callable[[PgflowError | None], object]


class Subscription:
    """One queue: whom its notifications wake, and who waits until LISTEN is in force."""

    def __init__(self, wake: Callable[[], object], channel: str) -> None:
        self.wake = wake
        self.channel = channel
        self.in_force = False
        self.waiting: list[Answer] = []


class Subscriptions:
    """The queues of a listener. Thread-safe; answers and wakes are given outside the lock.

    `changed` says that there is something in `changes`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, Subscription] = {}
        self._by_channel: dict[str, Subscription] = {}
        self._fresh: dict[str, Subscription] = {}
        self._dropped: list[str] = []
        self.changed = False

    def want(self, queue: str, wake: Callable[[], object], answer: Answer) -> bool:
        """Add a queue or replace its wake; False when LISTEN is in force already, else `answer` is told the result."""
        with self._lock:
            subscription = self._queues.get(queue)
            if subscription is None:
                subscription = self._queues[queue] = Subscription(wake, channel(queue))
                self._by_channel[subscription.channel] = subscription
            subscription.wake = wake
            if not subscription.in_force:
                subscription.waiting.append(answer)
                self._fresh[queue] = subscription
                self.changed = True
            return not subscription.in_force

    def drop(self, queue: str) -> None:
        """Forget a queue."""
        with self._lock:
            subscription = self._queues.pop(queue, None)
            if subscription is not None:
                self._fresh.pop(queue, None)
                del self._by_channel[subscription.channel]
                self._dropped.append(subscription.channel)
                self.changed = True

    def changes(self) -> tuple[list[Subscription], list[str]]:
        """Those that are not listened to yet, and channels to listen to no more."""
        with self._lock:
            self.changed = False
            fresh = list(self._fresh.values())
            self._fresh.clear()
            dropped = [c for c in self._dropped if c not in self._by_channel]
            self._dropped.clear()
        return fresh, dropped

    def now_in_force(self, subscriptions: list[Subscription]) -> None:
        """LISTEN was executed for these: answer who waits."""
        with self._lock:
            answers = [a for s in subscriptions for a in s.waiting]
            for subscription in subscriptions:
                subscription.in_force = True
                subscription.waiting.clear()
        for answer in answers:
            _call(partial(answer, None))

    def lost(self, error: PgflowError) -> bool:
        """No connection: who waits gets the error. True when some queue had been listened to."""
        with self._lock:
            had = any(s.in_force for s in self._queues.values())
            answers = [a for s in self._queues.values() for a in s.waiting]
            for subscription in self._queues.values():
                subscription.in_force = False
                subscription.waiting.clear()
            self._fresh = dict(self._queues)
            self.changed = bool(self._queues)
        for answer in answers:
            _call(partial(answer, error))
        return had

    def queues(self) -> list[str]:
        """The names of all queues."""
        with self._lock:
            return list(self._queues)

    def wake(self, name: str) -> None:
        """A notification on that channel came."""
        with self._lock:
            subscription = self._by_channel.get(name)
        if subscription is not None:
            _call(subscription.wake)

    def wake_all(self) -> None:
        """Something may have been missed."""
        with self._lock:
            subscriptions = list(self._queues.values())
        for subscription in subscriptions:
            _call(subscription.wake)


def _call(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        logger.exception("telling or waking a worker raised")
