"""`Receiver`: what OTLP exporters send over HTTP, taken in and read."""

from __future__ import annotations

import gzip
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_REQUESTS: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


class Receiver:
    """The requests that came, by path."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: defaultdict[str, list[Any]] = defaultdict(list)

    @property
    def spans(self) -> list[Any]:
        """All spans."""
        scopes = [s for r in self.requests["/v1/traces"] for of in r.resource_spans for s in of.scope_spans]
        return [span for scope in scopes for span in scope.spans]

    @property
    def metrics(self) -> list[Any]:
        """All metrics."""
        scopes = [s for r in self.requests["/v1/metrics"] for of in r.resource_metrics for s in of.scope_metrics]
        return [metric for scope in scopes for metric in scope.metrics]

    @property
    def logs(self) -> list[Any]:
        """All log records."""
        scopes = [s for r in self.requests["/v1/logs"] for of in r.resource_logs for s in of.scope_logs]
        return [record for scope in scopes for record in scope.log_records]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a port of its own, for the duration of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            request = _REQUESTS[self.path]()
            request.ParseFromString(body)
            receiver.requests[self.path].append(request)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="otlp-receiver")
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def facts(attributes: Any) -> dict[str, Any]:
    """The attributes of anything in OTLP."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}
