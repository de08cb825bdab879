"""Finished runs out of the database, with all that is theirs: one, or all that are older than they are kept.

By primary keys and the indexes of foreign keys alone. Which runs are due is read by their place in the table, some
pages at a time, for there is no index on a run's end: none is read twice, and neighbours, which ended together, go
together. Who prunes has an advisory lock: held by its session, or, behind a pooler, which hands each transaction to
another session, in each batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg import sql

from pgflow_starter.core.retention import Retention
from pgflow_starter.core.text import one_line
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.connection import Connection, Session
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores import refusals, rights
from pgflow_starter.postgres.stores.features import Features, detect, queue_column
from pgflow_starter.postgres.stores.needs import PRUNE_USES

if TYPE_CHECKING:
    from pgflow_starter.ports import Pruning

BATCH_RUNS, BATCH_TASKS = 500, 5000
"""Runs and tasks that one transaction deletes at most, but for a run that has more tasks than that."""

LOCKED_RUNS = 10
"""Of one batch that somebody has locked: the rest of it is not tried any more."""

PAGES = 64
"""Of the table of runs that are read at a time."""

STEP_LIMIT = 300.0
"""Seconds that a batch may take: of a run of a million tasks, too."""

LEAST_SILENCE = 86_400.0
"""Seconds for which a worker must not have been heard of, however short runs are kept: it lives else."""

_DUE = """
(r.status = 'completed' and r.completed_at < now() - pg_catalog.make_interval(secs => %(completed)s::float8)
 or r.status = 'failed' and r.failed_at < now() - pg_catalog.make_interval(secs => %(failed)s::float8))
"""
_PAGES = "select pg_relation_size('pgflow.runs'::regclass) / pg_catalog.current_setting('block_size'::text)::bigint"
_READ = f"""
select r.run_id::text, (select coalesce(pg_catalog.sum(s.initial_tasks), 0::bigint)
                        from pgflow.step_states s where s.run_id = r.run_id)
from pgflow.runs r where r.ctid >= %(first)s::tid and r.ctid < %(end)s::tid and {_DUE}
"""  # noqa: S608 - constants
# A statement of its own: those after it see what others did to the runs before they were locked.
_LOCK = f"""
select r.run_id::text from pgflow.runs r where r.run_id = any(%(runs)s::uuid[]) and {_DUE}
order by r.run_id for update skip locked
"""  # noqa: S608 - constants
_LOCK_ONE = "select r.status from pgflow.runs r where r.run_id = %s::uuid for update"
# By queue: its messages and whose they are, and which of its two tables are there.
_MESSAGES = """
select g.queue, g.messages, g.runs,
       pg_catalog.to_regclass(pg_catalog.format('pgmq.%%I'::text, 'q_'::text || g.queue)) is not null,
       pg_catalog.to_regclass(pg_catalog.format('pgmq.%%I'::text, 'a_'::text || g.queue)) is not null
from (select pg_catalog.lower({queue}) as queue, pg_catalog.array_agg(t.message_id) as messages,
             pg_catalog.array_agg(t.run_id::text) as runs
      from pgflow.step_tasks t where t.run_id = any(%s::uuid[]) and t.message_id is not null
      group by 1) g
"""
# Not by its number alone: a queue that was dropped and made anew has numbered its messages anew.
_DELETE_MESSAGES = """
delete from pgmq.{table} m using unnest(%s::bigint[], %s::text[]) as g (msg_id, run_id)
where m.msg_id = g.msg_id and m.message ->> 'run_id'::text = g.run_id
"""
_DELETE_TASKS = "delete from pgflow.step_tasks where run_id = any(%s::uuid[])"
_DELETE_STATES = "delete from pgflow.step_states where run_id = any(%s::uuid[])"
_DELETE_RUNS = "delete from pgflow.runs where run_id = any(%s::uuid[])"

_SILENT = """
w.last_heartbeat_at < now() - pg_catalog.make_interval(secs => %(silent)s::float8)
and not exists (select from pgflow.step_tasks t where t.last_worker_id = w.worker_id and t.status = 'started')
"""
_WORKERS = f"select w.worker_id::text from pgflow.workers w where {_SILENT} order by w.last_heartbeat_at"  # noqa: S608 - a constant
# One at a time: the tasks that it once had lose its name, and no index finds them.
_DELETE_WORKER = f"""
delete from pgflow.workers where worker_id = (
    select w.worker_id from pgflow.workers w where w.worker_id = %(worker)s::uuid and {_SILENT}
    for update skip locked)
