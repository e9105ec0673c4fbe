"""feed_skew: each traded session's first bars against final ones (T4), and the stored comparisons of feeds that runners ask for (T5)."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from trading_platform.assets.bars import PERIOD
from trading_platform.assets.inputs import Reads, Recipe, latest_of_every
from trading_platform.assets.live import ONE_RUN, SESSIONS, journal_of, materialize_sessions
from trading_platform.assets.live_parity import before_state, era_of
from trading_platform.assets.node import Node, of
from trading_platform.assets.pipelines import DAILY, INTRADAY, PIPELINES, Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader, file_bytes
from trading_platform.assets.resources import Bundles, Platform
from trading_platform.assets.skew_fold import SkewFold, Table, corrections_of, with_bars, with_table
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.feed_skew import FeedSkew
from trading_platform.contracts.journal import Kind, Record
from trading_platform.registry.object_store import ObjectStore

if TYPE_CHECKING:
    from trading_platform.contracts.model import Model

TOLD, PUBLISHED = "told", "published"  # the journal's own corrections and late bars; the bars in the lake
CODE = ("features", "engine", "contracts.journal", "contracts.journaled_row", "contracts.feed_skew", "research.feed_skew")
SKEW = Recipe(
    "feed_skew",
    (*CODE, "assets.skew_fold", "assets.feed_skew"),
    {
        "live_journal": Reads.SAME,
        **{asset: Reads.WHOLE for pipeline in (DAILY, INTRADAY) for asset in (pipeline.bars, pipeline.features)},
    },
)
STORED = Recipe("feed_skew_reports", ("contracts.feed_skew", "assets.feed_skew"), {"feed_skew": Reads.EVERY})
COUNTS = ("rows", "bars", "bars_differ", "only_left", "only_right", "cells", "differing", "beyond", "decisions", "flipped", "rows_flipped")
Reports = Mapping[str, list[FeedSkew]]


class SkewOfRun:
    """Reports of a journal's sessions, made once per run however many of them are asked for."""

    def __init__(self, place: Workplace, store: ObjectStore) -> None:
        self._place, self._store = place, store
        self._found: dict[str, Reports] = {}

    def of(self, out: Reader, session_id: str) -> Reports:
        """One session's reports by version; none for a session without a row."""
        if session_id not in self._found:
            self._found |= {session_id: {}} | self._read(out, session_id)
        return self._found[session_id]

    def _read(self, out: Reader, session_id: str) -> Mapping[str, Reports]:
        with journal_of(self._place, session_id) as reader:
            after = before_state(reader, era_of(list(reader.records(Kind.SESSION_OPENED)), session_id))
            rows = list(reader.records(Kind.ROW, after=after))
            if not rows:
                return {}
            started = list(reader.records(Kind.RUN_STARTED, until=rows[0].seq))
            pipeline = next(p for p in PIPELINES if p.timeframe == rows[0].body["timeframe"])
            corrections = corrections_of(reader.records(Kind.ROW, Kind.LATE_BAR, Kind.CORRECTION, after=after))
            fold = skew_fold(out, pipeline, self._store, corrections.cells, rows, started[-1] if started else None)
            return fold.read(reader.records(Kind.SNAPSHOT, Kind.ROW, Kind.DECISION, after=after))


