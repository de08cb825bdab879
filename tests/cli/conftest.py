"""The starter of `rig` and its web."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.rig import Starter
from tests.support.stub_web import StubWeb, stub_web


@pytest.fixture
def starter() -> Starter:
    return Starter()


@pytest.fixture
def web(starter: Starter) -> Iterator[StubWeb]:
    with stub_web(starter) as stub:
        yield stub
