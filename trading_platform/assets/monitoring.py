"""A model in use against what was promised of it: live P&L, cost, predictions by CUSUM; its age; short Sharpes as keys (T32, T25)."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.bars import period_files, read_periods
from trading_platform.assets.inputs import Reads, Recipe, latest
from trading_platform.assets.node import Node, of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.ledger import LedgerReader

if TYPE_CHECKING:
    import polars as pl

    from trading_platform.contracts.profile import MonitorRules
    from trading_platform.research.monitoring import Detector, Watched

SESSIONS_A_YEAR = 252.0
DETECTORS = ("pnl", "cost", "prediction")
SHIFTS = (0.1, 0.25, 0.5, 1.0, 2.0)  # standard deviations a session
RECENT = 21  # sessions an alarm stays news
Floats = NDArray[np.float64]


def monitor_asset_name(pipeline: Pipeline) -> str:
    """model_monitor_daily or model_monitor_intraday."""
    return f"model_monitor_{pipeline.name}"


def monitor_recipe(pipeline: Pipeline) -> Recipe:
    """The watch is a function of what was promised (report, predictions), what traded, which model may trade now, and the newest bar."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        profile = place.profile(pipeline)
        rules = {name: dataclasses.asdict(getattr(profile, name)) for name in ("costs", "models", "monitor")}
        account, mode = pipeline.account(place.settings.account), place.settings.mode
        return {**rules, "account": account, "mode": mode, "bundle_id": in_authority(place, pipeline.slot, account, mode)}

    whole = dict.fromkeys((pipeline.bars, pipeline.asset("alpha_lightgbm"), pipeline.asset("walk_forward_report")), Reads.WHOLE)
    every = (pipeline.asset("model_bundle"), pipeline.asset("promotion"), "live_journal", "session_report")
    upstream = {**whole, **dict.fromkeys(every, Reads.EVERY)}
    return Recipe(monitor_asset_name(pipeline), ("research.monitoring", "assets.monitoring", "calendar"), upstream, parameters)


@dataclasses.dataclass(frozen=True, slots=True)
class Promise:
    """What the walk-forward says is normal. returns: (n,) net per session. distance: (m,) of each session's alphas from all of them, which
    `alphas` holds in order."""

    returns: Floats
    distance: Floats
    alphas: Floats

    @property
    def annual_sharpe(self) -> float:
        """Of the net returns."""
        from trading_platform.research.metrics import annual_sharpe

        return annual_sharpe(self.returns, SESSIONS_A_YEAR)


@dataclasses.dataclass(frozen=True, slots=True)
class Lived:
    """Traded sessions in order. session: (T,) days. returns: net of costs, fraction. cost_bps: realised less modelled per traded value, NaN
    without a fill. distance: of the session's alphas from the promise's, NaN without alphas."""

    session: NDArray[np.int64]
    returns: Floats
    cost_bps: Floats
    distance: Floats


def in_authority(place: Workplace, slot: str, account: str, mode: str) -> str:
    """The bundle of the ledger's newest entry that still lets one trade this slot (a rollback's, after a rollback), empty without one."""
    ledger = LedgerReader(place.settings.ledger_path)
    for entry in reversed(ledger.entries()):
        if (entry.slot, entry.account, entry.mode) == (slot, account, mode) and ledger.authority(entry.bundle_id, account, mode) == entry:
            return entry.bundle_id
    return ""


def promoted_model(out: Reader, pipeline: Pipeline) -> Mapping[str, Any] | None:
    """Facts of the bundle that may trade, None where none may."""
    bundles, wanted = pipeline.asset("model_bundle"), out.inputs.parameters["bundle_id"]
    for (asset, _), item in out.inputs.upstream.items():
        if asset == bundles and wanted and item.manifest.facts.get("bundle_id") == wanted:
            return item.manifest.facts
    return None


