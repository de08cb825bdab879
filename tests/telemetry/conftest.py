"""Providers in memory for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.telemetry.heard import Heard


@pytest.fixture
def heard() -> Iterator[Heard]:
    """OpenTelemetry's providers, and what they were told."""
    heard = Heard()
    yield heard
    heard.close()