def skew_fold(
    out: Reader, pipeline: Pipeline, store: ObjectStore, cells: Mapping[Any, Any], rows: list[Record], started: Record | None
) -> SkewFold:
    """The comparison of one pipeline. cells: later versions that the journal holds; rows: its row records."""
    from trading_platform.contracts.errors import CorruptionError
    from trading_platform.features.catalog.registry import feature_set
    from trading_platform.registry.bundle import find_bundle, load_bundle

    chosen = feature_set(str(out.facts(pipeline.features).get("feature_set", pipeline.feature_set)))

    def load(bundle_id: str) -> "Model":
        label = find_bundle(store, bundle_id)
        if label is None:
            raise CorruptionError(f"bundle {bundle_id[:12]} of a decision is gone", "object store", "restore it from its backup")
        return load_bundle(store, label, bundle_id)

    published = dict(out.facts(pipeline.bars)["feed"]) if out.holds(pipeline.bars) else {}
    live = dict(started.body.get("feed", published)) if started is not None else published
    versions: dict[str, Any] = {TOLD: (({**live, "bar_version": "final"}, live), lambda panel: with_bars(panel, cells))}
    table = table_of(out, pipeline, sorted({int(row.body["session"]) for row in rows}))
    if table is not None and all(int(row.body["timestamp"]) in table.rows for row in rows):
        versions[PUBLISHED] = ((published, live), lambda panel: with_table(panel, table))
    instead = newest_bundle(store, pipeline, chosen.hash, int(rows[0].body["session"]))
    return SkewFold(out.place.profile(pipeline), chosen, load, versions, instead)


def newest_bundle(store: ObjectStore, pipeline: Pipeline, feature_hash: str, session: int) -> "Model | None":
    """The pipeline's bundle that was trained last before a session (day), on this feature version; None where there is none."""
    from trading_platform.contracts.model import parse_label
    from trading_platform.registry.bundle import labels, load_bundle

    models = [load_bundle(store, label) for label in labels(store) if parse_label(label)[0] == pipeline.model]
    fit = [model for model in models if model.config.feature_hash == feature_hash and model.config.trained_through < session]
    return max(fit, key=lambda model: (model.config.trained_through, model.bundle_id), default=None)


def table_of(out: Reader, pipeline: Pipeline, sessions: list[int]) -> Table | None:
    """The published bars of some sessions (days), only the periods they lie in being read; None where there are none."""
    import polars as pl

    from trading_platform.contracts.journaled_row import BAR_KEYS

    name, _ = PERIOD[pipeline.timeframe]
    periods = sorted({f"{name}={np.datetime64(day, 'D')!s:.{4 if name == 'year' else 7}}" for day in sessions})
    held = {output.partition for output in out.inputs.outputs(pipeline.bars)}
    if not held.issuperset(periods):
        return None
    frame = pl.concat([out.read(pipeline.bars, period) for period in periods])
    frame = frame.filter(pl.Series(np.isin(frame["session"].to_physical().to_numpy(), sessions)))
    stamps = frame["timestamp"].to_physical().to_numpy()
    times, ids = np.unique(stamps), frame["instrument_id"].unique().sort().to_list()
    columns = {instrument: number for number, instrument in enumerate(ids)}
    at = np.searchsorted(times, stamps), frame["instrument_id"].replace_strict(columns, return_dtype=pl.Int64).to_numpy()
    present = np.zeros((len(times), len(ids)), np.bool_)
    present[at] = True
    fields = {field: np.full(present.shape, np.nan) for field in BAR_KEYS if field in frame.columns}
    for field, values in fields.items():
        values[at] = frame[field].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return Table({int(stamp): row for row, stamp in enumerate(times)}, columns, fields, present)


def publish_skew(out: Publication, skew: SkewOfRun) -> dg.MaterializeResult:
    """One session's comparisons."""
    found = skew.of(out, out.partition)
    if not any(found.values()):
        return out.nothing("the session has no row of this feature version")
    out.file("reports", canonical_bytes({name: list(reports) for name, reports in found.items()}), ".json", rows=1)
    numbers = {f"{name}_{key}": value for name, reports in found.items() for key, value in _numbers(reports).items()}
    shown = {f"{name}_worst": dg.MetadataValue.md(_worst(reports)) for name, reports in found.items()}
    return out.result({**numbers, **shown}, facts=numbers)


def _numbers(reports: list[FeedSkew]) -> dict[str, float]:
    return {name: sum(getattr(report, name) for report in reports) for name in COUNTS}