def promise_of(out: Reader, pipeline: Pipeline) -> Promise:
    """Read the report's net returns and the walk-forward's predictions."""
    import polars as pl

    from trading_platform.research.monitoring import distance

    returns = out.read(pipeline.asset("walk_forward_report"), "net_returns", columns=["session", "model"])
    returns = returns.group_by("session", maintain_order=True).agg(((pl.col("model") + 1.0).product() - 1.0).alias("model"))
    predictions = out.read(pipeline.asset("alpha_lightgbm"), "predictions", columns=["session", "alpha"])
    alphas = np.sort(predictions["alpha"].to_numpy())
    by_session = predictions.sort("session", maintain_order=True).partition_by("session", maintain_order=True)
    return Promise(returns["model"].to_numpy(), np.array([distance(alphas, part["alpha"].to_numpy()) for part in by_session]), alphas)


def traded_sessions(out: Reader) -> dict[int, str]:
    """Session day -> the session id that counts: of an account and mode's repetitions of a date the last one."""
    wanted = f"{out.inputs.parameters['account']}/{out.inputs.parameters['mode']}/"
    found: dict[int, str] = {}
    for asset, session_id in sorted(out.inputs.upstream, key=lambda key: (key[0], _number(key[1]))):
        if asset == "session_report" and session_id.startswith(wanted) and ("live_journal", session_id) in out.inputs.upstream:
            found[int(out.facts("live_journal", session_id)["session"])] = session_id
    return dict(sorted(found.items()))


def _number(session_id: str) -> int:
    last = session_id.rsplit("/", 1)[-1]
    return int(last) if last.isdigit() else 0


def lived(out: Reader, pipeline: Pipeline, promise: Promise) -> Lived:
    """Every traded session's return, cost difference and predictions' distance."""
    from trading_platform.research.monitoring import distance

    sessions = traded_sessions(out)
    returns, costs, apart = np.full((3, len(sessions)), np.nan)
    volumes = bar_volumes(out, pipeline) if sessions else None
    for place, session_id in enumerate(sessions.values()):
        pnl = out.read("session_report", "pnl", partition=session_id)
        before, after = float(pnl["equity_before"][0]), float(pnl["equity_after"][0])
        returns[place] = after / before - 1.0 if before > 0.0 else math.nan
        held = {file.partition.split("/")[0] for file in out.inputs.outputs("live_journal", session_id)}
        if "fills" in held and volumes is not None:
            fills = out.read("live_journal", "fills", partition=session_id)
            costs[place] = cost_difference(fills, volumes, -float(pnl["cost"].sum()), out.inputs.parameters["costs"])
        if "targets" in held:
            alphas = out.read("live_journal", "targets", columns=["alpha"], partition=session_id)["alpha"].drop_nulls().to_numpy()
            apart[place] = distance(promise.alphas, alphas)
    return Lived(np.array(list(sessions), dtype=np.int64), returns, costs, apart)


def bar_volumes(out: Reader, pipeline: Pipeline) -> "pl.DataFrame":
    """(instrument_id, timestamp, volume) of every bar, ascending in time."""
    return read_periods(out, pipeline.bars, pipeline).select("instrument_id", "timestamp", "volume").sort("timestamp")


def cost_difference(fills: "pl.DataFrame", volumes: "pl.DataFrame", realised: float, costs: Mapping[str, float]) -> float:
    """Realised less modelled cost, bps of the value traded; NaN where nothing was. realised: quote currency, positive = paid.

    Modelled is what the matcher charges each fill (T7): half the spread and impact x root of the share of its bar's volume.
    """
    import polars as pl

    if not fills.height:
        return math.nan
    joined = fills.sort("at").join_asof(
        volumes, left_on="at", right_on="timestamp", by="instrument_id", strategy="backward", check_sortedness=False
    )
    share = (pl.col("lots").abs() / pl.max_horizontal(pl.col("volume").fill_null(0.0), 1.0)).clip(upper_bound=1.0)
    value = pl.col("lots").abs() * pl.col("price")
    modelled = value * (costs["half_spread_bps"] + costs["impact_bps"] * share.sqrt()) * 1e-4
    traded, expected = joined.select(value.sum().alias("value"), modelled.sum().alias("modelled")).row(0)
    return float((realised - expected) / traded * 1e4) if traded > 0.0 else math.nan


