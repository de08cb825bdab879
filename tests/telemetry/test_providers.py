"""Who is told: the providers given, else the global ones, and nobody where there is none."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, TracerProvider

import pgflow_starter as pgflow
from pgflow_starter.telemetry.providers import LOOK_INTERVAL, Audience, Providers
from pgflow_starter.testing import ManualClock
from tests.support.starters import echo_job, running
from tests.telemetry.heard import Heard

WAIT = 20.0


def test_a_global_provider_is_noticed_when_it_is_set_later() -> None:
    clock = ManualClock()
    now: list[TracerProvider] = [ProxyTracerProvider()]
    audience = Audience(clock, None, lambda: now[0])
    assert not audience
    now[0] = Heard().tracer_provider
    assert not audience
    clock.advance(LOOK_INTERVAL)
    assert audience
    now[0] = ProxyTracerProvider()
    assert audience


@pytest.mark.parametrize("provider", [NoOpTracerProvider(), ProxyTracerProvider()])
def test_one_that_does_nothing_is_told_nothing(provider: TracerProvider) -> None:
    assert not Audience(ManualClock(), provider, trace.get_tracer_provider)


def test_without_an_sdk_nobody_listens() -> None:
    providers = Providers(ManualClock())
    assert [bool(a) for a in (providers.traces, providers.metrics, providers.logs)] == [False] * 3


class Broken:
    """Raises whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("the exporter is on fire")


class BrokenLater:
    """Gives a tracer, meter or logger that raises."""

    def get_tracer(self, *_: Any, **__: Any) -> Any:
        return Broken()

    get_meter = get_logger = get_tracer


class BrokenAtOnce:
    """Raises where it is asked for a tracer, meter or logger."""

    def get_tracer(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("the exporter is on fire")

    get_meter = get_logger = get_tracer


@pytest.mark.parametrize("provider", [BrokenLater(), BrokenAtOnce()])
def test_providers_that_raise_cost_one_line_and_nothing_else(
    database: str, provider: Any, caplog: pytest.LogCaptureFixture
) -> None:
    job = pgflow.job("bad", max_attempts=1)(lambda message, ctx: 1 / message)
    with running(
        database,
        flows=[object()],
        jobs=[echo_job(), job],
        signal_strategy="notify",
        tracer_provider=provider,
        meter_provider=provider,
        logger_provider=provider,
    ) as starter:
        starter.await_ready(WAIT)
        assert starter.client.enqueue("echo", 1).wait(WAIT).result == 1
        assert starter.client.enqueue(job, 0).wait(WAIT).status == "failed"
    lines = [r for r in caplog.records if r.name == "pgflow_starter.telemetry"]
    assert [r.levelno for r in lines] == [logging.ERROR]
