"""Options of the code into a flow that is stored."""

from __future__ import annotations

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.errors import ShapeMismatchError
from pgflow_starter.postgres.setup.admin import Connection
from pgflow_starter.postgres.setup.changing import on_stored
from pgflow_starter.postgres.stores.stored_flow import (
    OptionChange,
    StoredFlow,
    another_shape,
    option_changes,
    refuse_conditions,
    shape_differences,
)

_FLOW = """
update pgflow.flows set opt_max_attempts = %s, opt_base_delay = %s, opt_timeout = %s where flow_slug = %s
"""
_STEP = """
update pgflow.steps set opt_max_attempts = %s, opt_base_delay = %s, opt_timeout = %s, opt_start_delay = %s
where flow_slug = %s and step_slug = %s
"""


def sync(conninfo: str, definition: FlowDefinition, *, dry_run: bool = False) -> list[OptionChange]:
    """Give the stored flow and its steps the options of the code; what that changes, or would in a `dry_run`.

    Takes as long as `on_stored`. Raises ShapeMismatchError where more than options differs, and as `on_stored`.
    """

    def synced(connection: Connection, stored: StoredFlow) -> list[OptionChange]:
        refuse_conditions(definition, there=all(step.has_conditions for step in stored.steps.values()))
        wrong = shape_differences(definition, stored)
        if wrong:
            raise ShapeMismatchError(f"only options can be synced, and {another_shape(definition.slug, wrong)}")
        changes = option_changes(definition, stored)
        if not dry_run:
            _apply(connection, definition, {change.step for change in changes})
        return changes

    return on_stored(conninfo, definition.slug, "sync", synced, locked=not dry_run)


def _apply(connection: Connection, definition: FlowDefinition, changed: set[str | None]) -> None:
    if None in changed:
        of_flow = definition.max_attempts, definition.base_delay, definition.timeout
        connection.execute(_FLOW, (*of_flow, definition.slug))
    for step in definition.steps:
        if step.slug in changed:
            of_step = step.max_attempts, step.base_delay, step.timeout, step.start_delay
            connection.execute(_STEP, (*of_step, definition.slug, step.slug))
