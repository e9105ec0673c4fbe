"""Features: the compiled program over the whole panel, as tables, with the states a runner starts from (DESIGN 5)."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.bars import read_periods, write_periods
from trading_platform.assets.evidence import NOTHING_TO_JUDGE
from trading_platform.assets.inputs import Reads, Recipe
from trading_platform.assets.node import Node, of
from trading_platform.assets.panels import actions_of, cell_frame, cells_of, cutoff_rows, panel_of, present_cells, session_date, set_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader, reader
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.panel import Panel

if TYPE_CHECKING:
    from trading_platform.features.program import FeatureSet
    from trading_platform.market_data.corporate_actions import ActionTable

THREADS = 2
STATE_ASSET = "feature-state"
FUTURE_ROWS = 64  # replaced rows that the causality check feeds after the half it compares
DEFINED_SHARE = 0.5  # a feature that is undefined in more than half of the warm cells says nothing


@dataclass(frozen=True, slots=True)
class States:
    """What a runner needs to go on after one row: the program's state, and that of the price factors."""

    known_at: int
    program: bytes
    factors: bytes


def features_recipe(pipeline: Pipeline) -> Recipe:
    """Features are a function of bars, universe and the feature set; the vendor's delay enters known_at, the stretch the states' rows."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        from trading_platform.features.catalog.registry import feature_set

        chosen = feature_set(pipeline.feature_set)
        delay = place.profile(pipeline).vendor_delay_s
        return {
            "feature_set": chosen.name,
            "feature_hash": chosen.hash,
            "vendor_delay_s": delay,
            "stretch_rows": place.settings.stretch_rows,
        }

    code = ("features", "market_data", "calendar", "assets.features", "assets.panels")
    return Recipe(pipeline.features, code, {pipeline.bars: Reads.WHOLE, pipeline.asset("universe"): Reads.WHOLE}, parameters)


def compute(
    panel: Panel, feature_set: "FeatureSet", actions: "ActionTable", after: Sequence[int]
) -> tuple[NDArray[np.float32], list[States]]:
    """Features float32 (T, S, F) of a panel, and the states after the rows `after`, ascending."""
    from trading_platform.features.program import Program
    from trading_platform.market_data.corporate_actions import FactorState

    program = Program(feature_set, panel.instrument_ids, threads=THREADS)
    factors = FactorState(actions, panel.instrument_ids)
    values = np.empty((*panel.shape, len(feature_set.names)), np.float32)
    states, done = [], 0
    for row in (*after, panel.shape[0] - 1):
        if row < done:
            continue
        program.step(panel.rows(done, row + 1), values[done : row + 1])
        for each in range(done, row + 1):
            factors.open_row(int(panel.session[each]))
            factors.close_row(panel.fields["close"][each], panel.present[each])
        states.append(States(int(panel.known_at[row]), program.state_bytes(), factors.state_bytes()))
        done = row + 1
    return values, states


def publish_features(out: Publication, pipeline: Pipeline) -> dg.MaterializeResult:
    """Compute every feature of every row and publish tables and states."""
    if not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    panel, chosen = panel_of(out, pipeline), set_of(out, pipeline)
    cutoffs = cutoff_rows(panel, pipeline, out.place.settings.stretch_rows)
    values, states = compute(panel, chosen, actions_of(out, pipeline), [row - 1 for row in cutoffs.values()])
    cells = present_cells(panel)
    columns = {name: values[cells.row, cells.column, index] for index, name in enumerate(chosen.names)}
    write_periods(out, out.recipe.asset, cell_frame(panel, cells, columns), pipeline)
    for state in states:
        for kind, data in (("program", state.program), ("factors", state.factors)):
            out.file(f"{STATE_ASSET}/{chosen.hash[:16]}/{state.known_at}/{kind}", data, ".npz")
    defined = {name: round(float(np.isfinite(column).mean()), 4) for name, column in columns.items()}
    plain = "" if chosen.name == pipeline.feature_set else f", because {pipeline.bars} holds no field that {pipeline.feature_set} needs"
    metadata = {
        "features": len(chosen.names),
        "feature_set": f"{chosen.name} {chosen.label}{plain}",
        "feature_hash": chosen.hash,
        "warm_up_bars": chosen.warm_up,
        "defined_share": dg.MetadataValue.json(defined),
        "infinite_made_undefined": int(sum(np.isinf(column).sum() for column in columns.values())),
        "states": len(states),
    }
    facts = {
        "feature_set": chosen.name,
        "feature_hash": chosen.hash,
        "names": list(chosen.names),
        "rows": panel.shape[0],
        "cutoffs": cutoffs,
        "first_session": session_date(panel, 0),
        "last_session": session_date(panel, panel.shape[0] - 1),
        "states": [state.known_at for state in states],
    }
    return out.result(metadata, facts=facts)


def features_array(out: Reader, pipeline: Pipeline, panel: Panel) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The published features as float32 (T, S, F), NaN where absent, and their names in column order."""
    names = tuple(out.facts(pipeline.features)["names"])
    frame = read_periods(out, pipeline.features, pipeline)
    cells = cells_of(panel, frame)
    values = np.full((*panel.shape, len(names)), np.nan, np.float32)
    values[cells.row, cells.column] = np.stack([frame[name].to_numpy() for name in names], axis=1)
    return values, names


