"""What a role needs for flows to run, written down once.

Sequences are not among it: those of pgmq's queues belong to identity columns, which ask for no right of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

Use: TypeAlias = Literal["work", "start", "compile", "notify", "prune", "sync", "delete"]
"""What a right is for: a worker's work, which no worker does without; starting runs; making flows that are not stored;
having a queue notify; deleting finished runs; changing the options of a stored flow, and deleting it, which no worker
does."""
Kind: TypeAlias = Literal["DATABASE", "SCHEMA", "TABLE", "FUNCTION"]

SCHEMAS: Mapping[Use, Mapping[str, str]] = {
    "work": {"pgflow": "USAGE", "pgmq": "USAGE", "realtime": "USAGE"},
    "compile": {"pgmq": "CREATE"},
    "prune": {"pgflow": "USAGE", "pgmq": "USAGE"},
    "sync": {"pgflow": "USAGE", "pgmq": "USAGE"},
    "delete": {"pgflow": "USAGE", "pgmq": "USAGE"},
}
"""A queue is two tables in pgmq, which belong to who makes them."""

TABLES: Mapping[Use, Mapping[str, str]] = {
    "work": {
        "pgflow.flows": "SELECT",
        "pgflow.steps": "SELECT",
        "pgflow.deps": "SELECT",
        "pgflow.runs": "SELECT, UPDATE",
        "pgflow.step_states": "SELECT, UPDATE",
        "pgflow.step_tasks": "SELECT, INSERT, UPDATE",
        "pgflow.workers": "SELECT, INSERT, UPDATE",
        "pgmq.meta": "SELECT",
    },
    "start": {"pgflow.runs": "INSERT", "pgflow.step_states": "INSERT"},
    "compile": {
        "pgflow.flows": "INSERT, UPDATE",
        "pgflow.steps": "INSERT, UPDATE",
        "pgflow.deps": "INSERT",
        "pgmq.meta": "INSERT",
    },
    "notify": {"pgmq.notify_insert_throttle": "SELECT, INSERT, UPDATE, DELETE"},
    "prune": {
        "pgflow.flows": "SELECT",
        "pgflow.steps": "SELECT",
        "pgflow.runs": "SELECT, UPDATE, DELETE",
        "pgflow.step_states": "SELECT, DELETE",
        "pgflow.step_tasks": "SELECT, DELETE",
        "pgflow.workers": "SELECT, UPDATE, DELETE",
    },
    "sync": {
        "pgflow.flows": "SELECT, UPDATE",
        "pgflow.steps": "SELECT, UPDATE",
        "pgflow.deps": "SELECT",
        "pgflow.workers": "SELECT",
        "pgmq.meta": "SELECT",
    },
    "delete": {
        "pgflow.flows": "SELECT, UPDATE, DELETE",
        "pgflow.steps": "SELECT, DELETE",
        "pgflow.deps": "SELECT, DELETE",
        "pgflow.runs": "SELECT, UPDATE, DELETE",
        "pgflow.step_states": "SELECT, DELETE",
        "pgflow.step_tasks": "SELECT, DELETE",
        "pgflow.workers": "SELECT",
        "pgmq.meta": "SELECT, DELETE",
    },
}
QUEUE_TABLES: Mapping[Use, Mapping[str, str]] = {
    "work": {"q": "SELECT, INSERT, UPDATE, DELETE", "a": "SELECT, INSERT"},
    "notify": {"q": "TRIGGER"},
    "prune": {"q": "SELECT, DELETE", "a": "SELECT, DELETE"},
}
"""Of each flow's queue, by the prefix of its table: what waits, and the archive."""

THROTTLE = ("pgmq", "notify_insert_throttle", "SELECT, UPDATE", "work")
"""By the trigger of a queue that notifies, when a message is sent there."""

FUNCTIONS: Mapping[Use, Sequence[str]] = {
    "work": (
        "pgflow.start_tasks",
        "pgflow.complete_task",
        "pgflow.fail_task",
        "pgflow.mark_worker_stopped",
        "pgmq.read",
        "pgmq.archive",
    ),
    "start": ("pgflow.start_flow",),
    "compile": ("pgflow.create_flow", "pgflow.add_step", "pgflow.is_valid_slug"),
    "notify": ("pgmq.acquire_queue_lock", "pgmq.enable_notify_insert", "pgmq.notify_queue_listeners"),
    "prune": (),
    "sync": (),
    "delete": ("pgmq.acquire_queue_lock", "pgmq.drop_queue", "pgflow.delete_flow_and_data"),
}
"""Those that we call. What they call with the caller's rights is needed as well, and found in their bodies."""

ALL_USES: tuple[Use, ...] = ("work", "start", "compile", "notify")
"""All that starters do, but for those that prune."""

WORK_USES: tuple[Use, ...] = ("work", "start")
"""Without those that let a role have code of its own run by others: in functions of pgmq's schema, in triggers."""

PRUNE_USES: tuple[Use, ...] = ("prune",)
"""Of whoever deletes finished runs, a worker or not."""


def _all_of(use: Use) -> set[tuple[Use, str, str]]:
    """Every right on tables and schemas that is for it."""
    needed = {**TABLES[use], **SCHEMAS.get(use, {})}
    return {(use, target, privilege) for target, privileges in needed.items() for privilege in privileges.split(", ")}


_ARCHIVING: set[tuple[Use, str, str]] = {("work", "q", "DELETE"), ("work", "a", "SELECT"), ("work", "a", "INSERT")}
IN_BODIES: Sequence[tuple[Sequence[str], set[tuple[Use, str, str]]]] = (
    (
        ("pgflow.start_tasks", "pgflow.complete_task", "pgflow.fail_task"),
        {
            ("work", "pgflow.step_tasks", "INSERT"),
            ("work", "pgflow.step_states", "UPDATE"),
            ("work", "q", "INSERT"),
            *_ARCHIVING,
        },
    ),
    (("pgmq.archive",), {*_ARCHIVING}),
    (("pgflow.start_flow",), _all_of("start")),
    (("pgflow.create_flow", "pgflow.add_step"), _all_of("compile")),
)
"""What only these functions do: where all of them have their owner's rights, nobody else needs it."""

HARMLESS = {("work", "pgflow.deps", "SELECT"), ("work", "pgflow.step_tasks", "INSERT"), ("work", "q", "INSERT")}
"""What a flow of one step does not do: row level security of it is told by what fails, in flows that do."""
