"""Checks of the features asset: the published table and states, held against the bars they were made from (features.proof).

Bounded in time whatever the panel: what holds the published table to a second computation does so on the whole panel up to WHOLE_CELLS and
on a sample above; the other proofs take a sample, the newest rows and evenly spaced instruments. The metadata say which.
"""

# No postponed annotations here: Dagster reads those of a check's context as they stand.
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.evidence import NOTHING_TO_JUDGE
from trading_platform.assets.features import features_array
from trading_platform.assets.panels import panel_of, set_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.reading import Reader, reader
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.panel import Panel

if TYPE_CHECKING:
    from trading_platform.features.program import FeatureSet
    from trading_platform.features.proof import Proof, Verdict

CHECKS = {
    "finite": "no infinite value; no feature undefined in most warm cells",
    "causal": "the future, changed, moves no earlier feature (I1)",
    "chunks": "any split into chunks, and row by row, gives the same bits (I2)",
    "restart": "the published states go on to the published rows, bit for bit",
    "warm_up": "begun later, every feature is the same once its warm-up has passed",
    "scale": "prices in another unit move no feature but a level, a split moves none (T1)",
}
OUTLIERS = "outliers"  # warns: a crash is no defect
WHOLE_CELLS = 2**20  # rows x instruments
SAMPLE_ROWS, SAMPLE_COLUMNS = 2048, 32
RESTART_ROWS = 64
VALIDATED_CELLS = 2**18
SEED = 7