def detectors_of(promise: Promise, rules: "MonitorRules") -> dict[str, "Detector"]:
    """The detectors by name, of equal shares in the false alarms; one whose reference is too short or constant is absent."""
    from trading_platform.contracts.errors import InputError
    from trading_platform.research import monitoring

    every, shift = SESSIONS_A_YEAR * len(DETECTORS) / rules.false_alarms_per_year, rules.shift
    found = {"cost": monitoring.for_noise("cost", "high", every, shift)}
    for name, reference, side in (("pnl", promise.returns, "low"), ("prediction", promise.distance, "high")):
        try:
            found[name] = monitoring.calibrated(name, reference, side, every, shift)  # type: ignore[arg-type]
        except InputError:
            continue  # said in the metadata: a detector that is not listed does not watch
    return {name: found[name] for name in DETECTORS if name in found}


def publish_monitor(out: Publication, pipeline: Pipeline) -> dg.MaterializeResult:
    """Run every detector over the traded sessions, ask every trigger, count the model's age."""
    import polars as pl

    from trading_platform.research import monitoring, monitoring_plot

    model = promoted_model(out, pipeline)
    if model is None or not out.holds(pipeline.asset("walk_forward_report")):
        return out.nothing("no model may trade" if model is None else "there is no walk-forward to compare with")
    promise = promise_of(out, pipeline)
    rules = out.place.profile(pipeline).monitor
    live, detectors = lived(out, pipeline, promise), detectors_of(promise, rules)
    series = {"pnl": live.returns, "cost": monitoring.learned_from_zero(live.cost_bps), "prediction": live.distance}
    watched = {name: monitoring.watch(detector, series[name]) for name, detector in detectors.items()}
    keys = monitoring.sharpe_triggers(rules)
    triggers = monitoring.trigger_rows(live.returns, promise.annual_sharpe, SESSIONS_A_YEAR, keys)
    columns = {"net_return": live.returns, "cost_difference_bps": live.cost_bps, "prediction_distance": live.distance}
    sums = {f"{name}_cusum": found.sums for name, found in watched.items()}
    days = pl.Series("session", live.session.astype(np.int32)).cast(pl.Date)
    out.table("sessions", pl.DataFrame({"session": days, **columns, **sums}), sort_by=())
    out.table("triggers", pl.DataFrame(triggers, schema_overrides={"breached": pl.Boolean}), sort_by=())
    facts = facts_of(out, pipeline, model, live, watched, triggers)
    shown = [(detectors[name], watched[name]) for name in detectors]
    plots = {"cusum": monitoring_plot.cusum_chart(live.session, shown, f"Watch of {model['label']}")} if live.session.size else {}
    return out.result(_said(facts, detectors, watched, triggers, promise), plots, facts)