def features_asset(pipeline: Pipeline) -> Node:
    """features_daily or features_intraday with its checks."""
    recipe = features_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="features",
        kinds={"numba", "parquet"},
        description=f"Feature set {pipeline.feature_set} over every row, and runner states",
    )
    def features(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_features(platform.publication(context, recipe), pipeline)

    specs = [
        dg.AssetCheckSpec(
            "finite", asset=recipe.asset, blocking=True, description="no infinite value; no feature undefined in most warm cells"
        ),
        dg.AssetCheckSpec("causal", asset=recipe.asset, blocking=True, description="the future, changed, moves no earlier feature (I1)"),
    ]

    @dg.multi_asset_check(specs=specs, name=f"{recipe.asset}_checks")
    def checks(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterable[dg.AssetCheckResult]:
        yield from judge_features(context.instance, platform.place, pipeline)

    return Node(recipe, features, (checks,))


def judge_features(instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline) -> Iterable[dg.AssetCheckResult]:
    """The published table against a second computation over bars whose future was changed, and its share of defined cells."""
    seen = reader(instance, place, pipeline.bars, pipeline.asset("universe"), pipeline.features)
    asset = pipeline.features
    if not seen.holds(asset):
        yield from (
            dg.AssetCheckResult(check_name=name, asset_key=asset, passed=True, metadata=NOTHING_TO_JUDGE) for name in ("finite", "causal")
        )
        return
    panel, chosen = panel_of(seen, pipeline), set_of(seen, pipeline)
    published, _ = features_array(seen, pipeline, panel)
    warm = np.cumsum(panel.present, axis=0) > chosen.warm_up
    share = (
        {name: float(np.isfinite(published[..., i][warm & panel.present]).mean()) for i, name in enumerate(chosen.names)}
        if warm.any()
        else {}
    )
    infinite = int(np.isinf(published).sum())
    empty = sorted(name for name, defined in share.items() if defined < DEFINED_SHARE)
    said = {"infinite_cells": infinite, "mostly_undefined": ", ".join(empty), "least_defined": min(share.values(), default=1.0)}
    yield dg.AssetCheckResult(check_name="finite", asset_key=asset, passed=infinite == 0 and not empty, metadata=said)
    moved = moved_by_the_future(panel, chosen, actions_of(seen, pipeline), published)
    said = {"features_that_moved": ", ".join(moved), "rows_compared": panel.shape[0] // 2}
    yield dg.AssetCheckResult(check_name="causal", asset_key=asset, passed=not moved, metadata=said)


def moved_by_the_future(panel: Panel, feature_set: "FeatureSet", actions: "ActionTable", published: NDArray[np.float32]) -> list[str]:
    """Features whose published first half differs in any bit from one computed with every later bar replaced."""
    half = panel.shape[0] // 2
    end = min(panel.shape[0], half + FUTURE_ROWS)
    generator = np.random.default_rng(0)
    fields = {name: values[:end].copy() for name, values in panel.fields.items()}
    for values in fields.values():
        values[half:] *= generator.uniform(0.5, 2.0, values[half:].shape)
    changed = dataclasses.replace(panel.rows(0, end), fields=fields)
    again, _ = compute(changed, feature_set, actions, ())
    same = (again[:half] == published[:half]) | (np.isnan(again[:half]) & np.isnan(published[:half]))
    return [name for index, name in enumerate(feature_set.names) if not bool(same[..., index].all())]
