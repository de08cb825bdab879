"""The scenarios: which faults each has, how far apart they lie, and who else is there."""

from __future__ import annotations

from tests.chaos.faults import ACTORS, LINK, NETWORK, PROCESSES, SERVER, SESSIONS
from tests.chaos.faults_in_queues import QUEUE_FAULTS
from tests.chaos.faults_in_sql import CANCELS, LOCKS, SCHEMA, SHAPES_CHANGED
from tests.chaos.world import Fault

STATEMENTS: dict[str, Fault] = {**CANCELS, **SHAPES_CHANGED}
ALL = (SERVER, SESSIONS, NETWORK, LINK, ACTORS, PROCESSES, LOCKS, STATEMENTS, QUEUE_FAULTS)

SCENARIOS: dict[str, dict[str, Fault]] = {
    "server": SERVER,
    "sessions": SESSIONS,
    "network": NETWORK,
    "link": LINK,
    "actors": ACTORS,
    "processes": PROCESSES,
    "locks": LOCKS,
    "statements": STATEMENTS,
    "queues": QUEUE_FAULTS,
    "everything": {name: fault for group in ALL for name, fault in group.items()},
    "schema": SCHEMA,
}

PAUSES = {"actors": (1.7, 2.5), "schema": (1.5, 6.0)}
"""Seconds between faults: actors no more often than their supervisors put up with."""

PROCESSES_BESIDE = {"processes": 2, "everything": 1}
"""How many worker processes there are beside this one."""

LIVES = frozenset(SCENARIOS) - {"schema"}
"""Where the lives of runs can be accounted for: what is dropped has none."""

BOUNDED = frozenset({"server", "sessions", "actors", "locks", "statements", "queues", "link"})
"""Where a starter's backends are bounded: in the others the server may not know that a connection is gone."""
