"""`flow graph`: a flow's steps, kinds and dependencies, drawn or as Mermaid, which GitHub and many editors draw."""

from __future__ import annotations

import contextlib
import os
import sys

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.flow_drawing import Row, drawing
from pgflow_starter.cli.options import option, stdout_console
from pgflow_starter.core.conditions import WHEN_EXHAUSTED
from pgflow_starter.core.definition import FlowDefinition, StepDefinition, StepKind
from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.state import ModuleType
from pgflow_starter.core.text import text_of
from pgflow_starter.errors import DefinitionError


@click.command(short_help="Draw the steps of a flow and what they wait for.")
@click.argument("module", metavar="MODULE")
@option(
    "--format",
    "form",
    type=click.Choice(["terminal", "mermaid"]),
    help="How to draw it; without it for the terminal where there is one, else as Mermaid.",
)
def graph(module: str, form: str | None) -> None:
    """Draw the graph of MODULE, a dotted path to a flow or job: steps, kinds, and what each waits for.

    Needs no database. The current folder is on the import path; what MODULE prints goes to standard error. Exit code 0,
    or 1 when MODULE cannot be loaded or is not a flow.

    \b
    Example:
      pgflow-starter flow graph shop.flows:order
      pgflow-starter flow graph shop.flows:order --format mermaid > order.mmd
    """
    flow = loaded(module)
    console = stdout_console()
    if (form or ("terminal" if console.is_terminal else "mermaid")) == "mermaid":
        click.echo(_mermaid(flow), nl=False)
        return
    click.echo(_headline(flow))
    console.print(_table(flow, console))


def loaded(path: str) -> FlowDefinition:
    """The definition that a dotted path names, the current folder on the import path. Raises DefinitionError."""
    sys.path.insert(0, os.getcwd())
    try:
        # The output may go to a file: what the module prints may not.
        with contextlib.redirect_stdout(sys.stderr):
            return definition_of(path)
    except (KeyboardInterrupt, DefinitionError):
        raise
    except BaseException as error:  # SystemExit, or the module's own
        raise DefinitionError(f"importing {path!r} raised {type(error).__name__}: {text_of(error)}") from None


def _mermaid(flow: FlowDefinition) -> str:
    """As a flowchart, with a newline at its end: map steps with double sides, an arrow for each dependency."""
    lines = ["---", f"title: {flow.slug}", "---", "flowchart TD"]
    # A step may be called `end` or `graph`, and these are words of Mermaid's.
    for step in flow.steps:
        told = "".join(f"<br/>{_entities(words)}" for words in _conditions(step))
        label = f'["{step.slug}{told}"]'
        lines.append(f"    step_{step.slug}{f'[{label}]' if step.kind is StepKind.MAP else label}")
    for step in flow.steps:
        lines += [f"    step_{slug} --> step_{step.slug}" for slug in step.depends_on]
    return "\n".join((*lines, ""))


def _entities(text: str) -> str:
    """The text as a label of Mermaid's can hold it."""
    return "".join(f"#{ord(sign)};" if sign in '"#<>&;`\\' else sign for sign in text)


def _headline(flow: FlowDefinition) -> str:
    steps = "1 step" if len(flow.steps) == 1 else f"{len(flow.steps)} steps"
    times = f"attempts {flow.max_attempts}, base delay {flow.base_delay} s, timeout {flow.timeout} s"
    return f"{flow.kind or ModuleType.FLOW} {flow.slug}: {steps}, {times}"


def _table(flow: FlowDefinition, console: Console) -> Table:
    rows = drawing(flow)
    if not console.encoding.lower().startswith("utf"):
        rows = tuple(row.in_ascii() for row in rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("step", overflow="fold")
    table.add_column("kind")
    table.add_column("waits for", overflow="fold")
    if any(map(_options, flow.steps)):
        table.add_column("its own options", overflow="fold")
    if any(map(_conditions, flow.steps)):
        table.add_column("conditions", overflow="fold")
    for row in rows:
        cells = _cells(row)
        table.add_row(Text(row.text, style="cyan"), *(cells[c.header] for c in table.columns[1:] if cells))
    return table


def _cells(row: Row) -> dict[object, str | Text]:
    """What the row has in each column that there may be, by its heading."""
    step = row.step
    if step is None:
        return {}
    waits_for = ", ".join(step.depends_on)
    kind = "map over the input" if step.kind is StepKind.MAP and not waits_for else str(step.kind)
    return {
        "step": step.slug,
        "kind": kind,
        "waits for": waits_for,
        "its own options": _options(step),
        "conditions": Text("\n".join(_conditions(step))),
    }


def _options(step: StepDefinition) -> str:
    named = {
        "attempts {}": step.max_attempts,
        "base delay {} s": step.base_delay,
        "timeout {} s": step.timeout,
        "start delay {} s": step.start_delay,
    }
    return ", ".join(words.format(value) for words, value in named.items() if value is not None)


def _conditions(step: StepDefinition) -> list[str]:
    """A line for each part of them: what the input has to be, what becomes of the step else, and when it failed."""
    patterns = [f"{words} {pattern}" for words, pattern in (("if", step.if_), ("if not", step.if_not)) if pattern]
    unmet = [f"else {step.when_unmet}"] if patterns else []
    exhausted = [f"exhausted: {step.when_exhausted}"] if step.when_exhausted != WHEN_EXHAUSTED[0] else []
    return [*patterns, *unmet, *exhausted]
