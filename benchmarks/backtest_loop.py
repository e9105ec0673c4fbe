"""Bars per second of `backtest.run` with every check, costs, stops and fills on, on a seeded synthetic market (labelled as such).

    python benchmarks/backtest_loop.py [--instruments 500] [--rows 1259] [--repeat 5]

The work: marks, targets, equal-risk sizing, limit plan, 26 checks with recorded outcomes, matching, fills, P&L. Signals are
made before the clock starts, as data loading is for the peers in ../bench.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from trading_platform.backtest.run import Sessions, run
from trading_platform.contracts.instruments import Instrument
from trading_platform.contracts.panel import Panel
from trading_platform.contracts.profile import Profile
from trading_platform.engine.signals import SignalBlock, block_from_alpha

DAY_NS = 86_400_000_000_000
HOUR_NS = 3_600_000_000_000


def synthetic(rows: int, width: int, seed: int, profile: Profile) -> tuple[Panel, SignalBlock, Sessions, tuple[Instrument, ...]]:
    """A random-walk market with slowly moving alphas, so that orders flow on every row."""
    random = np.random.default_rng(seed)
    close = np.round(50.0 * np.exp(np.cumsum(random.normal(0.0, 0.015, (rows, width)), axis=0)), 2) + 1.0
    span = np.abs(random.normal(0.0, 0.01, (rows, width)))
    days = np.arange(rows, dtype=np.int64) + 14_000
    names = tuple(f"us:S{s:04d}" for s in range(width))
    fields = {
        "open": np.round(close * (1.0 - 0.3 * span), 2),
        "high": np.round(close * (1.0 + span), 2),
        "low": np.round(close * (1.0 - span), 2),
        "close": close,
        "volume": np.round(random.lognormal(14.0, 0.5, (rows, width))),
    }
    everywhere = np.ones((rows, width), np.bool_)
    panel = Panel("1Day", names, days * DAY_NS, days * DAY_NS + 21 * HOUR_NS, days, fields, everywhere, everywhere).check()
    sessions = Sessions(days * DAY_NS + 14 * HOUR_NS, days * DAY_NS + 21 * HOUR_NS, (days + 1) * DAY_NS + 14 * HOUR_NS)
    alpha = np.cumsum(random.normal(size=(rows, width)), axis=0) * 0.1 + random.normal(size=(rows, width))
    block = block_from_alpha(profile, panel, alpha, np.full((rows, width), 0.015), np.full((rows, width), 0.02))
    return panel, block, sessions, tuple(Instrument(name, name[3:]) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instruments", type=int, default=500)
    parser.add_argument("--rows", type=int, default=1259)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    profile = Profile("benchmark")
    panel, block, sessions, instruments = synthetic(options.rows, options.instruments, 7, profile)
    run(profile, panel, block, sessions, (), instruments, 1e7)
    seconds = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        result = run(profile, panel, block, sessions, (), instruments, 1e7)
        seconds.append(time.perf_counter() - start)
    cells = options.rows * options.instruments
    median = statistics.median(seconds)
    print(f"synthetic market, seed 7: {options.instruments} instruments x {options.rows} daily rows, {len(result.fills)} fills")
    worst = cells / max(seconds) / 1e6
    print(f"median of {options.repeat}: {median * 1e3:.1f} ms, {cells / median / 1e6:.1f} M bars/s (worst {worst:.1f})")
    print(f"denied orders by check: {result.check_counts}")


if __name__ == "__main__":
    main()
