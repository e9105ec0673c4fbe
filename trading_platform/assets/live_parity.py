"""live_parity: each traded session's features, alphas and decisions against the batch world, and a check that stops promotions (T35)."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.bars import PERIOD
from trading_platform.assets.inputs import Reads, Recipe, latest_of_every
from trading_platform.assets.live import ONE_RUN, SESSIONS, journal_of, materialize_sessions
from trading_platform.assets.node import Node, of
from trading_platform.assets.parity import UNEXPLAINED, Batch, ParityFold, SessionParity, compare
from trading_platform.assets.pipelines import DAILY, INTRADAY, PIPELINES, Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader
from trading_platform.assets.resources import Bundles, Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.errors import CorruptionError
from trading_platform.contracts.journal import JournalReader, Kind, Record
from trading_platform.registry.object_store import ObjectStore

PARITY = Recipe(
    "live_parity",
    ("features", "engine", "contracts.journal", "contracts.journaled_row", "assets.parity", "assets.live_parity"),
    {"live_journal": Reads.SAME, DAILY.features: Reads.WHOLE, INTRADAY.features: Reads.WHOLE},
)


class ParityOfRun:
    """Parity of a journal's sessions, compared once per run however many of them are asked for."""

    def __init__(self, place: Workplace, store: ObjectStore) -> None:
        self._place = place
        self._store = store
        self._found: dict[str, SessionParity] = {}

    def of(self, out: Reader, session_id: str) -> SessionParity:
        """One session's parity; a session that decided no row compares nothing."""
        if session_id not in self._found:
            self._found |= self._compare(out, session_id)
        return self._found[session_id]

    def _compare(self, out: Reader, session_id: str) -> dict[str, SessionParity]:
        """This session and all after it, from where the journal's time last began anew."""
        with journal_of(self._place, session_id) as reader:
            opened = list(reader.records(Kind.SESSION_OPENED))
            after = before_state(reader, era_of(opened, session_id))
            found = {record.session_id: SessionParity(record.session_id) for record in opened if record.seq > after}
            rows = list(reader.records(Kind.ROW, after=after))
            if not rows:
                return found
            pipeline = next(p for p in PIPELINES if p.timeframe == rows[0].body["timeframe"])
            days = sorted({int(record.body["session"]) for record in rows})
            fold = parity_fold(out, pipeline, days, self._store)
            return found | compare(lambda: reader.records(after=after), fold)


def era_of(opened: Sequence[Record], session_id: str) -> int:
    """Number of the record before the era of a session: where a journal goes back to an earlier day or repeats one, features start from a
    state again.

    Sessions of one era are compared together, for their windows reach over them; those before it say nothing about it.
    """
    start, previous = 1, None
    for record in opened:
        day = int(record.body["session"])
        again = previous is not None and record.session_id == previous.session_id  # after a restart
        if previous is not None and not again and day <= int(previous.body["session"]):
            start = record.seq
        if record.session_id == session_id:
            break
        previous = record
    return start - 1


def before_state(reader: JournalReader, era: int) -> int:
    """Number of the record before the newest signals' state that was journaled when an era began; `era` itself without one."""
    states = [record.seq for record in reader.records(Kind.SNAPSHOT, key="signals", until=era + 1)]
    return states[-1] - 1 if states else era


