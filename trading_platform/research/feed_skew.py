"""Two feeds, one market: which feature cells differ, which features worst, and whether a decision would flip (T4, T5).

Pure: panels and engine in, a report out. Left and right may be SIP and IEX, final and first bars, batch and live. Both sides run the same
features and the same signals half of the engine, each on its own bars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import sha256_hex
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.feed_skew import SHOWN, FeatureSkew, FeedSkew, Flip, skew_folder
from trading_platform.contracts.model import Model
from trading_platform.contracts.panel import BAR_FIELDS, Panel
from trading_platform.contracts.profile import Profile
from trading_platform.engine.signals import SignalBlock, Signals, block_from_alpha
from trading_platform.features.program import FeatureSet, Program
from trading_platform.market_data.lake import write_atomically

TOLERANCE = 0.01  # relative
RANK_MOVE = 0.1


@dataclass(frozen=True, slots=True)
class Side:
    """One feed: its panel, its features float32 (T, S, F), and what the signals made of them."""

    panel: Panel
    features: NDArray[np.float32]
    block: SignalBlock


def same_axis(left: Panel, right: Panel) -> tuple[Panel, Panel]:
    """Both panels over the rows and instruments of either, absent where a side has no bar. Members are those of either.

    InputError for other timeframes, or for a row of another session or known_at on the two sides.
    """
    if left.timeframe != right.timeframe:
        raise InputError(f"bars of {left.timeframe} and of {right.timeframe}", "feed skew", "compare bars of one timeframe")
    timestamp = np.union1d(left.timestamp, right.timestamp)
    ids = tuple(sorted({*left.instrument_ids, *right.instrument_ids}))
    axes = {name: _one_axis(left, right, timestamp, name) for name in ("known_at", "session")}
    names = sorted(left.fields.keys() & right.fields.keys())
    sides = [_spread(panel, timestamp, ids, axes, names) for panel in (left, right)]
    member = sides[0].member | sides[1].member
    return replace(sides[0], member=member), replace(sides[1], member=member)


def _one_axis(left: Panel, right: Panel, timestamp: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    values = np.full(timestamp.shape, np.iinfo(np.int64).min)
    for panel in (left, right):
        at = np.searchsorted(timestamp, panel.timestamp)
        mine, known = getattr(panel, name), values[at]
        apart = (known != np.iinfo(np.int64).min) & (known != mine)
        if apart.any():
            when = np.datetime64(int(panel.timestamp[np.argmax(apart)]), "ns")
            raise InputError(f"the sides disagree about {name} of the row at {when}Z", "feed skew", "build both with one calendar")
        values[at] = mine
    return values


def _spread(
    panel: Panel, timestamp: NDArray[np.int64], ids: tuple[str, ...], axes: Mapping[str, NDArray[np.int64]], names: Sequence[str]
) -> Panel:
    shape = (len(timestamp), len(ids))
    cells = np.ix_(np.searchsorted(timestamp, panel.timestamp), np.searchsorted(np.array(ids), np.array(panel.instrument_ids)))
    present, member = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    present[cells], member[cells] = panel.present, panel.member
    fields = {}
    for name in names:
        fields[name] = np.full(shape, np.nan)
        fields[name][cells] = panel.fields[name]
    return Panel(panel.timeframe, ids, timestamp, axes["known_at"], axes["session"], fields, present, member).check("feed skew")


def side_of(panel: Panel, signals: Signals) -> Side:
    """A side as a bundle's signals see it; `signals` advances, so later rows of the same feed may follow."""
    block = signals.step(panel)
    return Side(panel, block.features, block)


def side_ranked_by(panel: Panel, profile: Profile, feature_set: FeatureSet, by: str) -> Side:
    """A side without a bundle: the strategy ranks the names by one feature, or by nothing (`by` empty)."""
    if by and by not in feature_set.names:
        raise InputError(f"{by!r} is no feature of the set {feature_set.name}", "feed skew", "trading-platform features list")
    features = Program(feature_set, panel.instrument_ids).step(panel)
    alpha = features[:, :, feature_set.names.index(by)].astype(np.float64) if by else np.full(panel.shape, np.nan)
    return Side(panel, features, block_from_alpha(profile, panel, alpha, alpha, alpha))


def feed_skew(
    left: Side,
    right: Side,
    feature_set: FeatureSet,
    feeds: tuple[Mapping[str, str], Mapping[str, str]],
    alpha: str = "",
    tolerance: float = TOLERANCE,
    rank_move: float = RANK_MOVE,
) -> FeedSkew:
    """The report of two sides on one axis (`same_axis`). feeds: their T5 identities. alpha: the recipe that ranked, for the record."""
    if left.panel.instrument_ids != right.panel.instrument_ids or not np.array_equal(left.panel.timestamp, right.panel.timestamp):
        raise InputError("the sides have other axes", "feed skew", "put them on one with same_axis")
    days = np.unique(left.panel.session)
    return FeedSkew(
        left=dict(feeds[0]),
        right=dict(feeds[1]),
        timeframe=left.panel.timeframe,
        feature_set=feature_set.name,
        feature_hash=feature_set.hash,
        alpha=alpha,
        tolerance=tolerance,
        rank_move=rank_move,
        sessions=tuple(str(np.datetime64(int(day), "D")) for day in days),
        rows=left.panel.shape[0],
        features=tuple(_feature(left, right, name, column, tolerance) for column, name in enumerate(feature_set.names)),
        **_bars(left.panel, right.panel),
        **_decisions(left, right, rank_move),
        flips=_flips(left, right),
    )


