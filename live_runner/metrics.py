"""Prometheus metrics of the runner; names are those of contracts.names. Port 0 keeps them in the process."""

from __future__ import annotations

from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from trading_platform.contracts import names
from trading_platform.contracts.errors import InputError

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
COMMIT_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)


class Metrics:
    """All metrics of one runner, in a registry of its own; labels are bounded (slot, stage, side, code)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._server: WSGIServer | None = None
        registry = self.registry
        self.rows = Counter(names.METRIC_ROWS, "Rows closed", registry=registry)
        self.decisions = Counter(names.METRIC_DECISIONS, "Decisions journaled", registry=registry)
        self.orders = Counter(names.METRIC_ORDERS, "Orders by outcome", ["outcome"], registry=registry)
        self.denied = Counter(names.METRIC_DENIED, "Orders denied by our risk", ["code"], registry=registry)
        self.swaps = Counter(names.METRIC_SWAPS, "Model swaps by outcome", ["outcome"], registry=registry)
        self.equity = Gauge(names.METRIC_EQUITY, "Account equity, quote currency", registry=registry)
        self.pnl = Gauge(names.METRIC_PNL, "Equity less the session's start, quote currency", registry=registry)
        self.gross = Gauge(names.METRIC_GROSS, "Gross exposure as a fraction of equity", registry=registry)
        self.unknown = Gauge(names.METRIC_UNKNOWN, "Orders whose fate nobody knows", registry=registry)
        self.naked = Gauge(names.METRIC_NAKED, "Value of positions without a stop at the venue", registry=registry)
        self.state = Gauge(names.METRIC_STATE, "Runner state, 1 for the current one", ["state"], registry=registry)
        self.kill = Gauge(names.METRIC_KILL, "Latched kill level, 0 none to 3 flatten", registry=registry)
        self.model_age = Gauge(names.METRIC_MODEL_AGE, "Sessions since the bundle's last training row", registry=registry)
        self.copies_dropped = Gauge(names.METRIC_COPIES_DROPPED, "Copies that never reached Redis since the start", registry=registry)
        self.cache_hit_rate = Gauge(names.METRIC_CACHE_HIT_RATE, "Feature cache reads answered, of all since the start", registry=registry)
        self.cache_reads = Counter(names.METRIC_CACHE_READS, "Feature cache reads by outcome", ["outcome"], registry=registry)
        self.cache_writes = Counter(names.METRIC_CACHE_WRITES, "Feature vectors by what became of them", ["outcome"], registry=registry)
        self.latency = Histogram(names.METRIC_LATENCY, "Seconds per stage", ["stage"], buckets=LATENCY_BUCKETS, registry=registry)
        self.commit = Histogram(names.METRIC_JOURNAL, "Seconds per journal transaction", buckets=COMMIT_BUCKETS, registry=registry)

    def serve(self, port: int, address: str = "127.0.0.1") -> None:
        """Serve /metrics. InputError where the port is taken."""
        if port == 0:
            return
        try:
            self._server, _ = start_http_server(port, address, registry=self.registry)
        except OSError as error:
            raise InputError(
                f"port {port} is taken: {error.strerror}", "metrics", "stop what uses it, or give another --metrics-port (0 = off)"
            ) from error

    def close(self) -> None:
        """Give the port back."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
