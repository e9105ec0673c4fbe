"""All outside names: environment variables, Redis keys, streams and metrics. Nothing else spells them."""

from __future__ import annotations

ENV_PREFIX = "TRADING_"
ENV_BROKER_KEY = "APCA_API_KEY_ID"
ENV_BROKER_SECRET = "APCA_API_SECRET_KEY"
ENV_BROKER_URL = "APCA_API_BASE_URL"
ENV_TEST_DATA = "TRADING_TEST_DATA"
ENV_TEST_LONG = "TRADING_TEST_LONG"  # set by `make test-long`
ENV_CACHE = "TRADING_CACHE"  # read by kernel_cache, which imports nothing of ours

# Redis keys (SPEC SWAP-02..05); each account and mode puts its own prefix before them (T24).
REDIS_ACTIVE = "model:registry:active"
REDIS_PENDING = "model:registry:pending"
REDIS_REJECTED = "model:registry:rejected"
REDIS_PERFORMANCE = "model:performance:{model}"
REDIS_SIGNALS = "model:signals:{model}"
REDIS_MODE_MARKER = "runner:mode"
REDIS_KILL = "runner:kill"
REDIS_LEASE = "runner:lease"
REDIS_HEARTBEAT = "runner:heartbeat"

# The feature cache (SPEC FEAT-19, FEAT-20); under the same prefixes, possibly on a Redis of its own.
REDIS_FEATURES = "feature:{symbol}:{timeframe}:{version}"  # version: the first 16 digits of the feature hash
REDIS_FEATURE_VERSION = "feature_pipeline_version"
REDIS_LAST_UPDATE = "last_market_data_update"
REDIS_FEATURE_READS = "feature_cache_reads"

SLOTS = ("daily", "intraday", "high_frequency", "medium_frequency", "long_horizon")
SLOT_BUNDLE_SUFFIX = ":bundle"

# Redis streams (SPEC EVNT-01); copies for whoever watches, never the record.
STREAM_BARS = "market.raw.stocks"
STREAM_ALPHA = "signals.alpha"
STREAM_TARGETS = "orders.target"
STREAM_EXECUTION = "metrics.execution"
STREAM_SWAPS = "model.swaps"
STREAM_FEATURES = "features.raw"  # on the Redis of the feature cache

# Prometheus metrics of the runner (port 9101).
METRICS_PORT = 9101
METRIC_ROWS = "trading_rows_total"
METRIC_DECISIONS = "trading_decisions_total"
METRIC_ORDERS = "hean_orders_total"
METRIC_PNL = "hean_pnl"
METRIC_LATENCY = "hean_latency_seconds"
METRIC_EQUITY = "trading_equity"
METRIC_GROSS = "trading_gross_exposure"
METRIC_DENIED = "trading_denied_total"
METRIC_UNKNOWN = "trading_unknown_orders"
METRIC_NAKED = "trading_naked_value"
METRIC_STATE = "trading_runner_state"
METRIC_KILL = "trading_kill_level"
METRIC_MODEL_AGE = "trading_model_age_sessions"
METRIC_SWAPS = "trading_swaps_total"
METRIC_COPIES_DROPPED = "trading_copies_dropped"
METRIC_CACHE_HIT_RATE = "data_pipeline_cache_hit_rate"
METRIC_CACHE_READS = "trading_feature_cache_reads_total"
METRIC_CACHE_WRITES = "trading_feature_cache_writes_total"
METRIC_JOURNAL = "trading_journal_commit_seconds"


def redis_prefix(account: str, mode: str) -> str:
    """Prefix of all keys of one account and mode, empty for the bare names that people type: `` for the default account."""
    return "" if account == "default" else f"{account}:{mode}:"
