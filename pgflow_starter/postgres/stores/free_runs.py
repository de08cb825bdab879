"""Which runs of some outcomes are free to be changed: this transaction locks them, and waits for nobody's lock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pgflow_starter.core.task import Outcome, OutcomeKind

# What is free is decided once, for all statements of the transaction: a run that somebody releases in between would
# have its tasks failed, but not for good.
FREE = """
with free as materialized (
    select run_id from pgflow.runs where run_id = any(%(all_runs)s::uuid[]) order by run_id for update skip locked
)
select array(select r.run_id from pgflow.runs r
             where r.run_id = any(%(all_runs)s::uuid[]) and r.run_id not in (select run_id from free)),
       set_config('pgflow_starter.free', coalesce((select string_agg(run_id::text, ',') from free), ''), true)
"""
"""The runs that somebody else has locked, and those that are free, after which `IS_FREE` goes."""

# In a subquery: else the setting would be taken apart for each outcome.
IS_FREE = """
o.run_id = any((select string_to_array(nullif(current_setting('pgflow_starter.free'), ''), ',')::uuid[])::uuid[])
"""
"""Of an outcome `o`: that its run was free. For the statements that follow in the transaction."""


def columns(outcomes: Sequence[Outcome], prefix: str = "") -> dict[str, str]:
    """The outcomes as parameters of a statement: arrays as PostgreSQL writes them.

    psycopg would look at each element for its type, and prepare the statement anew for integers of another size.
    """
    tasks = [o.task for o in outcomes]
    texts = [o.output_json if o.kind is OutcomeKind.COMPLETED else o.error for o in outcomes]
    return {
        f"{prefix}runs": runs(outcomes),
        f"{prefix}steps": text_array([t.step_slug for t in tasks]),
        f"{prefix}indexes": f"{{{','.join([str(t.task_index) for t in tasks])}}}",
        f"{prefix}texts": text_array(texts),
        f"{prefix}attempts": f"{{{','.join([str(t.attempt) for t in tasks])}}}",
    }


def runs(outcomes: Sequence[Outcome]) -> str:
    """The `runs` among their columns."""
    return f"{{{','.join([o.task.run_id.hex for o in outcomes])}}}"


def text_array(texts: Iterable[str]) -> str:
    """As PostgreSQL writes it."""
    return f"{{{','.join([_quoted(text) for text in texts])}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