def feature_checks(pipeline: Pipeline) -> dg.AssetChecksDefinition:
    """The checks of features_daily or features_intraday; each blocks, and a promotion demands each."""
    specs = [dg.AssetCheckSpec(name, asset=pipeline.features, blocking=True, description=said) for name, said in CHECKS.items()]
    specs += [dg.AssetCheckSpec(OUTLIERS, asset=pipeline.features, description="few values are far from their feature's median (FEAT-15)")]

    @dg.multi_asset_check(specs=specs, name=f"{pipeline.features}_checks")
    def checks(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterable[dg.AssetCheckResult]:
        yield from judge_features(context.instance, platform.place, pipeline)

    return checks


@dataclass(frozen=True, slots=True)
class Judged:
    """What is judged: everything published, float32 (T, S, F), and the sample that the costly proofs take."""

    seen: Reader
    panel: Panel
    chosen: "FeatureSet"
    published: NDArray[np.float32]
    sample: Panel


def judge_features(instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline) -> Iterable[dg.AssetCheckResult]:
    """Every check of the newest materialization; one that the bars are too few for fails, for nothing was proved."""
    from trading_platform.features.perturb import sample

    asset = pipeline.features
    seen = reader(instance, place, pipeline.bars, pipeline.asset("universe"), asset)
    if not seen.holds(asset):
        named = (*CHECKS, OUTLIERS)
        yield from (dg.AssetCheckResult(check_name=name, asset_key=asset, passed=True, metadata=NOTHING_TO_JUDGE) for name in named)
        return
    panel, chosen = panel_of(seen, pipeline), set_of(seen, pipeline)
    told = str(seen.facts(asset)["feature_hash"])
    if told != chosen.hash:
        said = {"verdict": f"published {told[:12]}, the code computes {chosen.hash[:12]}: materialize {asset} again"}
        yield from (dg.AssetCheckResult(check_name=name, asset_key=asset, passed=False, metadata=said) for name in (*CHECKS, OUTLIERS))
        return
    published, _ = features_array(seen, pipeline, panel)
    judged = Judged(seen, panel, chosen, published, sample(panel, SAMPLE_ROWS, SAMPLE_COLUMNS))
    for verdict, on in verdicts_of(judged, pipeline):
        yield dg.AssetCheckResult(
            check_name=verdict.check, asset_key=asset, passed=verdict.passed is True, metadata={**said_of(verdict), "judged_on": on}
        )
    yield outliers(judged, asset)


def outliers(judged: Judged, asset: str) -> dg.AssetCheckResult:
    """What `validate_features` finds in the members' warm cells, every n-th row of a large panel."""
    from trading_platform.features.validate import validate_features

    rows, width = judged.panel.shape
    each = slice(None, None, max(rows * width // VALIDATED_CELLS, 1))
    warm = judged.panel.present & judged.panel.member & (np.cumsum(judged.panel.present, axis=0) >= judged.chosen.warm_up)
    health = validate_features(judged.published[each], judged.chosen.names, warm[each], judged.chosen.level)
    worst = sorted(health, key=lambda one: (not one.finding, -one.outliers))[:10]
    lines = [
        f"| {h.feature} | {h.undefined / max(h.cells, 1):.1%} | {h.infinite} | {h.outliers} | {h.worst:.1f} | {h.finding} |" for h in worst
    ]
    head = "| feature | undefined | infinite | far out | largest robust z | finding |\n|---|---|---|---|---|---|"
    said = {"worst": dg.MetadataValue.md("\n".join([head, *lines])), "judged_on": f"every {each.step}. row of {width} instruments"}
    passed = not any(one.finding for one in health)
    return dg.AssetCheckResult(check_name=OUTLIERS, asset_key=asset, passed=passed, severity=dg.AssetCheckSeverity.WARN, metadata=said)


def verdicts_of(judged: Judged, pipeline: Pipeline) -> Iterable[tuple["Verdict", str]]:
    """Each verdict and what it was found on."""
    from trading_platform.features.proof import Proof

    whole, small = Proof(judged.chosen, judged.panel), Proof(judged.chosen, judged.sample)
    rows, width = judged.panel.shape
    everything, part = f"all {rows} rows of {width} instruments", "the newest {} rows of {} instruments".format(*judged.sample.shape)
    generator = np.random.default_rng(SEED)
    yield whole.finite(judged.published), everything
    if rows * width <= WHOLE_CELLS:
        yield whole.causal(generator, (rows // 2, rows * 4 // 5) if rows > 2 else (), judged.published), everything
    else:
        yield small.causal(generator), f"{part}; the published table itself is held to a second computation by `restart`"
    yield small.chunks(generator), part
    yield published_restart(judged, whole, small, pipeline), f"{part}, and the published states on {everything}"
    yield small.warm_up(), part
    yield small.scale(), part


def published_restart(judged: Judged, whole: "Proof", small: "Proof", pipeline: Pipeline) -> "Verdict":
    """Restarts within the sample, and from every published state to the published rows after it."""
    from trading_platform.features.program import Program

    found = small.restart()
    for state in judged.seen.facts(pipeline.features)["states"]:
        start = int(np.searchsorted(judged.panel.known_at, int(state), side="right"))
        rows = judged.panel.rows(start, min(start + RESTART_ROWS, judged.panel.shape[0]))
        if not rows.shape[0]:
            continue
        program = Program(judged.chosen, judged.panel.instrument_ids)
        program.load_state(judged.seen.read_file(pipeline.features, f"feature-state/{judged.chosen.hash[:16]}/{state}/program"))
        mine = judged.published[start : start + rows.shape[0]]
        found = found.joined(
            whole.against("restart", mine, program.step(rows), start, "after a restart from the published state before it")
        )
    return found


def said_of(verdict: "Verdict") -> dict[str, Any]:
    """Metadata of a verdict: what was done, and of a failure the feature, the first bad bar and both values."""
    said: dict[str, Any] = {"verdict": verdict.said if verdict.passed is not None else f"not judged, too few bars: {verdict.said}"}
    said["cells_compared"] = verdict.compared
    if verdict.findings:
        first = min(verdict.findings, key=lambda finding: (finding.timestamp, finding.feature))
        said |= {"feature": first.feature, "timestamp": first.when, "instrument": first.instrument_id}
        said |= {"expected": repr(first.expected), "got": repr(first.got)}
        said["findings"] = dg.MetadataValue.md(_table(verdict))
    return said


def _table(verdict: "Verdict") -> str:
    shown: list[Mapping[str, str]] = [
        {
            "feature": f.feature,
            "first bad bar": f.when,
            "instrument": f.instrument_id,
            "expected": repr(f.expected),
            "got": repr(f.got),
            "why": f.why,
        }
        for f in verdict.findings[:40]
    ]
    rows = [f"| {' | '.join(row.values())} |" for row in shown]
    return "\n".join([f"| {' | '.join(shown[0])} |", "|---" * len(shown[0]) + "|", *rows])