def _worst(reports: list[FeedSkew]) -> str:
    rows = [
        f"| {f.name} | {f.differing} of {f.cells} | {f.beyond} | {f.largest:.3g} | {f.instrument_id or ''} |"
        for report in reports
        for f in report.worst()
    ]
    return "\n".join(["| feature | cells that differ | beyond the tolerance | largest | instrument |", "|---|---|---|---|---|", *rows])


def publish_reports(out: Publication) -> dg.MaterializeResult:
    """Every pair of feeds over all its sessions, as one report each, where runners look."""
    from trading_platform.research.feed_skew import store

    joined: dict[str, FeedSkew] = {}
    for _, item in sorted(out.inputs.upstream.items()):
        for output in item.manifest.outputs:
            stored = parse(file_bytes(out.place, output))
            for plain in (one for reports in stored.values() for one in reports):
                report = FeedSkew.from_bytes(canonical_bytes(plain), output.uri)
                known = joined.get(report.subject)
                joined[report.subject] = report if known is None else known.joined(report)
    if not joined:
        return out.nothing("no session was compared")
    for subject, report in sorted(joined.items()):
        store(out.place.lake.root, report)
        out.file(subject, report.to_bytes(), ".json", rows=1)
    lines = [_line(report) for _, report in sorted(joined.items())]
    table = "\n".join(["| feeds | recipe | sessions | decisions that flip | gate |", "|---|---|---|---|---|", *lines])
    passed = sum(not report.failures() for report in joined.values())
    return out.result({"reports": len(joined), "passed": passed, "by_pair": dg.MetadataValue.md(table)}, facts={"passed": passed})


def _line(report: FeedSkew) -> str:
    verdict = "; ".join(report.failures()) or "passed"
    return f"| {_pair(report)} | {report.alpha} | {len(report.sessions)} | {report.flipped} of {report.decisions} | {verdict} |"


def _pair(report: FeedSkew) -> str:
    return " / ".join(", ".join(str(value) for _, value in sorted(feed.items())) for feed in (report.left, report.right))


def skew_assets() -> tuple[Node, Node]:
    """feed_skew and feed_skew_reports."""

    @dg.asset(
        **of(SKEW),
        group_name="live",
        kinds={"numba", "json"},
        partitions_def=SESSIONS,
        backfill_policy=ONE_RUN,
        description="First bars against final ones, per session",
    )
    def feed_skew(context: dg.AssetExecutionContext, platform: Platform, bundles: Bundles) -> dg.MaterializeResult:
        skew = SkewOfRun(platform.place, bundles.store())
        return materialize_sessions(context, platform, SKEW, lambda out: publish_skew(out, skew))

    @dg.asset(**of(STORED), group_name="live", kinds={"json"}, description="Comparisons of feeds over all sessions, for the runner (T5)")
    def feed_skew_reports(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_reports(platform.publication(context, STORED))

    @dg.asset_check(asset="feed_skew", name="seldom_flips", description="later versions of the bars flip at most 2 % of the decisions (T4)")
    def seldom_flips(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        return judge_flips(context.instance, platform.place)

    return Node(SKEW, feed_skew, (seldom_flips,)), Node(STORED, feed_skew_reports)


def judge_flips(instance: dg.DagsterInstance, place: Workplace) -> dg.AssetCheckResult:
    """All sessions together; a warning, because live_parity is what stops promotions."""
    from trading_platform.contracts.feed_skew import MOST_FLIPPED

    facts = [found.manifest.facts for found in latest_of_every(instance, place, "feed_skew").values()]
    share = {}
    for name in (TOLD, PUBLISHED):
        decisions, flipped = (sum(int(each.get(f"{name}_{key}", 0)) for each in facts) for key in ("decisions", "flipped"))
        share[f"{name}_share"] = flipped / decisions if decisions else 0.0
    said = {"sessions": len(facts), **share}
    return dg.AssetCheckResult(passed=max(share.values()) <= MOST_FLIPPED, severity=dg.AssetCheckSeverity.WARN, metadata=said)
