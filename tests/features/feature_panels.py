"""Panels for the feature tests: a clean random walk, and one with every unpleasantness at once. Seeded; no real data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.panel import TIMEFRAME_NS, Panel
from trading_platform.features.expression import Expression, adj, field
from trading_platform.features.operators.kernel import Operator
from trading_platform.features.operators.table import OPERATORS
from trading_platform.features.program import FeatureSet, Program

OPTIONAL_FIELDS = ("vix", "sector", "sentiment", "vwap")
PRICE_FIELDS = (
    "open",
    "high",
    "low",
    "close",
    "vwap",
    *(f"{side}_price{k}" for side in ("bid", "ask") for k in ("", *(f"_{n}" for n in range(2, 11)))),
)
SHARE_FIELDS = (
    "volume",
    "buy_volume",
    "sell_volume",
    "order_flow",
    *(f"{side}_size{k}" for side in ("bid", "ask") for k in ("", *(f"_{n}" for n in range(2, 11)))),
)
_PARAMS = {"n": 7, "low": -0.5, "high": 40.0, "q": 0.3, "tail": 0.2, "slots": 8}


def clean_panel(seed: int, rows: int, width: int, session_rows: int = 9) -> Panel:
    """A random walk without gaps or events; sessions of uneven length."""
    rng = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, (rows, width)), axis=0))
    open_ = close * np.exp(rng.normal(0.0, 0.004, close.shape))
    fields = {
        "open": open_,
        "high": np.maximum(open_, close) * np.exp(np.abs(rng.normal(0.0, 0.004, close.shape))),
        "low": np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0.0, 0.004, close.shape))),
        "close": close,
        "volume": np.round(np.exp(rng.normal(9.0, 1.0, close.shape))),
        "split_factor": np.ones(close.shape),
        "return_factor": np.ones(close.shape),
        "vix": np.repeat(20.0 + np.cumsum(rng.normal(0.0, 0.3, (rows, 1)), axis=0), width, axis=1),
        "sector": np.repeat(rng.integers(0, 3, (1, width)).astype(float), rows, axis=0),
    }
    fields |= book_fields(np.random.default_rng([seed, 3]), fields)
    timestamp = 1_500_000_000_000_000_000 + np.arange(rows) * TIMEFRAME_NS["1Min"]
    session = 17_000 + np.cumsum(rng.random(rows) < 1.0 / session_rows)
    ids = tuple(f"us:A{i:03d}" for i in range(width))
    every = np.ones(close.shape, bool)
    return Panel("1Min", ids, timestamp, timestamp + TIMEFRAME_NS["1Min"], session, fields, every, every.copy())


def book_fields(rng: np.random.Generator, bars: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """What quotes, a book of ten levels, trades and a sentiment source would add to these bars."""
    shape = bars["close"].shape
    middle, tick = bars["close"], bars["close"] * 1e-4
    fields = {"vwap": (bars["high"] + bars["low"] + bars["close"]) / 3.0, "sentiment": rng.normal(0.0, 1.0, shape)}
    for side, sign in (("bid", -1.0), ("ask", 1.0)):
        price = middle
        for k in ("", *(f"_{n}" for n in range(2, 11))):
            price = price + sign * tick * rng.integers(1, 4, shape)
            fields[f"{side}_price{k}"] = price
            fields[f"{side}_size{k}"] = np.round(np.exp(rng.normal(5.0, 1.0, shape)))
    bought = np.round(bars["volume"] * rng.random(shape))
    trades = rng.integers(0, 50, shape).astype(float)
    return fields | {
        "buy_volume": bought,
        "sell_volume": bars["volume"] - bought,
        "order_flow": np.round(rng.normal(0.0, 200.0, shape)),
        "book_updates": rng.integers(0, 80, shape).astype(float),
        "trade_count": trades,
        "signed_ticks": np.round(trades * rng.uniform(-1.0, 1.0, shape)),
        "effective_spread": 2e-4 * rng.random(shape),
    }


def with_event(panel: Panel, row: int, column: int, ratio: float, dividend: float = 0.0) -> Panel:
    """The same market with a split and a dividend (fraction of the price) taking effect at `row` of one column (T1)."""
    fields = {name: values.copy() for name, values in panel.fields.items()}
    for name in PRICE_FIELDS:
        fields[name][row:, column] *= (1.0 - dividend) / ratio
    for name in SHARE_FIELDS:
        fields[name][row:, column] *= ratio
    fields["split_factor"][row:, column] *= ratio
    fields["return_factor"][row:, column] *= ratio / (1.0 - dividend)
    return replace(panel, fields=fields)


def without(panel: Panel, present: NDArray[np.bool_]) -> Panel:
    """The panel with only the bars of `present`; the cells of the others are NaN."""
    fields = {name: np.where(present, values, np.nan) for name, values in panel.fields.items()}
    return replace(panel, fields=fields, present=present)


def adversarial_panel(seed: int, rows: int, width: int) -> Panel:
    """5 % gaps, runs of gaps, a listing, a delisting, a split, a dividend, ties, zeros, 1e300, present NaN cells, a moving universe."""
    rng = np.random.default_rng([seed, 1])
    panel = with_event(clean_panel(seed, rows, width), rows // 3, 0, 4.0)
    panel = with_event(panel, rows // 2, 1 % width, 1.0, 0.0137)
    fields = {name: values.copy() for name, values in panel.fields.items()}
    for name in ("open", "high", "low", "close"):
        fields[name][rows // 4 : rows // 4 + 25, 2 % width] = 33.3  # a stretch where nothing moves
    fields["close"][rows // 5, 3 % width] = 1e300
    fields["close"][rows // 5 + 3, 3 % width] = 0.0
    fields["volume"][rng.random((rows, width)) < 0.03] = 0.0
    fields["close"][rng.random((rows, width)) < 0.005] = np.nan  # present but undefined
    fields["volume"][rows // 6, 4 % width] = np.inf
    present = rng.random((rows, width)) >= 0.05
    present[: rows // 4, 5 % width] = False  # a listing
    present[rows - rows // 4 :, 6 % width] = False  # a delisting
    present[rows // 2 : rows // 2 + 12, :] &= rng.random((12, width)) < 0.2  # an outage
    member = np.repeat(rng.random((rows // 20 + 1, width)) < 0.9, 20, axis=0)[:rows]
    return replace(without(replace(panel, fields=fields), present), member=np.ascontiguousarray(member))


def expression_of(spec: Operator) -> Expression:
    """Some expression that uses an operator on adjusted close, volume and high."""
    inputs = (adj("close"), adj("volume"), adj("high"))[: spec.arity]
    if spec.name == "cs_demean":
        inputs = (adj("close"), field("sector"))
    if spec.name == "bars_since":
        inputs = (adj("close") > adj("open"),)
    if spec.name == "where":
        inputs = (adj("close") > adj("open"), adj("high"), adj("low"))
    if spec.name == "exp":
        inputs = (adj("close") / 50.0,)
    return Expression(spec.name, inputs, tuple(sorted((name, _PARAMS[name]) for name in spec.params)))


def every_operator() -> FeatureSet:
    """One feature per operator of the table, generated: a new operator is in every property test at once."""
    return FeatureSet("every_operator", "test", {name: expression_of(spec) for name, spec in OPERATORS.items()})


def compute(feature_set: FeatureSet, panel: Panel, cuts: tuple[int, ...] = (), threads: int = 1) -> NDArray[np.float64]:
    """Features (T, S, F) in float64, with the state saved and loaded into a fresh program at each cut."""
    program = Program(feature_set, panel.instrument_ids, threads)
    rows = panel.shape[0]
    parts = []
    for start, stop in zip((0, *cuts), (*cuts, rows), strict=True):
        if start:
            state = program.state_bytes()
            program = Program(feature_set, panel.instrument_ids, threads)
            program.load_state(state)
        chunk = panel.rows(start, stop)
        parts.append(program.step(chunk, np.empty((*chunk.shape, len(feature_set.names)))))
    return np.concatenate(parts)


def assert_same_bits(feature_set: FeatureSet, got: NDArray, expected: NDArray) -> None:
    """Every bit of every cell is equal (NaN included); the message names the features that differ."""
    differs = got.view(f"i{got.itemsize}") != expected.view(f"i{expected.itemsize}")
    names = [name for f, name in enumerate(feature_set.names) if differs[..., f].any()]
    assert not names, f"bits differ in {names}, first cell {np.argwhere(differs)[0]}"
