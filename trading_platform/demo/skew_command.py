"""`trading-platform features skew`: two tables of bars of one market, compared through a feature set and what would be decided on it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from trading_platform.assets.workplace import Workplace
from trading_platform.config import Settings, load_profile
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import PRICE_FIELDS, Panel

if TYPE_CHECKING:
    from trading_platform.contracts.feed_skew import FeedSkew
    from trading_platform.features.program import FeatureSet

FEED_KEYS = ("vendor", "tape", "bar_version", "session_hours", "adjustment")
WORST = 10


def compare_feeds(
    settings: Settings,
    tables: tuple[Path, Path],
    set_name: str,
    *,
    by: str = "",
    bundle: str = "",
    timeframe: str = "",
    tolerance: float,
    feeds: tuple[str, str] = ("", ""),
    keep: bool = False,
    as_json: bool = False,
) -> int:
    """Print the report; 1 where it is kept for runners and does not pass the gate of T5. InputError for tables that cannot be compared.

    tables: two files of bars (`market_data.bar_file`). by: the feature that ranks the names; bundle: the label of the bundle that does;
    neither compares features only. feeds: T5 identities as `vendor/tape/bar_version/session_hours/adjustment`, the left one by default the
    bundle's. keep: store the report below the lake.
    """
    from trading_platform.features.catalog.registry import feature_set
    from trading_platform.registry.bundle import load_bundle
    from trading_platform.registry.object_store import open_store
    from trading_platform.research.feed_skew import feed_skew, same_axis, side_of, side_ranked_by, signals_pair, store

    if by and bundle:
        raise InputError("a bundle and a feature to rank by", "features skew", "give --bundle or --rank-by")
    chosen = feature_set(set_name)
    model = load_bundle(open_store(settings.object_store), bundle) if bundle else None
    identities = (_feed(feeds[0], keep and model is None) or dict(model.config.feed if model else {}), _feed(feeds[1], keep))
    left, right = same_axis(*(_panel(settings, path, chosen, timeframe) for path in tables))
    profile = load_profile(settings.profile, "swing" if left.timeframe == "1Day" else "intraday")
    if model is None:
        sides = (side_ranked_by(left, profile, chosen, by), side_ranked_by(right, profile, chosen, by))
    else:
        pair = signals_pair(profile, chosen, model, left.instrument_ids)
        sides = (side_of(left, pair[0]), side_of(right, pair[1]))
    alpha = model.config.name if model else f"feature {by}" if by else ""
    report = feed_skew(*sides, chosen, identities, alpha, tolerance)
    kept = store(settings.lake_dir, report) if keep else None
    _show(report, kept, as_json)
    return 1 if keep and report.failures() else 0


def _feed(text: str, needed: bool) -> dict[str, str]:
    parts = text.split("/")
    if text and len(parts) == len(FEED_KEYS) and all(parts):
        return dict(zip(FEED_KEYS, parts, strict=True))
    if text or needed:
        what = f"{text!r} is no feed" if text else "a report that is kept names its feeds"
        raise InputError(what, "features skew", f"write {'/'.join(FEED_KEYS)}, such as alpaca/iex/first/regular/raw")
    return {}


def _panel(settings: Settings, path: Path, chosen: FeatureSet, timeframe: str) -> Panel:
    """All bars of a file. InputError where it lacks a field of the set or a price is none."""
    from trading_platform.market_data.bar_file import newest_rows, open_bars
    from trading_platform.research.feature_table import check_fields

    bars = open_bars(path, timeframe)
    check_fields(bars, chosen)
    panel = newest_rows(bars, Workplace(settings).calendar, len(bars.timestamps), len(bars.instrument_ids))
    for name in PRICE_FIELDS:
        wrong = panel.present & ~(np.isfinite(panel.fields[name]) & (panel.fields[name] > 0.0))
        if wrong.any():
            t, s = (int(index) for index in np.argwhere(wrong)[0])
            when = np.datetime64(int(panel.timestamp[t]), "ns").astype("datetime64[s]")
            what = f"{name} is {panel.fields[name][t, s]} for {panel.instrument_ids[s]} at {when}Z"
            raise InputError(what, path.name, "correct or drop the row")
    return panel


def _show(report: FeedSkew, kept: Path | None, as_json: bool) -> None:
    failures = report.failures()
    if as_json:
        totals = {"cells": report.cells, "differing": report.differing, "beyond": report.beyond, "one_sided": report.one_sided}
        judged = {"rank_correlation": report.rank_correlation, "failures": failures, "stored": None if kept is None else kept.name}
        print(orjson.dumps({**asdict(report), **totals, **judged}).decode())
        return
    for name, text in _lines(report).items():
        print(f"{name:<26} {text}")
    for feature in report.worst(WORST):
        when = "" if feature.timestamp is None else f" at {np.datetime64(feature.timestamp, 'ns').astype('datetime64[s]')}Z"
        where = "" if feature.instrument_id is None else f", {feature.instrument_id}{when}: {feature.left:.6g} and {feature.right:.6g}"
        print(f"  {feature.name:<24} {_share(feature.beyond, feature.cells)} beyond, at most {feature.largest:.3g}{where}")
    for flip in report.flips[:5]:
        side = "left" if flip.left else "right"
        print(f"  flip: {flip.instrument_id} at {np.datetime64(flip.timestamp, 'ns').astype('datetime64[s]')}Z is held {side} only")
    print("gate (T5): " + ("passed" if not failures else "; ".join(failures)))
    if kept is not None:
        print(f"stored: {kept}")


def _lines(report: FeedSkew) -> dict[str, str]:
    decided, version = report.rows_decided, f"{report.feature_set} {report.feature_hash[:12]}"
    found: dict[str, Any] = {
        "compared": f"{report.rows} {report.timeframe} rows of {len(report.sessions)} sessions, set {version}",
        "bars": f"{report.bars}, {report.bars_differ} differ, {report.only_left} left only, {report.only_right} right only",
        "feature cells": f"{report.cells}, {_share(report.differing, report.cells)} differ",
        f"beyond {report.tolerance:g}": f"{_share(report.beyond, report.cells)}, {_share(report.one_sided, report.cells)} on one side only",
    }
    if report.alpha:
        found |= {
            "ranked by": report.alpha,
            "decisions": f"{report.decisions}, {_share(report.flipped, report.decisions)} flip",
            "rows": f"{decided}: position {_share(report.rows_flipped, decided)}, sign {_share(report.rows_sign, decided)}, "
            f"rank by over {report.rank_move:g} {_share(report.rows_rank, decided)}",
            "rank correlation": "-" if report.rank_correlation is None else f"{report.rank_correlation:.4f}",
        }
    return found


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "-"
