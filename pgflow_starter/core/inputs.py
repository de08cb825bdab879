"""`Inputs`: what flows are started with, as JSON, checked against what the handlers of their first steps take."""

from __future__ import annotations

from typing import Any

from pgflow_starter.core.definition import FlowDefinition, StepDefinition, StepKind
from pgflow_starter.core.encoding import json_text, plain
from pgflow_starter.core.payloads.misfits import type_name
from pgflow_starter.core.payloads.payload import Payload
from pgflow_starter.errors import PayloadError


class Inputs:
    """Of runs of one flow; where that is known by its slug alone nothing is checked. Immutable, thread-safe."""

    def __init__(self, definition: FlowDefinition | None) -> None:
        self._first = [] if definition is None else _first_typed(definition)

    def text(self, value: Any, what: str = "input") -> str:
        """The value, called `what`, as JSON text. Raises ValueError for what is no JSON, PayloadError."""
        data = plain(value, what, round_trip=True)
        for who, kind, payload in self._first:
            if kind == StepKind.SINGLE:
                payload.decode(data, what, who)
            elif not isinstance(data, list):
                raise PayloadError(f"{who}{what} must be an array of {payload.name}, got {type_name(data)}")
            else:
                for number, element in enumerate(data):
                    payload.decode(element, f"{what}[{number}]", who)
        return json_text(data)


def _first_typed(definition: FlowDefinition) -> list[tuple[str, StepKind, Payload]]:
    """The steps that get the flow's input and have a type for it, each with how it is called."""
    return [
        (_called(definition, step), step.kind, step.payload)
        for step in definition.steps
        if not step.depends_on and step.payload is not None
    ]


def _called(definition: FlowDefinition, step: StepDefinition) -> str:
    own = "" if step.slug == definition.slug else f", step {step.slug!r}"
    return f"{definition.kind or 'flow'} {definition.slug!r}{own}: "
