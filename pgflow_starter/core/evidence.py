"""`Evidence`: what a look into the database says of one worker's queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias
from uuid import UUID

TaskKey: TypeAlias = tuple[UUID, str, int]
"""A task's run, step and index."""

MessageKey: TypeAlias = tuple[str, int]
"""A message's queue, and its id there."""


class Evidence(NamedTuple):
    """Of the `queued` tasks that were looked at, those whose message is gone, or cannot be seen where it is `hidden`.

    `lost_tasks` has some of these; `whole`: all there are were looked at. `overdue` ones have a message that has been
    visible for long. Somebody recorded a task of the queue `moved_ago` seconds before. `unstartable`: messages are
    there that were read and cannot be started; None where nobody looked. `concealed` names the tables whose rows row
    level security hides for certain. `queue` is the one of a step that this is said of, where each step has one.
    """

    queued: int = 0
    lost: int = 0
    lost_tasks: tuple[TaskKey, ...] = ()
    hidden: bool = False
    overdue: int = 0
    moved_ago: float | None = None
    whole: bool = True
    unstartable: bool | None = None
    concealed: tuple[str, ...] = ()
    queue: str | None = None


def shown_again(table: str) -> str:
    """How a role comes to see the rows that row level security hides."""
    return f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, or CREATE POLICY for it, or ALTER ROLE ... BYPASSRLS"


def hidden_tables(tables: Sequence[str]) -> str:
    """What hides rows there, and what to do about it."""
    return f"row level security hides rows of {', '.join(tables)} from this role: {shown_again(tables[0])}"


def lost_messages(slug: str, evidence: Evidence) -> str:
    """What is wrong with tasks whose messages are gone, and what to do about it."""
    queue = f"pgmq.q_{evidence.queue or slug}"
    if evidence.hidden:
        return (
            f"row level security hides the messages of {evidence.lost} of {evidence.queued} queued tasks in {queue}"
            f" from this role: {shown_again(queue)}"
        )
    first = f", in run {evidence.lost_tasks[0][0]} first" if evidence.lost_tasks else ""
    return (
        f"{evidence.lost} of {evidence.queued} queued tasks have no message in {queue} (it was purged, or they were"
        f" archived by hand) and will never run{first}. Their messages are sent anew by: "
        + _SEND_ANEW.format(
            slug=slug,
            queue=queue,
            name="t.flow_slug" if evidence.queue is None else "t.queue_name",
            of_queue="" if evidence.queue is None else f" and t.queue_name = '{evidence.queue}'",
        )
    )


_SEND_ANEW = (
    "update pgflow.step_tasks t set message_id = (select pgmq.send({name}, jsonb_build_object('flow_slug',"
    " t.flow_slug, 'run_id', t.run_id, 'step_slug', t.step_slug, 'task_index', t.task_index)))"
    " where t.flow_slug = '{slug}'{of_queue} and t.status = 'queued'"
    " and (t.run_id, t.step_slug) in (select run_id, step_slug from pgflow.step_states where status = 'started')"
    " and not exists (select from {queue} q where q.msg_id = t.message_id)"
)
