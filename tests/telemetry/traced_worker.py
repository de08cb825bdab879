"""A process with a worker of the shop, whose spans go to a receiver, until SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.support.starters import running
from tests.telemetry.shop import shop


def main(conninfo: str, url: str, instance: str) -> None:
    """Work until then."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    provider = TracerProvider(resource=Resource({"service.instance.id": instance}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    with running(conninfo, flows=[shop(start_delay=3600)], tracer_provider=provider):
        while not ended.wait(0.1):
            pass
    provider.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
