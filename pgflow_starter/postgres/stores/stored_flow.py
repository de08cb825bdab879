"""`StoredFlow`: a flow as the database has it, and how it differs from the code's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pgflow_starter.core.compiled import Compiled
from pgflow_starter.core.conditions import CONDITIONS, PATTERNS, Pattern, stored_pattern
from pgflow_starter.core.definition import FlowDefinition, StepDefinition, conditions_of
from pgflow_starter.errors import NotInstalledError, ShapeMismatchError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.queues import gone
from pgflow_starter.postgres.stores.worker_rows import OURS, STOPPED

NEIGHBOUR_HEARD = 300
"""Seconds since its last heartbeat for which another runtime's worker, which sends none while it works, has a queue."""

# Stored flows with their steps, which of their queues are missing, and by which edge functions another runtime's
# workers have them, but for what our own earlier versions wrote: the queue's name. No row for an unknown slug. Flow and
# steps as whole rows, for older cores have no conditions, and no queues for steps.
_STORED = f"""
select f.flow_slug, f.opt_max_attempts, f.opt_base_delay, f.opt_timeout,
       array(select q.name from pg_catalog.unnest(f.queues) as q (name)
             where not exists (select from pgmq.meta where queue_name::text = q.name)),
       array(select distinct w.function_name from pgflow.workers w
             where w.queue_name = any(f.queues) and w.last_heartbeat_at > now() - interval '{NEIGHBOUR_HEARD} s'
               and w.deprecated_at is null and not {STOPPED} and not {OURS}
               and w.function_name <> w.queue_name
             order by 1),
       coalesce((select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) || pg_catalog.jsonb_build_object(
                                                 'deps', array(select d.dep_slug from pgflow.deps d
                                                               where d.flow_slug = s.flow_slug
                                                                 and d.step_slug = s.step_slug))
                                             order by s.step_index)
                 from pgflow.steps s where s.flow_slug = f.flow_slug), '[]'),
       f.by_step
from (select f.*, given.by_step,
             case when given.by_step then array(select pg_catalog.to_jsonb(s) ->> 'queue_name'::text
                                                from pgflow.steps s where s.flow_slug = f.flow_slug
                                                order by s.step_index)
                  else array[f.flow_slug] end as queues
      from pgflow.flows f,
           lateral (select coalesce(pg_catalog.to_jsonb(f) ->> 'queue_mode'::text = 'step', false) as by_step) given
      where f.flow_slug = any(%s)) f
"""  # noqa: S608 - constants
_OPTIONS = ("max_attempts", "base_delay", "timeout")
_STEP_OPTIONS = (*_OPTIONS, "start_delay")
# The columns of newer cores for what a step declares as `CONDITIONS`.
_COLUMNS = ("required_input_pattern", "forbidden_input_pattern", "when_unmet", "when_exhausted")


class OptionChange(NamedTuple):
    """An option of the flow (`step` None) or a step: stored as `before`, declared as `after`. None: the flow's."""

    step: str | None
    option: str
    before: int | None
    after: int | None


class StoredFlow:
    def __init__(self, row: Sequence[Any]) -> None:
        self.options = dict(zip(_OPTIONS, row[:3], strict=True))
        self.missing_queues: list[str] = row[3]
        self.queues = tuple[str, ...](step["queue_name"] for step in row[5]) if row[6] else ()
        """Of its steps, where each has one."""
        self.made = bool(self.queues) or not self.missing_queues
        """Whether there is nothing to be made that we make."""
        self.neighbours: list[str] = row[4]
        self.steps = {step["step_slug"]: _StoredStep(step) for step in row[5]}


class _StoredStep:
    def __init__(self, row: Mapping[str, Any]) -> None:
        self.kind: str = row["step_type"]
        self.deps = frozenset[str](row["deps"])
        self.options = {name: row[f"opt_{name}"] for name in _STEP_OPTIONS}
        self.has_conditions = _COLUMNS[0] in row
        stored = {name: row.get(column, CONDITIONS[name]) for name, column in zip(CONDITIONS, _COLUMNS, strict=True)}
        for name in PATTERNS:
            if stored[name] is not None:
                stored[name] = stored_pattern(stored[name])
        self.conditions = stored


