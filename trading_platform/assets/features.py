"""Features: the compiled program over the bars, period after period, as tables, with the states a runner or the next run starts from.

A run computes what changed since the newest materialization and takes over the rest, file for file; what it publishes has the bytes of a
full rebuild (I2). It holds the bars of one period and the features of one part of it, whatever the length of the series (DESIGN 5).
"""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.bars import read_periods
from trading_platform.assets.feature_periods import (
    Earlier,
    FeatureSource,
    Period,
    earlier,
    kept_ends,
    session_axis,
)
from trading_platform.assets.feature_policy import in_force
from trading_platform.assets.feature_run import THREADS, Done, FeatureRun, Say
from trading_platform.assets.inputs import Materialization, Reads, Recipe, latest
from trading_platform.assets.node import Node, of
from trading_platform.assets.panels import cells_of, cutoff_rows, session_date, set_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import CorruptionError
from trading_platform.contracts.panel import Panel

if TYPE_CHECKING:
    from trading_platform.features.program import FeatureSet

CODE = ("features", "market_data", "calendar", "assets.features", "assets.feature_periods", "assets.feature_run", "assets.panels")


def features_recipe(pipeline: Pipeline) -> Recipe:
    """Features are a function of bars, universe and the feature set; the vendor's delay enters known_at, the stretch the states' rows."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        chosen = in_force(place, pipeline)
        delay = place.profile(pipeline).vendor_delay_s
        return {
            "feature_set": chosen.name,
            "feature_hash": chosen.hash,
            "vendor_delay_s": delay,
            "stretch_rows": place.settings.stretch_rows,
        }

    return Recipe(pipeline.features, CODE, {pipeline.bars: Reads.WHOLE, pipeline.asset("universe"): Reads.WHOLE}, parameters)


def compute(panel: Panel, feature_set: "FeatureSet") -> NDArray[np.float32]:
    """Features float32 (T, S, F) of a whole panel, every instrument cold at its first row."""
    from trading_platform.features.program import Program

    return Program(feature_set, panel.instrument_ids, threads=THREADS).step(panel)


def wanted_states(periods: Sequence[Period], cutoffs: Mapping[str, int]) -> frozenset[int]:
    """Session days after which a state is published: the last of the periods of `kept_ends`, and the one before each training cutoff."""
    axis = session_axis(periods)
    ends = {periods[number].last_session for number in kept_ends(len(periods))}
    return frozenset(ends | {int(axis[row - 1]) for row in cutoffs.values()})


def publish_features(
    out: Publication, pipeline: Pipeline, last: Materialization | None = None, say: Say = lambda line: None
) -> dg.MaterializeResult:
    """Publish every feature of every row and the states, computing only what is not as it was in the materialization `last`.

    say: receives one line per computed period, and one about those that were taken over.
    """
    if not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    began = time.perf_counter()
    chosen = set_of(out, pipeline)
    source, before = FeatureSource(out, pipeline, chosen), earlier(out.place, out.recipe, last, chosen.hash)
    periods = source.describe(before.periods, seed_of(out, chosen))
    axis = session_axis(periods)
    cutoffs = cutoff_rows(axis, pipeline, out.place.settings.stretch_rows)
    run = FeatureRun(out, source, chosen, periods, before)
    done = run.publish(wanted_states(periods, cutoffs), say)
    facts = {
        "feature_set": chosen.name,
        "feature_hash": chosen.hash,
        "names": list(chosen.names),
        "rows": len(axis),
        "cutoffs": cutoffs,
        "first_session": session_date(axis, 0),
        "last_session": session_date(axis, len(axis) - 1),
    }
    found = Earlier(tuple(periods), tuple(one.counts for one in done), {}, run.states)
    wanted = in_force(out.place, pipeline).name
    plain = "" if chosen.name == wanted else f", because {pipeline.bars} holds no field that {wanted} needs"
    said = {"feature_set": f"{chosen.name} {chosen.label}{plain}", **what_was_done(chosen, done, run, time.perf_counter() - began)}
    return out.result(said, facts=facts | found.facts())


def seed_of(out: Publication, chosen: "FeatureSet") -> str:
    """Hash of what every period depends on: the feature version, the code and the settings, the stretch aside (it only places states)."""
    settings = {name: value for name, value in out.inputs.parameters.items() if name != "stretch_rows"}
    return content_hash({"features": chosen.hash, "code": out.recipe.code_version, "settings": settings})


def what_was_done(chosen: "FeatureSet", done: Sequence[Done], run: FeatureRun, seconds: float) -> dict[str, Any]:
    """The materialization's metadata."""
    cells = sum(one.counts.cells for one in done)
    computed = done[run.reused :]
    defined = np.sum([one.counts.defined for one in done], axis=0) / max(1, cells)
    spent = sum(one.seconds for one in computed)
    rows = [
        f"| {one.period.name} | {one.period.rows} | {one.counts.cells} | {one.undefined:.2%} | {one.counts.infinite} | "
        f"{f'{one.seconds:.2f} | {one.kernels:.2f}' if number >= run.reused else 'reused | '} |"
        for number, one in enumerate(done)
    ]
    head = ("period", "rows", "bars", "undefined", "infinite made undefined", "seconds", "of these kernels")
    table = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows]
    said: dict[str, Any] = {
        "features": len(chosen.names),
        "feature_hash": chosen.hash,
        "warm_up_bars": chosen.warm_up,
        "defined_share": dg.MetadataValue.json({name: round(float(share), 4) for name, share in zip(chosen.names, defined, strict=True)}),
        "infinite_made_undefined": sum(one.counts.infinite for one in done),
        "states": len(run.states),
        "periods": dg.MetadataValue.md("\n".join(table)),
        "periods_reused": run.reused,
        "periods_computed": len(computed),
        "seconds": round(seconds, 3),
        "process_peak_mib": process_peak_mib(),
    }
    if computed:
        said["kernel_seconds"] = round(sum(one.kernels for one in computed), 3)
        said["bars_per_second"] = round(sum(one.counts.cells for one in computed) / max(spent, 1e-9))
    return said


