"""`Footprint`: what this process holds of the machine."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Self

import psutil


@dataclass(frozen=True, slots=True)
class Footprint:
    """File descriptors, sockets included, and resident memory in MB."""

    fds: int
    rss_mb: float

    @classmethod
    def now(cls) -> Self:
        """What there is now, garbage collected."""
        gc.collect()
        process = psutil.Process()
        return cls(process.num_fds(), process.memory_info().rss / 1e6)
