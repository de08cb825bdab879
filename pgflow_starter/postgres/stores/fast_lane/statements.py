"""The statements of the fast lane as each dialect has them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from pgflow_starter.postgres.stores.fast_lane.completing import COMPLETE, SENT, SENT_ON
from pgflow_starter.postgres.stores.fast_lane.dialects import Dialect
from pgflow_starter.postgres.stores.fast_lane.failing import FAIL
from pgflow_starter.postgres.stores.fast_lane.jobs import COMPLETE_JOBS, START_JOB
from pgflow_starter.postgres.stores.fast_lane.starting import START


class Statements(NamedTuple):
    """Those of one dialect; the first two are still to be given their `columns`, `start_job` its `queue` as well."""

    start: str
    start_job: str
    complete: str
    complete_jobs: str
    fail: str
    complete_carrying: str
    """As `complete`; what is sent carries what is `carried`."""


@cache
def statements_in(dialect: Dialect) -> Statements:
    """Written when they are first asked for: a database has one dialect. Thread-safe."""

    def text(statement: str, sent: Mapping[str, str]) -> str:
        return statement.format(columns="{columns}", queue="{queue}", **dialect._asdict(), **sent)

    texts = (START, START_JOB, COMPLETE, COMPLETE_JOBS, FAIL)
    return Statements._make([*(text(statement, SENT) for statement in texts), text(COMPLETE, SENT_ON)])
