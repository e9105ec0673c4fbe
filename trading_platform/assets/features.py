"""Features: the compiled program over the whole panel, as tables, with the states a runner starts from (DESIGN 5)."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.bars import read_periods, write_periods
from trading_platform.assets.inputs import Reads, Recipe
from trading_platform.assets.node import Node, of
from trading_platform.assets.panels import actions_of, cell_frame, cells_of, cutoff_rows, panel_of, present_cells, session_date, set_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.panel import Panel

if TYPE_CHECKING:
    from trading_platform.features.program import FeatureSet
    from trading_platform.market_data.corporate_actions import ActionTable

THREADS = 2
STATE_ASSET = "feature-state"


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


def features_asset(pipeline: Pipeline, checks: Sequence[dg.AssetChecksDefinition]) -> Node:
    """features_daily or features_intraday; `checks` judge it."""
    recipe = features_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="features",
        kinds={"numba", "parquet"},
        description=f"Feature set {pipeline.feature_set} over every row, and runner states",
    )
    def features(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_features(platform.publication(context, recipe), pipeline)

    return Node(recipe, features, checks)
