"""Flows that chance makes up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

VALUES: tuple[Any, ...] = (None, 1, "x", {"k": [1]}, [])
"""What steps put out, besides arrays."""

INPUTS: tuple[Any, ...] = ({"a": 1}, None, [])
"""Of runs, besides arrays."""

MODES = ("skip", "skip-cascade", "fail")


@dataclass(frozen=True)
class Step:
    """A step of a flow: `is_map`, the steps that it depends on, and what else `add_step` is given."""

    slug: str
    is_map: bool
    needs: Sequence[str]
    attempts: int
    delay: int
    timeout: int | None
    conditions: dict[str, str | None] = field(default_factory=dict)
    """As arguments of `add_step`; empty where the core knows none."""


def flow(random: Random, *, conditions: bool) -> list[Step]:
    """One to eight steps; a job in every third. With `conditions` in every third of those that may have them."""
    steps = list[Step]()
    conditions = conditions and random.randrange(3) == 0
    for n in range(random.choice((1, 1, 1, 2, 3, 4, 5, 6, 8))):
        before = [step.slug for step in steps]
        is_map = random.randrange(3) == 0
        needs = random.sample(before, random.randint(0, min(len(before), 1 if is_map else 3)))
        step = Step(
            f"{random.choice('zmwa')}{n}",
            is_map,
            needs,
            random.randint(1, 3),
            random.choice((0, 0, 0, 600)),
            random.choice((None, None, None, 300)),
            _conditions(random, needs) if conditions else {},
        )
        steps.append(step)
    return steps


def _conditions(random: Random, needs: Sequence[str]) -> dict[str, str | None]:
    """None, one or two, that are met or not by what a run is given and by what steps put out."""
    patterns = [{}, {"a": 1}, {"a": 2}, *({need: value} for need in needs for value in VALUES)]
    return {
        "required_input_pattern": _rarely(random, patterns),
        "forbidden_input_pattern": _rarely(random, patterns),
        "when_unmet": random.choice(MODES),
        "when_exhausted": random.choice((*MODES, "fail")),
    }


def _rarely(random: Random, patterns: Sequence[Any]) -> str | None:
    return json.dumps(random.choice(patterns)) if random.randrange(4) == 0 else None