"""  # noqa: S608 - constants

_COUNT = f"select r.status, count(*) from pgflow.runs r where {_DUE} group by r.status"  # noqa: S608 - a constant

_KEY = "pg_catalog.hashtextextended('pgflow_starter forgets'::text, 0::bigint)"
_TRY = f"select pg_try_advisory_lock({_KEY})"
TRY_IN_BATCH = f"select pg_try_advisory_xact_lock({_KEY})"
_UNLOCK = f"select pg_advisory_unlock({_KEY})"

# Rows of other people's that refer to a run; or a message of its, or what refers to it, that somebody has locked.
_REFERRED = psycopg.errors.ForeignKeyViolation
_REFUSED = (_REFERRED, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)


class _Taken(Exception):  # noqa: N818 - no error
    """Another process prunes."""


class _Batch(NamedTuple):
    runs: list[str]
    tasks: int


def forget_run(conn: Connection, run_id: str) -> str | None:
    """Delete the run if it is finished. What its status was, None where there is none. Raises psycopg's errors,
    MissingRightsError."""
    try:
        with conn.transaction():
            row: Any = conn.execute(_LOCK_ONE, (run_id,)).fetchone()
            if row is not None and row[0] in ("completed", "failed"):
                _forget(conn, detect(conn), [run_id])
            return None if row is None else str(row[0])
    except psycopg.errors.InsufficientPrivilege:
        _check_rights(conn)
        raise


def due(conn: Connection, retention: Retention) -> dict[str, int]:
    """How many runs are older than they are kept, by status. Reads all there are; raises psycopg's errors."""
    rows: list[Any] = conn.execute(_COUNT, _kept(retention)).fetchall()
    return dict(rows)


def pruning(database: Database, retention: Retention, limit: int | None = None) -> Pruning:
    """Delete what is older than it is kept, at most `limit` runs, one batch with each step; what it yields is how many
    runs that was.

    At the end, how many were left for the next time, for somebody had them locked; None where another process prunes.
    It has one connection all the time. Blocks on I/O. Raises DatabaseError, at the end where rows of somebody's refer
    to runs and keep them, MissingRightsError, NotInstalledError.
    """
    with database.connection(answers=inf, at_server=STEP_LIMIT) as conn:
        with database.limited(conn, STEP_LIMIT):
            _check_rights(conn)
            sweep = _Sweep(conn, detect(conn), retention)
        with _lock(conn) as taken:
            if taken:
                return None
            steps = sweep.steps(limit)
            while True:
                with database.limited(conn, STEP_LIMIT):
                    try:
                        count = next(steps)
                    except StopIteration:
                        break
                    except _Taken:
                        return None
                yield count
    if sweep.referred is not None:
        raise sweep.referred
    return sweep.left


