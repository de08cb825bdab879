"""The index by which the newest of many runs are found: pgflow has none on when they began."""

from __future__ import annotations

from pgflow_starter.postgres.setup.admin import Connection

_INDEX = "create index if not exists runs_newest_first on pgflow.runs (started_at desc, run_id desc)"


def index_runs(connection: Connection) -> None:
    """Of our own installations, while there is no run; what others have laid down is theirs, and the docs tell how."""
    connection.execute(_INDEX)
