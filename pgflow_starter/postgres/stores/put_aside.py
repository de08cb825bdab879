"""Messages that were read and not started are left alone for a while, each for as long as it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.features import Features, on_queue

REFUSED_VT, LONGEST_REFUSED_VT = 2, 300
"""Seconds that messages whose task cannot be started are left alone at most: nearly all of a queue's, or a few."""

AT_ONCE = 10_000
"""Messages of nobody that are put aside in one statement."""

# A task that is under way somewhere has its message left to the vt. One that is queued in a run that goes on was locked
# and comes soon again; or its clock is ahead of ours, and it comes when it is time; or it was refused, and comes more
# rarely each time. All else is nobody's, and looked at ever more rarely.
_PUT_ASIDE = """
with seen as materialized (
    select q.msg_id, q.read_ct, t.queued, t.started, t.ahead
    from pgmq.{queue} q, lateral (
        select coalesce(bool_or(t.status = 'queued'), false) as queued,
               coalesce(bool_or(t.status = 'started'), false) as started,
               extract(epoch from max(t.queued_at)) - extract(epoch from clock_timestamp()) as ahead
        from pgflow.step_tasks t join pgflow.runs r on r.run_id = t.run_id and r.status = 'started'
        where t.message_id = q.msg_id and t.flow_slug = %(flow)s{of_queue}
    ) t
    where q.msg_id = any(%(ids)s)
), put as (
    update pgmq.{queue} q
    set vt = clock_timestamp() + pg_catalog.make_interval(secs => case
        when s.ahead > 0.0 then least(s.ahead + 0.1, 60)
        when q.msg_id = any(%(refused)s)
            then least(5::float8 * pg_catalog.power(2, least(s.read_ct, 10) - 1), %(longest)s::float8)
        when s.queued then least(pg_catalog.power(2, least(s.read_ct, 10) - 1), 10)
        else least(%(vt)s::float8 * pg_catalog.power(2, least(s.read_ct, 10) - 1), 21600) end)
    from seen s where q.msg_id = s.msg_id and not s.started
    returning s.queued and not q.msg_id = any(%(refused)s) and not coalesce(s.ahead > 0.0, false) as locked, s.queued
)
select count(*) filter (where not queued), count(*) filter (where locked) from put
"""
_PUT_ALL_ASIDE = """
with nobodys as materialized (
    select q.msg_id from pgmq.{queue} q
    where q.vt <= clock_timestamp()
      and not exists (select from pgflow.step_tasks t join pgflow.runs r on r.run_id = t.run_id
                      where t.message_id = q.msg_id and t.flow_slug = %(flow)s{of_queue}
                        and (t.status = 'started' or t.status = 'queued' and r.status = 'started'))
    order by q.msg_id limit %(most)s for update skip locked
), early as materialized (
    select q.msg_id, t.queued_at from pgmq.{queue} q
    join pgflow.step_tasks t on t.message_id = q.msg_id and t.flow_slug = %(flow)s{of_queue}
         and t.status = 'queued' and t.queued_at > clock_timestamp()
    where q.vt <= clock_timestamp()
    order by q.msg_id limit %(most)s for update of q skip locked
), put as (
    update pgmq.{queue} q
    set read_ct = q.read_ct + 1,
        vt = clock_timestamp() + pg_catalog.make_interval(
            secs => least(%(vt)s::float8 * pg_catalog.power(2, least(q.read_ct, 9)), 21600))
    from nobodys n where q.msg_id = n.msg_id
    returning q.msg_id
), put_early as (
    update pgmq.{queue} q
    set vt = clock_timestamp() + pg_catalog.make_interval(
            secs => least(extract(epoch from e.queued_at) - extract(epoch from clock_timestamp()) + 0.1, 60))
    from early e where q.msg_id = e.msg_id
)
select count(*) from put
"""
# The older start_tasks leave the messages as invisible as they were read; a step of another timeout needs its own.
_EXTEND = """
with free as materialized (
    select q.msg_id, o.seconds from pgmq.{queue} q
    join unnest(%(ids)s::bigint[], %(seconds)s::integer[]) as o(msg_id, seconds) using (msg_id)
    for update of q skip locked
)
update pgmq.{queue} q set vt = clock_timestamp() + pg_catalog.make_interval(secs => free.seconds)
from free where q.msg_id = free.msg_id
"""


class Aside:
    """The messages of a queue that are to be left alone, on one connection. Raises psycopg's errors."""

    def __init__(self, flow: str, queue: str, features: Features, vt: int) -> None:
        self.flow = flow
        self.queue = queue
        self.vt = vt
        self._features = features

    def put_aside(
        self, conn: Connection, unstarted: Sequence[int], refused: Sequence[int], *, whole_queue: bool
    ) -> tuple[int, int]:
        """Have what was read and not started left alone for a while; how many are nobody's, and how many locked.

        Of the `whole_queue`, where there is hardly anything else at its head.
        """
        # Where hardly anything can be started, that it can be again shall be found soon.
        longest = REFUSED_VT if whole_queue else LONGEST_REFUSED_VT
        given: dict[str, Any] = {"flow": self.flow, "queue": self.queue, "vt": self.vt, "longest": longest}
        given |= {"most": AT_ONCE, "ids": list(unstarted), "refused": list(refused)}
        row: Any = conn.execute(on_queue(_PUT_ASIDE, self.queue, self._features), given).fetchone()
        nobodys, locked = row
        if whole_queue:
            row = conn.execute(on_queue(_PUT_ALL_ASIDE, self.queue, self._features), given).fetchone()
            nobodys += row[0]
        return nobodys, locked

    def extend(self, conn: Connection, seconds: dict[int, int]) -> None:
        """Have these messages invisible for so many seconds; those that somebody has locked stay as they are."""
        given = {"ids": list(seconds), "seconds": list(seconds.values())}
        conn.execute(on_queue(_EXTEND, self.queue, self._features), given)