def process_peak_mib() -> int:
    """The most memory this process ever held; a run of its own process is measured by it."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20


def features_array(out: Reader, pipeline: Pipeline, panel: Panel) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The published features as float32 (T, S, F), NaN where absent, and their names in column order."""
    names = tuple(out.facts(pipeline.features)["names"])
    frame = read_periods(out, pipeline.features, pipeline)
    cells = cells_of(panel, frame)
    values = np.full((*panel.shape, len(names)), np.nan, np.float32)
    values[cells.row, cells.column] = np.stack([frame[name].to_numpy() for name in names], axis=1)
    return values, names


class Rebuild(dg.Config):
    """full: compute every period again, whatever an earlier run left."""

    full: bool = False


def newest(context: dg.AssetExecutionContext, place: Workplace, recipe: Recipe) -> Materialization | None:
    """The newest materialization of this asset; None where its manifest is damaged: then everything is computed again."""
    try:
        return latest(context.instance, place, recipe.asset)
    except CorruptionError as error:
        context.log.warning(f"{error.what} ({error.where}): every period is computed again")
        return None


def features_asset(pipeline: Pipeline, checks: Sequence[dg.AssetChecksDefinition]) -> Node:
    """features_daily or features_intraday; `checks` judge it."""
    recipe = features_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="features",
        kinds={"numba", "parquet"},
        description=f"Feature set {pipeline.feature_set} over every row, and runner states",
    )
    def features(context: dg.AssetExecutionContext, config: Rebuild, platform: Platform) -> dg.MaterializeResult:
        last = None if config.full else newest(context, platform.place, recipe)
        return publish_features(platform.publication(context, recipe), pipeline, last, context.log.info)

    return Node(recipe, features, checks)