def facts_of(
    out: Reader,
    pipeline: Pipeline,
    model: Mapping[str, Any],
    live: Lived,
    watched: Mapping[str, "Watched"],
    triggers: list[dict[str, Any]],
) -> dict[str, Any]:
    """What the checks and the sensor read. alarms: `<detector>:<date>` of every recent alarm, oldest first, then `<trigger>:<date>` of each
    breached trigger that a profile lets ask for a refit, dated by its window so that it asks once per window."""
    alarms = sorted(
        (int(live.session[place]), name) for name, found in watched.items() for place in found.alarms if place >= live.session.size - RECENT
    )
    for row in triggers:
        if row["breached"] and row["action"] == "refit":
            window = int(row["window"])
            alarms.append((int(live.session[(live.session.size - 1) // window * window]), str(row["trigger"])))
    newest = list(period_files(out, pipeline.bars, pipeline))[-1]
    last = int(out.read(pipeline.bars, newest, columns=["session"])["session"].to_physical().max())  # type: ignore[arg-type]
    calendar, rules = out.place.calendar, out.inputs.parameters["models"]
    age = calendar.position(last) - calendar.position(int(model["trained_through"]))
    return {
        "model": model["label"],
        "sessions": int(live.session.size),
        "alarms": [f"{name}:{np.datetime64(day, 'D')}" for day, name in alarms],
        "breached": [str(row["trigger"]) for row in triggers if row["breached"]],
        "age": age,
        "newest_session": str(np.datetime64(last, "D")),
        "max_age": rules["max_age_sessions"],
        "hard_max_age": rules["hard_max_age_sessions"],
        "stale": age > rules["max_age_sessions"],
    }


def _said(
    facts: Mapping[str, Any],
    detectors: Mapping[str, "Detector"],
    watched: Mapping[str, "Watched"],
    triggers: list[dict[str, Any]],
    promise: Promise,
) -> dict[str, Any]:
    from trading_platform.research.monitoring import delay

    head = "| detector | now | limit | false alarms a year | " + " | ".join(f"sessions to find {shift:g} sd" for shift in SHIFTS) + " |"
    rows = [head, "|---" * (4 + len(SHIFTS)) + "|"]
    references = {"pnl": promise.returns, "prediction": promise.distance}
    for name, detector in detectors.items():
        sums = watched[name].sums
        delays = " | ".join(f"{delay(detector, shift, references.get(name)):.0f}" for shift in SHIFTS)
        now = f"{sums[-1]:.2f}" if sums.size else "no session"
        rows.append(f"| {name} | {now} | {detector.limit:.2f} | {SESSIONS_A_YEAR / detector.every:.2f} | {delays} |")
    keys = ["| trigger | sessions | breached now | breached when all is well | action |", "|---|---|---|---|---|"]
    keys += [
        f"| {row['trigger']} | {row['window']} | {row['breached']} | {row['false_alarms']:.0%} of sessions | {row['action']} |"
        for row in triggers
    ]
    unwatched = [name for name in DETECTORS if name not in detectors]
    return {
        **{name: str(facts[name]) for name in ("model", "sessions", "newest_session")},
        "age_in_sessions": facts["age"],
        "alarms": ", ".join(facts["alarms"]),
        "stale": bool(facts["stale"]),
        "not_watched": ", ".join(unwatched),
        "detectors": dg.MetadataValue.md("\n".join(rows)),
        "triggers": dg.MetadataValue.md("\n".join(keys)),
        **({"expected_annual_sharpe": promise.annual_sharpe} if math.isfinite(promise.annual_sharpe) else {}),
        "events": dg.MetadataValue.json({name: facts[name] for name in ("alarms", "model", "age", "max_age")}),
    }


def monitor_asset(pipeline: Pipeline) -> Node:
    """model_monitor of a pipeline with its checks. They warn: a refit is the sensor's business, new risk on an old model the runner's."""
    recipe = monitor_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="registry",
        kinds={"polars", "parquet"},
        description="The promoted model's live P&L, cost and predictions against what its walk-forward promised, and its age",
    )
    def model_monitor(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_monitor(platform.publication(context, recipe), pipeline)

    @dg.asset_check(asset=recipe.asset, name="on_course", description="no detector rang in the last 21 sessions (T32)")
    def on_course(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        facts = _facts(context, platform, recipe.asset)
        said = {"alarms": ", ".join(facts.get("alarms", [])), "breached_triggers": ", ".join(facts.get("breached", []))}
        return dg.AssetCheckResult(passed=not facts.get("alarms"), severity=dg.AssetCheckSeverity.WARN, metadata=said)

    @dg.asset_check(asset=recipe.asset, name="fresh", description="the promoted model is no older than its max_age (T25, MODL-25)")
    def fresh(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        facts = _facts(context, platform, recipe.asset)
        if "age" not in facts:
            return dg.AssetCheckResult(passed=True, metadata={"verdict": str(facts.get("empty", "nothing to judge"))})
        severity = dg.AssetCheckSeverity.ERROR if facts["age"] > facts["hard_max_age"] else dg.AssetCheckSeverity.WARN
        said = {"age": facts["age"], "max_age": facts["max_age"], "no_new_risk_past": facts["hard_max_age"], "model": str(facts["model"])}
        return dg.AssetCheckResult(passed=not facts["stale"], severity=severity, metadata=said)

    return Node(recipe, model_monitor, (on_course, fresh))


def _facts(context: dg.AssetCheckExecutionContext, platform: Platform, asset: str) -> Mapping[str, Any]:
    found = latest(context.instance, platform.place, asset)
    return {} if found is None else found.manifest.facts