def parity_fold(out: Reader, pipeline: Pipeline, sessions: list[int], store: ObjectStore) -> ParityFold:
    """The comparison of one pipeline: published features of some sessions, published states, stored bundles."""
    from trading_platform.engine.inference import Inference
    from trading_platform.engine.signals import Signals
    from trading_platform.features.catalog.registry import feature_set
    from trading_platform.features.program import Program
    from trading_platform.registry.bundle import find_bundle, load_bundle

    manifest, profile = out.inputs.manifest(pipeline.features), out.place.profile(pipeline)
    chosen = feature_set(str(manifest.facts.get("feature_set", pipeline.feature_set)))
    if manifest.facts.get("feature_hash") != chosen.hash:
        raise CorruptionError(
            "the published features are of another version than the code", pipeline.features, f"materialize {pipeline.features}"
        )
    known: dict[str, tuple[Any, NDArray[np.int64]]] = {}

    def start(instrument_ids: tuple[str, ...], state: bytes | None) -> Program:
        signals = Signals(profile, chosen, None, instrument_ids)
        if state is not None:
            signals.load_state(state)
        return signals.program

    def alphas(bundle_id: str, features: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
        if bundle_id not in known:
            label = find_bundle(store, bundle_id)
            if label is None:
                raise CorruptionError(f"bundle {bundle_id[:12]} of a decision is gone", "object store", "restore it from its backup")
            model = load_bundle(store, label, bundle_id)
            columns = np.array([chosen.names.index(name) for name in model.config.features], np.int64)
            known[bundle_id] = Inference(model), columns
        inference, columns = known[bundle_id]
        inputs = np.ascontiguousarray(features[:, columns])
        return np.asarray(inference.alphas(inputs, usable & np.isfinite(inputs).all(axis=1)))

    return ParityFold(chosen, batch_of(out, pipeline, sessions), start, alphas, profile.strategy.entry_rank, profile.strategy.exit_rank)


def batch_of(out: Reader, pipeline: Pipeline, sessions: list[int]) -> Batch:
    """The published features of some sessions (days), only the periods they lie in being read."""
    import polars as pl

    name, _ = PERIOD[pipeline.timeframe]
    width = 4 if name == "year" else 7
    periods = sorted({f"{name}={np.datetime64(day, 'D')!s:.{width}}" for day in sessions})
    frame = pl.concat([out.read(pipeline.features, period) for period in periods])
    days = frame["session"].to_physical().to_numpy()
    frame = frame.filter(pl.Series(np.isin(days, sessions)))
    ids, stamps = frame["instrument_id"].unique().sort().to_list(), np.unique(frame["timestamp"].to_physical().to_numpy())
    names = list(out.facts(pipeline.features)["names"])
    columns = {instrument: number for number, instrument in enumerate(ids)}
    values = np.full((len(stamps), len(ids), len(names)), np.nan, np.float32)
    at = np.searchsorted(stamps, frame["timestamp"].to_physical().to_numpy())
    column = frame["instrument_id"].replace_strict(columns, return_dtype=pl.Int64).to_numpy()
    values[at, column] = np.stack([frame[feature].to_numpy() for feature in names], axis=1)
    present = np.zeros(values.shape[:2], np.bool_)
    present[at, column] = True
    return Batch({int(stamp): row for row, stamp in enumerate(stamps)}, columns, values, present)


def publish_parity(out: Publication, parity: ParityOfRun) -> dg.MaterializeResult:
    """One session's comparison: shares, worst cells, flipped decisions with their causes."""
    import polars as pl

    found = parity.of(out, out.partition)
    flips = {"timestamp": [at for at, _, _ in found.flipped], "instrument_id": [name for _, name, _ in found.flipped]}
    schema = {"timestamp": pl.Int64, "instrument_id": pl.String, "cause": pl.String}
    out.table("flipped", pl.DataFrame({**flips, "cause": [cause for _, _, cause in found.flipped]}, schema=schema), sort_by=())
    correlation = found.rank_correlation
    numbers = {
        "rows": found.rows,
        "feature_cells": found.cells,
        "cells_that_differ": found.differing,
        "share_that_differs": found.differing / max(found.cells, 1),
        "alphas": len(found.alphas),
        "decisions_flipped": len(found.flipped),
        "unexplained": found.unexplained,
    }
    if correlation == correlation:
        numbers["alpha_rank_correlation"] = correlation
    shown: Mapping[str, Any] = {"worst": dg.MetadataValue.md(_worst(found)), "causes": dg.MetadataValue.json(found.causes)}
    return out.result({**numbers, **shown}, facts=numbers)


def _worst(found: SessionParity) -> str:
    rows = [
        f"| {d.feature} | {d.instrument_id} | {np.datetime64(d.timestamp, 'ns')}Z | {d.live:.8g} | {d.batch:.8g} | {d.cause} |"
        for d in found.worst
    ]
    return "\n".join(["| feature | instrument | row | live | batch | cause |", "|---|---|---|---|---|---|", *rows])


def parity_asset() -> Node:
    """live_parity with its check."""

    @dg.asset(
        **of(PARITY),
        group_name="live",
        kinds={"numba", "parquet"},
        partitions_def=SESSIONS,
        backfill_policy=ONE_RUN,
        description="Live against batch, per session",
    )
    def live_parity(context: dg.AssetExecutionContext, platform: Platform, bundles: Bundles) -> dg.MaterializeResult:
        parity = ParityOfRun(platform.place, bundles.store())
        return materialize_sessions(context, platform, PARITY, lambda out: publish_parity(out, parity))

    @dg.asset_check(
        asset="live_parity", blocking=True, name=UNEXPLAINED, description="no difference between live and batch without a cause (T35)"
    )
    def unexplained(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        return judge_parity(context.instance, platform.place)

    return Node(PARITY, live_parity, (unexplained,))


def judge_parity(instance: dg.DagsterInstance, place: Workplace) -> dg.AssetCheckResult:
    """Every compared session: none may have a difference without a cause."""
    counts = {
        session: int(found.manifest.facts["unexplained"]) for session, found in latest_of_every(instance, place, "live_parity").items()
    }
    wrong = [session for session, count in counts.items() if count]
    said = {"sessions": len(counts), "unexplained": sum(counts.values()), "where": ", ".join(wrong[:5])}
    return dg.AssetCheckResult(passed=not wrong, metadata=said)
