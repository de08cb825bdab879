"""`Heard`: what a heartbeat heard."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID


class Heard(NamedTuple):
    """What a heartbeat heard: the workers that pgflow wants to stop, and the runs that have ended or are gone."""

    deprecated: Collection[UUID] = ()
    ended: Collection[UUID] = ()