class _Sweep:
    """One time through all runs, on a connection."""

    def __init__(self, conn: Session, features: Features, retention: Retention) -> None:
        self._conn = conn
        self._features = features
        self._kept = _kept(retention)
        self._silent = None if retention.workers is None else max(retention.workers.total_seconds(), LEAST_SILENCE)
        self._by_batch = conn.backend is None
        self._messages = _MESSAGES.format(queue=queue_column(features))
        self.left = self._locked = 0
        self.referred: DatabaseError | None = None

    def steps(self, limit: int | None) -> Iterator[int]:
        """Each deletes a batch, or finds none; how many runs. Raises psycopg's errors, _Taken."""
        wanted = inf if limit is None else limit
        for batch in self._batches():
            runs = batch[: int(min(wanted, len(batch)))]
            count = self._delete(runs) if runs else 0
            wanted -= count
            yield count
            if wanted <= 0:
                return
        if self._silent is not None:
            silent = {"silent": self._silent}
            workers = [str(row[0]) for row in self._conn.execute(_WORKERS, silent).fetchall()]
            for worker in workers:
                self._conn.execute(_DELETE_WORKER, {**silent, "worker": worker})
                yield 0

    def _batches(self) -> Iterator[list[str]]:
        """Runs that are due; now and then none of them, so that nobody reads for long."""
        row: Any = self._conn.execute(_PAGES).fetchone()
        for page in range(0, row[0] + 1, PAGES):
            places = {"first": f"({page},0)", "end": f"({page + PAGES},0)"}
            found: list[Any] = self._conn.execute(_READ, {**self._kept, **places}).fetchall()
            batch, tasks = list[str](), 0
            for run, its_tasks in found:
                if batch and (len(batch) == BATCH_RUNS or tasks + its_tasks > BATCH_TASKS):
                    yield batch
                    batch, tasks = [], 0
                batch.append(run)
                tasks += its_tasks
            yield batch

    def _delete(self, runs: list[str]) -> int:
        """Those that nobody has locked, all at once, or each by itself where one of them is refused."""
        conn = self._conn
        try:
            with conn.transaction():
                if self._by_batch and conn.execute(TRY_IN_BATCH).fetchone() != (True,):
                    raise _Taken
                free = [str(row[0]) for row in conn.execute(_LOCK, {**self._kept, "runs": runs}).fetchall()]
                if free:
                    _forget(conn, self._features, free)
        except _REFUSED as error:
            if len(runs) > 1:
                return self._delete_each(runs)
            if isinstance(error, _REFERRED):
                self._note(error)
            else:
                self._locked += 1
            self.left += 1
            return 0
        self.left += len(runs) - len(free)
        return len(free)

    def _delete_each(self, runs: list[str]) -> int:
        """As `_delete`, each by itself; not for long where all of them are locked, by their table perhaps."""
        deleted, enough = 0, self._locked + LOCKED_RUNS
        for place, run in enumerate(runs):
            if self._locked == enough:
                self.left += len(runs) - place
                break
            deleted += self._delete([run])
        return deleted

    def _note(self, error: psycopg.Error) -> None:
        said = one_line(f"{error.diag.message_primary} ({error.diag.message_detail})")
        msg = f"finished runs are left, for rows refer to them: delete those first, or have their key do it: {said}"
        self.referred = self.referred or DatabaseError(msg, sqlstate=error.sqlstate, error_type=type(error).__name__)


def _forget(conn: Connection, features: Features, runs: Sequence[str]) -> None:
    """All of these runs, which this transaction has locked."""
    given = (list(runs),)
    rows: list[Any] = conn.execute(_MESSAGES.format(queue=queue_column(features)), given).fetchall()
    with conn.pipeline():
        for queue, messages, owners, waits, archived in rows:
            for table in [f"q_{queue}"] * waits + [f"a_{queue}"] * archived:
                conn.execute(sql.SQL(_DELETE_MESSAGES).format(table=sql.Identifier(table)), (messages, owners))
        for statement in (_DELETE_TASKS, _DELETE_STATES, _DELETE_RUNS):
            conn.execute(statement, given)


@contextmanager
def _lock(conn: Session) -> Iterator[bool]:
    """Around a sweep; whether another session has the lock. Behind a pooler that is found out in each batch."""
    if conn.backend is None:
        yield False
        return
    if conn.execute(_TRY).fetchone() != (True,):
        yield True
        return
    try:
        yield False
    finally:
        with suppress(psycopg.Error):  # it went with the session
            conn.execute(_UNLOCK)


def _kept(retention: Retention) -> dict[str, float | None]:
    times = {"completed": retention.completed, "failed": retention.failed}
    return {status: None if kept is None else kept.total_seconds() for status, kept in times.items()}


def _check_rights(conn: Connection) -> None:
    """Raise MissingRightsError for what who deletes runs must have and has not: row level security hides them else."""
    lacking = rights.missing(conn, PRUNE_USES, whole=True) or rights.missing(
        conn, PRUNE_USES, rights.queues(conn), whole=True
    )
    refusals.refuse_missing(conn, lacking, prune=True)