def stored_flows(conn: Connection, slugs: Sequence[str]) -> dict[str, StoredFlow]:
    rows: list[Any] = conn.execute(_STORED, (list(slugs),)).fetchall()
    return {slug: StoredFlow(row) for slug, *row in rows}


def verify(definition: FlowDefinition, stored: StoredFlow) -> Compiled:
    if stored.queues and stored.missing_queues:
        raise ShapeMismatchError(gone(definition.slug, stored.missing_queues))
    refuse_conditions(definition, there=all(step.has_conditions for step in stored.steps.values()))
    wrong = shape_differences(definition, stored)
    if wrong:
        raise ShapeMismatchError(another_shape(definition.slug, wrong))
    differences: list[str] = []
    here, there = [s.slug for s in definition.steps], list(stored.steps)
    if here != there:
        differences = [
            f"its steps are in the order {', '.join(there)} in the database and {', '.join(here)} in the code"
        ]
    if differences and stored.neighbours:
        msg = (
            f"flow {definition.slug!r}: {differences[0]}, and a worker of another runtime has its queue"
            f" ({', '.join(stored.neighbours)}), which compares the order. Declare the steps in the database's order"
        )
        raise ShapeMismatchError(msg)
    changes = option_changes(definition, stored)
    differences += [
        f"{c.option}{f' of step {c.step!r}' if c.step else ''} is {c.before} in the database and {c.after} in the code"
        for c in changes
    ]
    steps = tuple(replace(step, **stored.steps[step.slug].options) for step in definition.steps)
    in_force = replace(definition, steps=steps, **stored.options)
    return Compiled(False, in_force, tuple(differences), bool(changes), stored.queues)


def option_changes(definition: FlowDefinition, stored: StoredFlow) -> list[OptionChange]:
    """What it takes for the stored flow, of the same shape, to have the options of the code."""
    pairs: list[tuple[str | None, Mapping[str, int | None], FlowDefinition | StepDefinition]]
    pairs = [(None, stored.options, definition)]
    pairs += [(step.slug, stored.steps[step.slug].options, step) for step in definition.steps]
    return [
        OptionChange(slug, name, value, getattr(declared, name))
        for slug, options, declared in pairs
        for name, value in options.items()
        if value != getattr(declared, name)
    ]


def another_shape(slug: str, differences: Sequence[str]) -> str:
    """In a sentence, with the ways forward."""
    return (
        f"flow {slug!r} in the database has another shape than the code: {'; '.join(differences)}. Give the changed"
        f" flow a new slug, or, when its runs are done, delete the stored one: `pgflow-starter flow delete {slug}`"
    )


def shape_differences(definition: FlowDefinition, stored: StoredFlow) -> list[str]:
    code = {s.slug: s for s in definition.steps}
    found = [f"step {slug!r} is in the code only" for slug in code if slug not in stored.steps]
    found += [f"step {slug!r} is in the database only" for slug in stored.steps if slug not in code]
    for slug, there in stored.steps.items():
        step = code.get(slug)
        if step is None:
            continue
        if there.kind != step.kind:
            found.append(f"step {slug!r} is a {there.kind} step in the database and a {step.kind} step in the code")
        if there.deps != frozenset(step.depends_on):
            found.append(
                f"step {slug!r} depends on {sorted(there.deps)} in the database and on {sorted(step.depends_on)} in the"
                " code"
            )
        found += [
            f"{name} of step {slug!r} is {_told(value)} in the database and {_told(getattr(step, name))} in the code"
            for name, value in there.conditions.items()
            if value != getattr(step, name)
        ]
    return found


def _told(condition: str | None) -> str:
    return "not given" if condition is None else condition if isinstance(condition, Pattern) else repr(condition)


def refuse_conditions(definition: FlowDefinition, *, there: bool) -> None:
    """Say so of a flow with conditions where the core has none: it would run every step."""
    conditional = [repr(step.slug) for step in definition.steps if conditions_of(step)]
    if conditional and not there:
        msg = (
            f"flow {definition.slug!r} has conditions (on {', '.join(conditional)}), and the pgflow core in the"
            " database has none: they came with core 0.14. Upgrade it: run `pgflow-starter db upgrade`"
        )
        raise NotInstalledError(msg)