def _bars(left: Panel, right: Panel) -> dict[str, int]:
    both = left.present & right.present
    other = np.zeros(both.shape, np.bool_)
    for name in BAR_FIELDS:
        other |= left.fields[name] != right.fields[name]
    return {
        "bars": int((left.present | right.present).sum()),
        "only_left": int((left.present & ~right.present).sum()),
        "only_right": int((right.present & ~left.present).sum()),
        "bars_differ": int((both & other).sum()),
    }


def _feature(left: Side, right: Side, name: str, column: int, tolerance: float) -> FeatureSkew:
    one, two = left.features[:, :, column].astype(np.float64), right.features[:, :, column].astype(np.float64)
    defined, defined_two = np.isfinite(one), np.isfinite(two)
    either, both = defined | defined_two, defined & defined_two
    gap = np.where(both, np.abs(one - two), 0.0)
    relative = gap / np.where(gap > 0.0, np.maximum(np.abs(one), np.abs(two)), 1.0)
    counts = {
        "cells": int(either.sum()),
        "differing": int((either & ~(both & (one == two))).sum()),
        "beyond": int((either & (~both | (relative > tolerance))).sum()),
        "one_sided": int((either & ~both).sum()),
    }
    if not relative.any():
        return FeatureSkew(name, **counts)
    t, s = np.unravel_index(int(np.argmax(relative)), relative.shape)
    where = {"instrument_id": left.panel.instrument_ids[s], "timestamp": int(left.panel.timestamp[t])}
    return FeatureSkew(name, **counts, largest=float(relative[t, s]), **where, left=float(one[t, s]), right=float(two[t, s]))


def _ranks(side: Side) -> NDArray[np.float64]:
    """Cross-sectional ranks of the members' alphas (average rank / count, best 1), NaN undefined, as the strategy ranks."""
    from scipy.stats import rankdata

    alpha = np.where(side.panel.member, side.block.alpha, np.nan)
    count = np.isfinite(alpha).sum(axis=1, keepdims=True)
    return np.asarray(rankdata(alpha, axis=1, nan_policy="omit")) / np.maximum(count, 1)


def _decisions(left: Side, right: Side, rank_move: float) -> dict[str, float]:
    one, two = left.block.alpha, right.block.alpha
    ranks = _ranks(left), _ranks(right)
    decided = np.isfinite(ranks[0]) | np.isfinite(ranks[1])
    both = np.isfinite(ranks[0]) & np.isfinite(ranks[1])
    flipped = left.block.held != right.block.held
    sign = both & (np.sign(one) != np.sign(two))
    moved = decided & (~both | (np.abs(ranks[0] - ranks[1]) > rank_move))
    correlations = [found for t in np.flatnonzero(both.sum(axis=1) >= 2) for found in _correlation(one[t, both[t]], two[t, both[t]])]
    return {
        "decisions": int(decided.sum()),
        "flipped": int(flipped.sum()),
        "rows_decided": int(decided.any(axis=1).sum()),
        "rows_flipped": int(flipped.any(axis=1).sum()),
        "rows_sign": int(sign.any(axis=1).sum()),
        "rows_rank": int(moved.any(axis=1).sum()),
        "rows_ranked": len(correlations),
        "correlation": float(sum(correlations)),
    }


def _correlation(one: NDArray[np.float64], two: NDArray[np.float64]) -> list[float]:
    """Spearman's of two alphas as a list of one; empty where all of a side are equal."""
    from scipy.stats import spearmanr

    if np.ptp(one) == 0.0 or np.ptp(two) == 0.0:
        return []
    return [float(spearmanr(one, two).statistic)]


def _flips(left: Side, right: Side) -> tuple[Flip, ...]:
    cells = np.argwhere(left.block.held != right.block.held)[:SHOWN]
    panel, one, two = left.panel, left.block.held, right.block.held
    return tuple(Flip(int(panel.timestamp[t]), panel.instrument_ids[s], bool(one[t, s]), bool(two[t, s])) for t, s in cells)


def signals_pair(
    profile: Profile, feature_set: FeatureSet, model: Model | None, instrument_ids: tuple[str, ...], state: bytes | None = None
) -> tuple[Signals, Signals]:
    """Signals of both sides in one state (`Signals.state_bytes`), cold without one."""
    pair = tuple(Signals(profile, feature_set, model, instrument_ids) for _ in range(2))
    for signals in pair if state is not None else ():
        signals.load_state(state or b"")
    return pair[0], pair[1]


def store(lake: Path, report: FeedSkew) -> Path:
    """Write a report where runners look; returns its file."""
    data = report.to_bytes()
    path = skew_folder(lake) / f"{sha256_hex(data)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    return path
