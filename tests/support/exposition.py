"""What an exporter printed for Prometheus, taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults

from prometheus_client.parser import text_string_to_metric_families

from pgflow_starter.telemetry.prometheus import Exposition


class Sample(NamedTuple):
    """One line of it."""

    name: str
    labels: dict[str, str]
    value: float


def samples(text: str) -> list[Sample]:
    """Its lines, those about the exporter itself apart."""
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return [Sample(s.name, dict(s.labels), s.value) for s in found if s.name != "target_info"]


def printed(exposition: Exposition) -> list[Sample]:
    """What it prints now."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    answer: Iterable[bytes] = exposition(environ, lambda status, headers, exc_info=None: bytes)
    return samples(b"".join(answer).decode())


@contextmanager
def exposing() -> Iterator[Exposition]:
    """One, closed at the end."""
    exposition = Exposition()
    try:
        yield exposition
    finally:
        exposition.close()
