"""A flow's graph as a Mermaid flowchart, which GitHub, GitLab and many editors draw."""

from __future__ import annotations

from pgflow_starter.core.definition import FlowDefinition, StepKind


def mermaid(flow: FlowDefinition) -> str:
    """The flowchart, with a newline at its end: map steps with double sides, an arrow for each dependency."""
    lines = ["---", f"title: {flow.slug}", "---", "flowchart TD"]
    # A step may be called `end` or `graph`, and these are words of Mermaid's.
    for step in flow.steps:
        label = f'["{step.slug}"]'
        lines.append(f"    step_{step.slug}{f'[{label}]' if step.kind is StepKind.MAP else label}")
    for step in flow.steps:
        lines += [f"    step_{slug} --> step_{step.slug}" for slug in step.depends_on]
    return "\n".join((*lines, ""))
