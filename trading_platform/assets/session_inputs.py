"""What a runner is given for a pipeline: universe, corporate actions, feature states, feed, calendar, behind one pointer file."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from trading_platform.assets.evidence import NOTHING_TO_JUDGE
from trading_platform.assets.feature_periods import STATE_FILES, state_name
from trading_platform.assets.inputs import Reads, Recipe
from trading_platform.assets.node import Node, of
from trading_platform.assets.panels import OPTIONAL_FIELDS, actions_of, market_fields, set_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import output_named
from trading_platform.assets.resources import Platform
from trading_platform.assets.walk_forward import sectors_of
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.instruments import Instrument, symbol_of
from trading_platform.contracts.manifest import OutputFile
from trading_platform.contracts.session_inputs import (
    ExternalField,
    FileRef,
    SessionInputs,
    StateRef,
    Universe,
    encode_actions,
    pointer_path,
)

if TYPE_CHECKING:
    import polars as pl

INPUTS_CODE = ("contracts.session_inputs", "market_data", "calendar", "assets.session_inputs")


def inputs_recipe(pipeline: Pipeline) -> Recipe:
    """The pointer is a function of bars (actions, sectors), universe and feature states."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        return {"calendar": place.calendar.hash}

    upstream = dict.fromkeys((pipeline.bars, pipeline.asset("universe"), pipeline.features), Reads.WHOLE)
    return Recipe(pipeline.asset("session_inputs"), INPUTS_CODE, upstream, parameters)


def universe_value(members: "pl.DataFrame", sectors: Mapping[str, str]) -> Universe:
    """The published universe: members per session, and their average daily shares known before it (dollar volume / last price)."""
    import polars as pl

    from trading_platform.calendar import date_of
    from trading_platform.market_data.universe import members_by_session

    known = members.filter(pl.col("member") & (pl.col("price") > 0)).with_columns((pl.col("adv_20") / pl.col("price")).alias("adv"))
    adv: dict[str, dict[str, float]] = {}
    for day, name, lots in known.select(pl.col("session").cast(pl.String), "instrument_id", "adv").iter_rows():
        adv.setdefault(day, {})[name] = round(lots, 2)
    ids = tuple(members["instrument_id"].unique().sort().to_list())
    by_session = {date_of(int(day)).isoformat(): tuple(names) for day, names in members_by_session(members).items()}
    return Universe(ids, {name: sectors[name] for name in ids if name in sectors}, by_session, adv)


def publish_inputs(out: Publication, pipeline: Pipeline) -> dg.MaterializeResult:
    """Write universe and actions, and point at them and at the states the features asset published."""
    if not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    universe = universe_value(out.read(pipeline.asset("universe"), "members"), sectors_of(out, pipeline))
    rows = [(a.ex_date, a.instrument_id, a.split_ratio, a.cash_dividend) for a in actions_of(out, pipeline).actions]
    published = out.file("universe", universe.to_bytes(), ".json", rows=len(universe.instrument_ids))
    actions = out.file("corporate_actions", encode_actions(rows), ".json", rows=len(rows))
    chosen, features = set_of(out, pipeline), out.facts(pipeline.features)
    inputs = SessionInputs(
        pipeline=pipeline.name,
        slot=pipeline.slot,
        timeframe=pipeline.timeframe,
        feature_set=chosen.name,
        feature_hash=str(features["feature_hash"]),
        feed=dict(out.facts(pipeline.bars)["feed"]),
        calendar=out.place.calendar.name,
        calendar_hash=out.place.calendar.hash,
        instruments=tuple(Instrument(name, symbol_of(name)) for name in universe.instrument_ids),
        universe=_ref(published),
        corporate_actions=_ref(actions),
        fields=tuple(name for name in chosen.fields if name in OPTIONAL_FIELDS),
        external=external_fields(market_fields(chosen)),
        states=tuple(_state(out, pipeline, known_at) for known_at in features["states"]),
    )
    out.file("pointer", inputs.to_bytes(), ".json")
    _write_pointer(out.place, pipeline, inputs)
    said = {
        "instruments": len(inputs.instruments),
        "sessions": len(universe.members),
        "states": len(inputs.states),
        "universe_hash": universe.hash,
    }
    return out.result({**said, "pointer": pointer_path(out.place.lake.root, pipeline.name).relative_to(out.place.lake.root).as_posix()})


def external_fields(names: Sequence[str]) -> tuple[ExternalField, ...]:
    """Market-wide fields and the indexes of the feed that say them live, as the panel joins them."""
    from trading_platform.market_data.panel import MAX_AGE_SESSIONS
    from trading_platform.market_data.sources.files import FIELD_SYMBOLS

    symbols = {field: symbol for symbol, field in FIELD_SYMBOLS.items()}
    return tuple(ExternalField(name, symbols[name], MAX_AGE_SESSIONS) for name in names)


def _ref(output: OutputFile) -> FileRef:
    return FileRef(output.uri, output.sha256)


def _state(out: Publication, pipeline: Pipeline, known_at: int) -> StateRef:
    manifest = out.inputs.manifest(pipeline.features)
    under = state_name(str(manifest.facts["feature_hash"]), known_at)
    return StateRef(known_at, *(_ref(output_named(manifest, f"{under}/{kind}")) for kind in STATE_FILES))


def _write_pointer(place: Workplace, pipeline: Pipeline, inputs: SessionInputs) -> None:
    """Where runners look; written last, so that it never names a file that is not there."""
    from trading_platform.market_data.lake import write_atomically

    path = pointer_path(place.lake.root, pipeline.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, inputs.to_bytes())


def inputs_asset(pipeline: Pipeline) -> Node:
    """session_inputs of a pipeline with its check."""
    recipe = inputs_recipe(pipeline)

    @dg.asset(**of(recipe), group_name="live", kinds={"json"}, description="Universe, corporate actions and feature states for the runner")
    def session_inputs(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_inputs(platform.publication(context, recipe), pipeline)

    @dg.asset_check(asset=recipe.asset, blocking=True, name="readable", description="every file the pointer names is there with its sha256")
    def readable(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        return judge_inputs(platform.place, pipeline)

    return Node(recipe, session_inputs, (readable,))


def judge_inputs(place: Workplace, pipeline: Pipeline) -> dg.AssetCheckResult:
    """Read the pointer and everything it names, as a runner does at its start."""
    from trading_platform.contracts.errors import CorruptionError, InputError

    root = place.lake.root
    if not pointer_path(root, pipeline.name).is_file():
        return dg.AssetCheckResult(passed=True, metadata=NOTHING_TO_JUDGE)
    try:
        inputs = SessionInputs.load(root, pipeline.name)
        refs = [inputs.universe, inputs.corporate_actions, *(ref for state in inputs.states for ref in (state.program, state.factors))]
        for ref in refs:
            ref.read(root)
        Universe.from_bytes(inputs.universe.read(root))
    except (CorruptionError, InputError) as error:
        return dg.AssetCheckResult(passed=False, metadata={"error": error.what})
    return dg.AssetCheckResult(passed=True, metadata={"files": len(refs)})
