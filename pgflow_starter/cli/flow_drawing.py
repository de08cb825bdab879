"""A flow's graph in a terminal: a row for each step, lines from what it needs down to what needs it.

● lines
│ ● discount
◆ │ price
╰─┤
  ● invoice

A row between two steps draws one edge alone, so that a line which crosses others is told from one that joins them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pgflow_starter.core.definition import FlowDefinition, StepDefinition, StepKind

_SIGNS = {StepKind.SINGLE: "●", StepKind.MAP: "◆"}

_ASCII = str.maketrans({"●": "*", "◆": "#", "│": "|", "─": "-", **dict.fromkeys("┼├┤╭╮╰╯", "+")})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the drawing; `step` is the one that it shows, None for a line of edges."""

    text: str
    step: StepDefinition | None = None

    def in_ascii(self) -> Row:
        """The same for a terminal that has nothing better."""
        return Row(self.text.translate(_ASCII), self.step)


def drawing(flow: FlowDefinition) -> tuple[Row, ...]:
    """The graph from top to bottom, in the flow's own order."""
    return tuple(_Lanes(flow).rows())


@dataclass
class _Lanes:
    """The columns while rows go by: what step each line leads to, None where the column is free."""

    flow: FlowDefinition
    targets: list[str | None] = field(default_factory=list)

    def rows(self) -> Iterator[Row]:
        for step in self.flow.steps:
            column = self.targets.index(step.slug) if step.slug in self.targets else self._free_column()
            self.targets[column] = step.slug
            yield Row(self._picture({column: _SIGNS[step.kind]}), step)
            self.targets[column] = None
            dependents = [s.slug for s in self.flow.steps if step.slug in s.depends_on]
            yield from self._edges(column, dependents)

    def _edges(self, column: int, dependents: list[str]) -> Iterator[Row]:
        """The rows below a step, until each of its dependents has a line that leads to it."""
        fresh = [slug for slug in dependents if slug not in self.targets]
        joined = [self.targets.index(slug) for slug in dependents if slug in self.targets]
        if fresh:
            self.targets[column] = fresh[0]  # straight down
        for slug in fresh[1:]:
            other = self._free_column()
            yield Row(self._edge(column, other, "╮" if other > column else "╭", goes_on=True))
            self.targets[other] = slug
        for i, other in enumerate(joined, 1):
            goes_on = bool(fresh) or i < len(joined)
            yield Row(self._edge(column, other, "┤" if other > column else "├", goes_on=goes_on))

    def _edge(self, column: int, other: int, end: str, *, goes_on: bool) -> str:
        right = other > column
        begin = ("├" if right else "┤") if goes_on else ("╰" if right else "╯")
        first, last = sorted((column, other))
        between = {c: "┼" if self.targets[c] else "─" for c in range(first + 1, last)}
        return self._picture({**between, column: begin, other: end}, range(first, last))

    def _picture(self, signs: dict[int, str], bridged: range = range(0)) -> str:
        cells = [
            signs.get(column, "│" if target else " ") + ("─" if column in bridged else " ")
            for column, target in enumerate(self.targets)
        ]
        return "".join(cells).rstrip()

    def _free_column(self) -> int:
        if None not in self.targets:
            self.targets.append(None)
        return self.targets.index(None)
