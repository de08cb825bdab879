"""What the fast lane's statements say otherwise where cores differ."""

from __future__ import annotations

from typing import NamedTuple


class Dialect(NamedTuple):
    """Fragments of the statements, under the names by which those call for them."""

    has_condition: str
    """Of a step `p`: it may be left out when its turn has come."""
    fails_at_last: str
    """Of a step `p`: it fails with its last attempt, and is not skipped."""
    keeps_output: str
    """In the change of a step's state `s`, where `d` is what came of the step if it is done."""
    kept_output: str
    """What came of a step `p` of the state `s` that was done before."""
    step_goes_on: str
    """To be joined where a task `t` of a run that goes on is started: that its step goes on."""
    output_of: str
    """To be selected: what came of the step `dep_slug`, of the type `step_type`, of the run of `c`."""


OUTPUTS_IN_TASKS = Dialect(
    has_condition="false",
    fails_at_last="true",
    keeps_output="",
    kept_output="""
        case when p.step_type = 'map' then
            (select coalesce(pg_catalog.jsonb_agg(t.output order by t.task_index), '[]')
             from pgflow.step_tasks t where t.run_id = s.run_id and t.step_slug = s.step_slug
             and t.status = 'completed')
        else (select t.output from pgflow.step_tasks t where t.run_id = s.run_id and t.step_slug = s.step_slug
              and t.status = 'completed' limit 1) end
    """,
    step_goes_on="",
    output_of="""
        case c.step_type when 'map' then
            (select coalesce(pg_catalog.jsonb_agg(t.output order by t.task_index), '[]')
             from pgflow.step_tasks t where t.run_id = c.run_id and t.step_slug = c.dep_slug
             and t.status = 'completed')
        else (select t.output from pgflow.step_tasks t where t.run_id = c.run_id and t.step_slug = c.dep_slug
              and t.status = 'completed' limit 1) end as output
    """,
)
"""0.8.1."""

OUTPUTS_IN_STEPS = Dialect(
    has_condition="(p.required_input_pattern is not null or p.forbidden_input_pattern is not null)",
    fails_at_last="p.when_exhausted = 'fail'",
    keeps_output="output = case when d.run_id is null then s.output else d.output end, ",
    kept_output="s.output",
    step_goes_on="""
    join lateral (select s.status from pgflow.step_states s
                  where s.run_id = t.run_id and s.step_slug = t.step_slug offset 0) s on s.status = 'started'""",
    output_of="""
        x.output from pgflow.step_states x
        where x.run_id = c.run_id and x.step_slug = c.dep_slug and x.status = 'completed'
    """,
)
"""0.14 and later, where steps have conditions as well."""

DIALECTS = (OUTPUTS_IN_TASKS, OUTPUTS_IN_STEPS)
