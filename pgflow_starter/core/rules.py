"""What a slug and an option may be, told as problems: each check returns what is wrong, or nothing.

The slug rules are the narrowest of three: pgflow's `is_valid_slug`, pgmq's queue names (47 characters; upper case never
notifies) and the fact that one slug serves as both.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import TypeGuard

MAX_SLUG_LENGTH = 47
RESERVED_SLUGS = frozenset({"run"})
INT4_MAX = 2_147_483_647

OPTION_MINIMA = {"max_attempts": 1, "base_delay": 0, "timeout": 1, "start_delay": 0, "max_concurrency": 1}

_SLUG = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_DECLARED = {"job slug": '@pgflow.job("{}")', "step slug": "@flow.step()"}
_RULE = f"lowercase letters, digits and '_', not starting with a digit, at most {MAX_SLUG_LENGTH} characters"


def slug_problem(what: str, slug: object) -> str | None:
    """What is wrong with a slug, None when nothing is; `what` names it. Raises TypeError for what is no string."""
    if not isinstance(slug, str):
        msg = f"{what} must be a string, got {type(slug).__name__} {slug!r}{_without_parentheses(what, slug)}"
        raise TypeError(msg)
    if slug in RESERVED_SLUGS:
        return f"{what} {slug!r} is reserved by pgflow"
    if len(slug) > MAX_SLUG_LENGTH or not _SLUG.fullmatch(slug):
        return f"{what} {slug!r} is not valid: {_RULE}"
    return None


def _without_parentheses(what: str, slug: object) -> str:
    """How to declare it, where what should be a slug is the function that a bare decorator was put on."""
    if what not in _DECLARED or not callable(slug):
        return ""
    return f" (declare with parentheses: {_DECLARED[what].format(getattr(slug, '__name__', 'name'))})"


def refused_by_newest(slug: str) -> bool:
    """Whether the newest pgflow cores refuse a slug that the older ones take: they keep `__` for names of their own."""
    return slug.startswith("_") or slug.endswith("_") or "__" in slug


def warn_of_slug(what: str, slug: str) -> None:
    """Warn, where the caller of the caller declares it, of a slug that the newest cores refuse."""
    if refused_by_newest(slug):
        msg = f"{what} {slug!r} is refused by pgflow's cores from 0.17 on, which take no '_' at either end and no '__'"
        warnings.warn(msg, UserWarning, stacklevel=3)


def option_problems(owner: str, options: Iterable[tuple[str, object]]) -> Iterator[str]:
    """What is wrong with the options of a flow or step; None values are unset and always right."""
    for name, value in options:
        least = OPTION_MINIMA[name]
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            yield f"{owner}: {name} must be an int, got {value!r}"
        elif not least <= value <= INT4_MAX - 2:
            yield f"{owner}: {name} must be from {least} to {INT4_MAX - 2}, got {value}"


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite int or float that a float can express; True and False are not."""
    # Compared, for math.isfinite raises for an int that no float can express.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def refuse(problems: Iterable[str]) -> None:
    """Raise one ValueError that names every problem; do nothing when there is none."""
    found = [p for p in problems if p]
    if found:
        raise ValueError("; ".join(found))
