"""Who may be traded when: point-in-time membership, from sessions before each session alone."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from trading_platform.assets.bars import PERIOD, read_periods
from trading_platform.assets.evidence import NOTHING_TO_JUDGE
from trading_platform.assets.inputs import Reads, Recipe, latest
from trading_platform.assets.node import Node, of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import read_table
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace

if TYPE_CHECKING:
    import polars as pl

SURVIVOR_SESSIONS = 504  # two years: over more, nobody having left is a sign of survivorship (T33)
SAMPLE_SESSIONS = 3


def universe_recipe(pipeline: Pipeline) -> Recipe:
    """Membership is a function of the bars and the profile's rules."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        return {"rules": dataclasses.asdict(place.profile(pipeline).universe)}

    code = ("market_data", "calendar", "assets.universe")
    return Recipe(pipeline.asset("universe"), code, {pipeline.bars: Reads.WHOLE}, parameters)


def publish_universe(out: Publication, pipeline: Pipeline) -> dg.MaterializeResult:
    """Build the membership table."""
    from trading_platform.market_data.universe import build_universe

    if not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    bars = read_periods(out, pipeline.bars, pipeline)
    universe = build_universe(bars, out.place.profile(pipeline).universe, out.place.calendar)
    out.table("members", universe, sort_by=("session", "instrument_id"))
    members = universe.filter("member")
    left, biased = survivorship(bars)
    sessions = members["session"].n_unique()
    metadata = {
        "instruments": universe["instrument_id"].n_unique(),
        "sessions": sessions,
        "members_per_session": round(members.height / max(1, sessions), 1),
        "left_the_market": left,
        "survivorship": "SURVIVORSHIP BIASED: no instrument of this set ever left it" if biased else "instruments left in this span",
    }
    return out.result(metadata, facts={"left": left, "survivorship_biased": biased})


def survivorship(bars: "pl.DataFrame") -> tuple[float, bool]:
    """(share of instruments whose bars end before the span's last session, whether nobody left in over two years) (T33)."""
    import polars as pl

    last = bars.group_by("instrument_id").agg(pl.col("session").max())["session"]
    left = float((last < bars["session"].max()).mean() or 0.0)
    return left, left == 0.0 and bars["session"].n_unique() > SURVIVOR_SESSIONS


def universe_asset(pipeline: Pipeline) -> Node:
    """universe or universe_intraday with its check."""
    recipe = universe_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="universe",
        kinds={"polars", "parquet"},
        description="Point-in-time universe: members, dollar volume, reasons",
    )
    def universe(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_universe(platform.publication(context, recipe), pipeline)

    @dg.asset_check(
        asset=recipe.asset, blocking=True, name="point_in_time", description="Earlier rows stay as they are when later bars are removed"
    )
    def point_in_time(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        return judge_universe(context.instance, platform.place, pipeline)

    return Node(recipe, universe, (point_in_time,))


def judge_universe(instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline) -> dg.AssetCheckResult:
    """Rebuild the membership of a few sessions from bars before them alone, and compare with what was published."""
    from trading_platform.market_data.universe import build_universe

    found, bars = latest(instance, place, pipeline.asset("universe")), latest(instance, place, pipeline.bars)
    if found is None or bars is None or not found.manifest.outputs:
        return dg.AssetCheckResult(passed=True, metadata=NOTHING_TO_JUDGE)
    published = read_table(place, found.manifest, "members")
    frame = read_table(place, bars.manifest, f"{PERIOD[pipeline.timeframe][0]}=")
    wrong = [
        str(session)
        for session in _sample(published)
        if _differs(published, frame.filter(frame["session"] < session), session, place, pipeline, build_universe)
    ]
    return dg.AssetCheckResult(passed=not wrong, metadata={"sessions": SAMPLE_SESSIONS, "not_point_in_time": ", ".join(wrong)})


def _sample(published: "pl.DataFrame") -> Iterable[Any]:
    sessions = published["session"].unique().sort()
    at = np.unique(np.linspace(1, len(sessions) - 1, SAMPLE_SESSIONS).astype(int)) if len(sessions) > 1 else np.array([], dtype=int)
    return [sessions[int(i)] for i in at]


def _differs(published: "pl.DataFrame", before: "pl.DataFrame", session: Any, place: Workplace, pipeline: Pipeline, build: Any) -> bool:
    """A name without a bar before the session has no history to judge: its row is not compared."""
    again = build(before, place.profile(pipeline).universe, place.calendar)
    columns = ["instrument_id", "member", "reason"]
    mine = again.filter(again["session"] == session).select(columns)
    theirs = published.filter((published["session"] == session) & published["instrument_id"].is_in(mine["instrument_id"].implode())).select(
        columns
    )
    return not mine.equals(theirs)
