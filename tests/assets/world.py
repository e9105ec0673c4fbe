"""A small world for the tests of the graph: a seeded synthetic market (for tests only) and a home with everything made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl

from trading_platform.assets.graph import Graph, build_graph
from trading_platform.assets.inputs import latest
from trading_platform.assets.instance import prepare_instance
from trading_platform.assets.workplace import Workplace
from trading_platform.calendar import MarketCalendar
from trading_platform.config import Settings, load_settings
from trading_platform.contracts.manifest import UNPARTITIONED, Manifest, OutputFile, inputs_hash

SYMBOLS, SESSIONS, STRETCH = 45, 440, 70


def synthetic_bars(folder: Path) -> None:
    """Daily bars of 45 symbols over 440 sessions: a common factor, its own noise, no signal; one dividend, one split, one early leaver."""
    rng = np.random.default_rng(20141231)
    calendar = MarketCalendar()
    days = calendar.sessions(date(2012, 1, 3), date(2014, 12, 31))[:SESSIONS]
    stamps = calendar.midnights_ns(days)
    market = rng.normal(0.0003, 0.008, SESSIONS)
    frames = []
    for number in range(SYMBOLS):
        close = 20.0 * np.exp(np.cumsum(market * rng.uniform(0.5, 1.5) + rng.normal(0.0, 0.012, SESSIONS)))
        spread = close * rng.uniform(0.002, 0.02, SESSIONS)
        open_ = close + rng.uniform(-0.5, 0.5, SESSIONS) * spread
        frame = pl.DataFrame(
            {
                "symbol": [f"S{number:02d}"] * SESSIONS,
                "timestamp": stamps,
                "open": open_,
                "high": np.maximum(open_, close) + spread,
                "low": np.minimum(open_, close) - spread,
                "close": close,
                "volume": rng.uniform(1e6, 5e6, SESSIONS).round(),
            }
        )
        frames.append(frame[: SESSIONS - 40] if number == 7 else frame)
    table = pl.concat(frames).with_columns(pl.col("timestamp").cast(pl.Datetime("ns")).dt.replace_time_zone("UTC"))
    (folder / "1Day").mkdir(parents=True)
    table.write_parquet(folder / "1Day" / "bars.parquet")
    sectors = pl.DataFrame({"symbol": [f"S{n:02d}" for n in range(SYMBOLS)], "sector": [f"sector {n % 5}" for n in range(SYMBOLS)]})
    sectors.with_columns(pl.col("symbol").alias("name")).write_parquet(folder / "sectors.parquet")


@dataclass
class World:
    """A home with everything materialised, and the means to look at it and to damage it."""

    settings: Settings
    overrides: dict[str, object]
    place: Workplace
    instance: dg.DagsterInstance
    graph: Graph
    definitions: dg.Definitions

    def manifest(self, asset: str, partition: str = UNPARTITIONED) -> Manifest:
        """The newest manifest of an asset."""
        found = latest(self.instance, self.place, asset, partition)
        assert found is not None
        return found.manifest

    def replant(self, asset: str, under: str, change: Callable[[pl.DataFrame], pl.DataFrame], partition: str = UNPARTITIONED) -> None:
        """Publish the asset again with some of its tables changed, as a faulty body would: a manifest that is consistent, and an event."""
        before = self.manifest(asset, partition)
        outputs = [self._changed(output, under, change) for output in before.outputs]
        self.publish(asset, partition, before, tuple(outputs))

    def publish(self, asset: str, partition: str, before: Manifest, outputs: tuple[OutputFile, ...], facts: dict | None = None) -> None:
        """Record a materialization with these outputs."""
        from dataclasses import replace

        version = "planted" + "0" * 57
        manifest = replace(before, outputs=outputs, data_version=version, facts=before.facts if facts is None else facts)
        assert inputs_hash(manifest.inputs, manifest.parameters) == manifest.inputs_hash
        stored = self.place.lake.write_file(f"manifests/{asset}", partition, manifest.to_bytes(), ".json")
        rows = sum(output.rows for output in outputs)
        event = dg.AssetMaterialization(
            asset,
            partition=None if partition == UNPARTITIONED else partition,
            metadata={"manifest": stored.uri, "dagster/row_count": rows},
            tags={"dagster/data_version": version},
        )
        self.instance.report_runless_asset_event(event)

    def _changed(self, output: OutputFile, under: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> OutputFile:
        if not output.partition.startswith(under) or not output.uri.endswith(".parquet"):
            return output
        frame = change(pl.read_parquet(self.place.lake.root / output.uri))
        written = self.place.lake.write_partition(output.asset, output.partition, frame, "planted", sort_by=())
        return OutputFile(
            output.asset,
            output.partition,
            written.uri,
            written.sha256,
            written.size,
            written.rows,
            written.data_version,
            written.schema,
            written.span,
        )

    def judge(self, asset: str, partition: str | None = None) -> None:
        """Run the checks of an asset alone, as Dagster would, against its newest materialization (of a partition)."""
        keys = {spec.key for check in self.graph.nodes[asset].checks for spec in check.check_specs}
        job = self.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(), asset_check_selection=keys)
        tags = {} if partition is None else {"dagster/partition": partition}  # a selection of checks has no partitions of its own
        job.execute_in_process(instance=self.instance, tags=tags, raise_on_error=False)


def open_world(home: Path, data: Path) -> World:
    """The world of a home."""
    from trading_platform.definitions import build_definitions

    overrides: dict[str, object] = {"home": str(home), "data": str(data), "profile": "demo", "stretch_rows": STRETCH, "max_folds": 3}
    settings = load_settings(**overrides)
    return World(
        settings, overrides, Workplace(settings), prepare_instance(settings), build_graph(), build_definitions(tracking=False, **overrides)
    )
