"""A flow's graph as a Mermaid flowchart, which GitHub, GitLab and many editors draw."""

from __future__ import annotations

from collections.abc import Iterator

from pgflow_starter.core.definition import FlowDefinition, StepDefinition, StepKind


def mermaid(flow: FlowDefinition) -> str:
    """The flowchart, with a newline at its end: map steps with double sides, an arrow for each dependency."""
    return "\n".join((*_lines(flow), ""))


def _lines(flow: FlowDefinition) -> Iterator[str]:
    yield from ("---", f"title: {flow.slug}", "---", "flowchart TD")
    for step in flow.steps:
        yield f"    {_node(step.slug)}{_shape(step)}"
    for step in flow.steps:
        for slug in step.depends_on:
            yield f"    {_node(slug)} --> {_node(step.slug)}"


def _node(slug: str) -> str:
    # A step may be called `end` or `graph`, and these are words of Mermaid's.
    return f"step_{slug}"


def _shape(step: StepDefinition) -> str:
    return f'[["{step.slug}"]]' if step.kind is StepKind.MAP else f'["{step.slug}"]'
