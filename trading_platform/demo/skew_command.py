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
from trading_platform.contracts.panel import TIMEFRAME_NS, Panel

if TYPE_CHECKING:
    import polars as pl

    from trading_platform.contracts.feed_skew import FeedSkew
    from trading_platform.features.program import FeatureSet
    from trading_platform.market_data.corporate_actions import ActionTable

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
    actions: Path | None = None,
    tolerance: float,
    feeds: tuple[str, str] = ("", ""),
    keep: bool = False,
    as_json: bool = False,
) -> int:
    """Print the report; 1 where it is kept for runners and does not pass the gate of T5. InputError for tables that cannot be compared.

    by: the feature that ranks the names; bundle: the label of the bundle that does; neither compares features only. feeds: T5 identities as
    `vendor/tape/bar_version/session_hours/adjustment`, the left one by default the bundle's. keep: store it below the lake.
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
    left, right = same_axis(*_panels(settings, tables, chosen, timeframe, actions))
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


def _panels(settings: Settings, tables: tuple[Path, Path], chosen: FeatureSet, timeframe: str, actions: Path | None) -> tuple[Panel, Panel]:
    from trading_platform.market_data.panel import build_panel

    calendar = Workplace(settings).calendar
    frames = [_bars(path, calendar.timezone) for path in tables]
    found, events = timeframe or _timeframe(frames), _actions(actions)
    optional = [name for name in chosen.fields if name in ("vwap", "trade_count")]
    left, right = (build_panel(frame, events, found, calendar, fields=optional) for frame in frames)
    return left, right


def _bars(path: Path, timezone: str) -> pl.DataFrame:
    from trading_platform.market_data.bars import check_source_schema, number_rows, refuse_bad_keys, refuse_bad_rows, to_bar_frame

    frame = _table(path)
    check_source_schema(frame.schema, path.name)
    numbered = number_rows(frame, path.name, [path.name])
    refuse_bad_keys(numbered, path.name)
    refuse_bad_rows(numbered, path.name)
    return to_bar_frame(numbered.drop("file", "row"), timezone, where=path.name)


def _table(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"not a readable Parquet file: {' '.join(str(error).split())}", path.name, "give a Parquet table") from error


def _actions(path: Path | None) -> ActionTable:
    import polars as pl

    from trading_platform.market_data.corporate_actions import ActionTable
    from trading_platform.market_data.panel import action_table

    if path is None:
        return ActionTable(())
    frame = _table(path)
    if "symbol" in frame.columns and "instrument_id" not in frame.columns:
        frame = frame.with_columns((pl.lit("us:") + pl.col("symbol")).alias("instrument_id"))
    missing = [name for name in ("instrument_id", "ex_date", "split_ratio", "cash_dividend") if name not in frame.columns]
    if missing:
        raise InputError(f"column {', '.join(missing)} is missing", path.name, "give symbol, ex_date, split_ratio, cash_dividend")
    return action_table(frame)


def _timeframe(frames: list[pl.DataFrame]) -> str:
    """The timeframe whose bars are as long as the smallest step between two timestamps."""
    import polars as pl

    stamps = pl.concat([frame["timestamp"] for frame in frames]).unique().sort().to_physical().to_numpy()
    step = int(np.diff(stamps).min()) if len(stamps) > 1 else 0
    named = [name for name, length in TIMEFRAME_NS.items() if length == step]
    if not named:
        raise InputError(f"bars {step / 1e9:.0f} s apart", "features skew", f"give --timeframe, one of {', '.join(TIMEFRAME_NS)}")
    return named[0]


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
