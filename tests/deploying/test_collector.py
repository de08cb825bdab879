"""The configuration of an OpenTelemetry Collector."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.support.deployed import FOLDER


@pytest.fixture(scope="module")
def collector() -> dict[str, Any]:
    text = (FOLDER / "otel-collector.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def test_every_signal_has_a_pipeline_of_parts_that_there_are(collector: dict[str, Any]) -> None:
    pipelines = collector["service"]["pipelines"]
    assert set(pipelines) == {"traces", "metrics", "logs"}
    for pipeline in pipelines.values():
        assert set(pipeline) == {"receivers", "processors", "exporters"}
        for kind, names in pipeline.items():
            assert set(names) <= set(collector[kind])


def test_the_limit_of_memory_comes_first(collector: dict[str, Any]) -> None:
    assert all(p["processors"][0] == "memory_limiter" for p in collector["service"]["pipelines"].values())


def test_it_listens_on_this_machine_at_the_ports_of_otlp(collector: dict[str, Any]) -> None:
    protocols = collector["receivers"]["otlp"]["protocols"]
    assert {name: p["endpoint"] for name, p in protocols.items()} == {
        "http": "127.0.0.1:4318",
        "grpc": "127.0.0.1:4317",
    }
