"""What the feature cache costs a runner: seconds per row without it, with it, and with a Redis that takes bytes and never answers.

A lock-step session of 500 names against the simulator; the same market each time, interleaved, medians over the rows of all runs.

Run: python benchmarks/feature_cache.py
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "live_runner"))

import market

from live_runner.runner import Runner
from trading_platform.registry.feature_cache import FeatureCache, FeatureCacheWriter, FeatureRow, FeatureVector, feature_client
from trading_platform.registry.redis_server import RedisServer

NAMES, MINUTES, RUNS, FEATURES = 500, 40, 3, 100
market.SYMBOLS = tuple(f"S{number:03d}" for number in range(NAMES))


class Timed(Runner):
    """Keeps the milliseconds of each row, from its closing to its last order's answer."""

    def _build(self) -> None:
        super()._build()
        self.rows: list[float] = []
        child = self.metrics.latency.labels("row")
        observe: Callable[[float], None] = child.observe
        child.observe = lambda seconds: (self.rows.append(seconds * 1e3), observe(seconds))[1]


@contextlib.contextmanager
def mute_server() -> Iterator[str]:
    """Takes connections and bytes, and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        taken: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def rows_of(folder: Path, cache_url: str) -> list[float]:
    """Milliseconds per row of one session."""
    world = market.make_world(folder, "1Min", MINUTES)
    exchange = market.Exchange(world)
    runner = Timed(market.settings_of(world, exchange.url, feature_cache_url=cache_url))
    asyncio.run(asyncio.wait_for(runner.run(), 300))
    exchange.stop()
    return runner.rows[1:]  # the first row loads what nobody has loaded


def cache_alone(url: str) -> None:
    """Writing a row, and reading a name."""
    ids = tuple(f"us:{name}" for name in market.SYMBOLS)
    values = np.random.default_rng(0).normal(size=(NAMES, FEATURES)).astype(np.float32)
    names = tuple(f"a_feature_of_{number:03d}" for number in range(FEATURES))
    row = FeatureRow("1Min", 60 * 10**9, 1, "a" * 64, "bench v1", market.SYMBOLS, ids, names, values, np.ones(NAMES, np.bool_))
    writer, reader = FeatureCacheWriter(feature_client(url), "bench", "paper"), FeatureCache(feature_client(url), "bench", "paper")
    wrote, read = [], []
    for _ in range(30):
        began = time.perf_counter()
        writer.write(row, range(NAMES))
        wrote.append((time.perf_counter() - began) * 1e3)
    for number in range(2000):
        began = time.perf_counter()
        found = reader.get_features(market.SYMBOLS[number % NAMES], "1Min")
        read.append((time.perf_counter() - began) * 1e6)
        assert isinstance(found, FeatureVector)
    size = len(row.vector_bytes(0)) * NAMES / 1e6
    print(f"write {NAMES} x {FEATURES} features      {np.median(wrote):8.1f} ms   {size:.1f} MB")
    print(f"get_features              {np.median(read):8.0f} us   p99 {np.percentile(read, 99):.0f} us")


def main() -> None:
    """Measure and print."""
    with RedisServer() as server, mute_server() as mute, tempfile.TemporaryDirectory() as folder:
        cache_alone(server.url)
        addresses, rows = {"no cache": "", "cache": server.url, "Redis that hangs": mute}, {}
        for run in range(RUNS):
            for name, url in addresses.items():
                rows.setdefault(name, []).extend(rows_of(Path(folder) / f"{run}-{len(name)}", url))
        for name, found in rows.items():
            print(f"row, {name:<20} {np.median(found):8.2f} ms   p99 {np.percentile(found, 99):.2f} ms   {len(found)} rows")


if __name__ == "__main__":
    main()
