"""`Shape`: what of a flow decides how its messages are claimed."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """What is known of a flow: `roots`, that its steps are single ones with no dependency; `one_vt`, that the tasks of
    all have their messages invisible for the same time."""

    roots: bool
    one_vt: bool
