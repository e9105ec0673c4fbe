"""Seeded synthetic panels, a linear ONNX model and row contexts for tests of matching, engine and backtest. Nothing here is market data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trading_platform.backtest.run import Sessions, daily_volume_lots
from trading_platform.contracts.instruments import Instrument
from trading_platform.contracts.model import Model, ModelConfig
from trading_platform.contracts.panel import Panel
from trading_platform.contracts.profile import Costs, Execution, Limits, Profile, Strategy
from trading_platform.engine.account import grid_of
from trading_platform.engine.context import RowContext, quotes_from_bars
from trading_platform.features.expression import adj, lag, log, mean, std
from trading_platform.features.program import FeatureSet

DAY_NS = 86_400_000_000_000
HOUR_NS = 3_600_000_000_000
MINUTE_NS = 60_000_000_000


def feature_set() -> FeatureSet:
    """Four small features, two of which the sizing reads."""
    close, high, low = adj("close"), adj("high"), adj("low")
    returns = log(close / lag(close, 1))
    features = {
        "atr_pct": mean((high - low) / close, 5),
        "momentum_3": close / lag(close, 3) - 1.0,
        "returns_1": returns,
        "volatility_8": std(returns, 8),
    }
    return FeatureSet("test", "v1", features)


def linear_model(features: FeatureSet, weights: Mapping[str, float], name: str = "linear_v1", slot: str = "daily") -> Model:
    """An ONNX bundle whose alpha is a weighted sum of named features."""
    columns = tuple(sorted(weights))
    matrix = np.array([[weights[column]] for column in columns], np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["rows", "weights"], ["alpha"])],
        "linear",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, len(columns)])],
        [helper.make_tensor_value_info("alpha", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(matrix, "weights")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(proto)
    config = ModelConfig(
        name=name.split("_v")[0],
        version=name.split("_v")[1],
        slot=slot,
        timeframe="1Day",
        feature_set=features.name,
        feature_hash=features.hash,
        features=columns,
        volatility="volatility_8",
        atr="atr_pct",
        horizon=1,
        target="forward_return",
        trained_from=0,
        trained_through=1,
        feed={},
    )
    golden = np.zeros((1, len(columns)), np.float32)
    return Model(f"bundle-{name}", config, proto.SerializeToString(), golden, np.zeros(1), {})


def instruments_of(width: int) -> tuple[Instrument, ...]:
    """Whole-share instruments us:S000, us:S001, ..."""
    return tuple(Instrument(f"us:S{s:03d}", f"S{s:03d}") for s in range(width))


def profile(**limits: float) -> Profile:
    """A careful profile that still trades on a handful of names."""
    return Profile(
        "test",
        limits=replace(Limits(), **limits),
        strategy=replace(Strategy(), entry_rank=0.75, exit_rank=0.5, target_gross=0.9),
        execution=Execution(),
        costs=Costs(),
    )


def daily_market(rows: int, width: int, seed: int, missing: float = 0.05) -> tuple[Panel, Sessions]:
    """A random walk in cents with gaps; weekdays are consecutive days, sessions run 14:30-21:00 UTC, known 15 minutes after the close."""
    random = np.random.default_rng(seed)
    close = np.round(60.0 * np.exp(np.cumsum(random.normal(0.0, 0.02, (rows, width)), axis=0)) + 5.0, 2)
    open_ = np.round(close * np.exp(random.normal(0.0, 0.01, (rows, width))), 2)
    high = np.round(np.maximum(open_, close) * (1.0 + np.abs(random.normal(0.0, 0.008, (rows, width)))), 2)
    low = np.round(np.minimum(open_, close) * (1.0 - np.abs(random.normal(0.0, 0.008, (rows, width)))), 2)
    present = random.random((rows, width)) >= missing
    days = np.arange(rows, dtype=np.int64) + 18_000
    fields = {"open": open_, "high": high, "low": low, "close": close, "volume": np.round(random.lognormal(13.0, 0.7, (rows, width)))}
    fields = {name: np.where(present, values, np.nan) for name, values in fields.items()}
    fields |= {"split_factor": np.ones((rows, width)), "return_factor": np.ones((rows, width))}
    member = random.random((rows, width)) >= 0.02
    sessions = Sessions(
        days * DAY_NS + 14 * HOUR_NS + 30 * MINUTE_NS, days * DAY_NS + 21 * HOUR_NS, (days + 1) * DAY_NS + 14 * HOUR_NS + 30 * MINUTE_NS
    )
    names = tuple(instrument.instrument_id for instrument in instruments_of(width))
    panel = Panel("1Day", names, days * DAY_NS, sessions.close_ns + 15 * MINUTE_NS, days, fields, present, member)
    return panel.check(), sessions


def minute_market(days: int, minutes: int, width: int, seed: int) -> tuple[Panel, Sessions]:
    """`days` sessions of `minutes` bars from 14:30 UTC."""
    rows = days * minutes
    daily, _ = daily_market(rows, width, seed, 0.03)
    fields = {name: (np.round(values, 2) if name != "volume" else values) for name, values in daily.fields.items()}
    day = np.repeat(np.arange(days, dtype=np.int64) + 18_000, minutes)
    start = day * DAY_NS + 14 * HOUR_NS + 30 * MINUTE_NS
    timestamp = start + np.tile(np.arange(minutes, dtype=np.int64), days) * MINUTE_NS
    panel = Panel("1Min", daily.instrument_ids, timestamp, timestamp + MINUTE_NS, day, fields, daily.present, daily.member)
    return panel.check(), Sessions(start, start + minutes * MINUTE_NS, start + DAY_NS)


def contexts(panel: Panel, sessions: Sessions, sector: NDArray[np.int64] | None = None, kill: int = 0) -> list[RowContext]:
    """The contexts a runner would build from bars alone, one per row."""
    mid, age = quotes_from_bars(panel, sessions.close_ns)
    grid = grid_of(instruments_of(panel.shape[1]))
    volume = daily_volume_lots(panel, grid)
    codes = np.full(panel.shape[1], -1, np.int64) if sector is None else sector
    return [
        RowContext(
            mid[t], age[t], int(sessions.open_ns[t]), int(sessions.close_ns[t]), int(sessions.next_open_ns[t]), codes, volume[t], kill
        )
        for t in range(panel.shape[0])
    ]
