"""`Exposition`: metrics as Prometheus reads them, by OpenTelemetry's SDK and exporter. Needs the extra `prometheus`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableGauge, ObservableUpDownCounter
from prometheus_client import CollectorRegistry, make_wsgi_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

MOST_POINTS = 20_000
"""Of one instrument; what is beyond them is added up without attributes. Ten for each of two thousand modules."""


class Exposition:
    """A meter provider, to be given to a starter, and a WSGI application that says what it was told. Thread-safe.

    What else there is in the process, of OpenTelemetry or of the Prometheus client, is not in it.
    """

    def __init__(self) -> None:
        registry = CollectorRegistry()
        limits: Any = dict.fromkeys((Counter, Histogram, ObservableGauge, ObservableUpDownCounter), MOST_POINTS)
        reader = PrometheusMetricReader(registry=registry, scope_info_enabled=False, cardinality_limits=limits)
        self.provider = MeterProvider([reader], shutdown_on_exit=False)
        self._answer: Any = make_wsgi_app(registry)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, whatever its path, with all there is now. Waits for nobody."""
        answer: Iterable[bytes] = self._answer(environ, start_response)
        return answer

    def close(self) -> None:
        """Nothing is told any more."""
        self.provider.shutdown()
