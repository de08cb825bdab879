"""`Compiled`: what compiling a flow found in the database."""

from __future__ import annotations

from typing import NamedTuple

from pgflow_starter.core.definition import FlowDefinition


class Compiled(NamedTuple):
    """What compiling found: the definition in force, with the stored options, and where the stored flow differs from
    the code; whether `options_differ`, which `flow sync` mends.

    `queues`: those of its steps, where each has one; none where the flow has one of its own name.
    """

    created: bool
    definition: FlowDefinition
    differences: tuple[str, ...] = ()
    options_differ: bool = False
    queues: tuple[str, ...] = ()
