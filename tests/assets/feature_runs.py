"""A home in which bars, universe and features are published again and again from frames in memory, by the assets' own bodies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray

from trading_platform.assets.bars import bars_recipe, publish_bars
from trading_platform.assets.features import compute, features_array, features_recipe, publish_features
from trading_platform.assets.inputs import MANIFEST_KEY, Materialization, Recipe, read_manifest
from trading_platform.assets.panels import actions_of, panel_of, set_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader, read_table
from trading_platform.assets.universe import publish_universe, universe_recipe
from trading_platform.assets.workplace import Workplace
from trading_platform.calendar import MarketCalendar
from trading_platform.config import load_settings
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.manifest import UNPARTITIONED, Manifest
from trading_platform.contracts.panel import FACTOR_FIELDS, Panel
from trading_platform.features.program import Program
from trading_platform.market_data.bars import to_bar_frame
from trading_platform.market_data.corporate_actions import FactorState
from trading_platform.market_data.sources.protocol import ACTION_SCHEMA, FIELD_SCHEMA, SECTOR_SCHEMA, SourceFile, SourceIdentity

LAST = date(2014, 4, 30)
JOINED, LEFT, SPLIT, DIVIDEND = date(2013, 5, 15), date(2013, 9, 30), date(2013, 3, 5), date(2014, 2, 11)


@dataclass(frozen=True)
class Frames:
    """A source whose files are these frames (BarSource)."""

    table: pl.DataFrame
    actions: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ACTION_SCHEMA))
    fields: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=FIELD_SCHEMA))

    @property
    def identity(self) -> SourceIdentity:
        return SourceIdentity("frames", "test", "memory", "test")

    def bars(
        self, timeframe: str, start: date | None = None, end: date | None = None, symbols: Sequence[str] | None = None
    ) -> pl.DataFrame:
        return self.table

    def absence(self, timeframe: str) -> str:
        return ""

    def corporate_actions(self) -> pl.DataFrame:
        return self.actions

    def sectors(self) -> pl.DataFrame:
        return pl.DataFrame(schema=SECTOR_SCHEMA)

    def field_series(self, timeframe: str) -> pl.DataFrame:
        return self.fields

    def files(self) -> tuple[SourceFile, ...]:
        content = b"".join(hashlib.sha256(f.write_ipc(None).getvalue()).digest() for f in (self.table, self.actions, self.fields))
        return (SourceFile("frames", hashlib.sha256(content).hexdigest(), len(content)),)

    def read(self, name: str) -> bytes:
        raise InputError(f"no file {name!r}", "frames", "frames in memory are not read again")

    def until(self, day: date) -> Frames:
        """What was known after a session."""
        known = pl.col("timestamp").dt.date() <= day
        actions, fields = self.actions.filter(pl.col("ex_date") <= day), self.fields.filter(known)
        return replace(self, table=self.table.filter(pl.col("session") <= day), actions=actions, fields=fields)


@dataclass(frozen=True)
class Run:
    """One materialization of the features."""

    last: Materialization
    result: dg.MaterializeResult
    lines: tuple[str, ...]
    reader: Reader
    pipeline: Pipeline

    @property
    def manifest(self) -> Manifest:
        return self.last.manifest

    def said(self, name: str) -> Any:
        """A value of its metadata."""
        value = dict(self.result.metadata or {})[name]
        return getattr(value, "value", value)

    @property
    def computed(self) -> list[str]:
        """Names of the periods it said it computed."""
        return [line.partition(":")[0] for line in self.lines if "=" in line.partition(":")[0]]

    @property
    def files(self) -> list[tuple[str, str, str]]:
        """Lake name, sha256 and data version of every file, in order."""
        return [(output.partition, output.sha256, output.data_version) for output in self.manifest.outputs]


class FeatureRuns:
    """Publishes the features of one pipeline; `last` is the newest materialization, from which the next may go on."""

    def __init__(self, home: Path, pipeline: Pipeline, calendar: MarketCalendar, stretch_rows: int = 70) -> None:
        self.pipeline = pipeline
        self.settings = load_settings(home=str(home), profile="demo", stretch_rows=stretch_rows)
        self.last: Materialization | None = None
        self._calendar = calendar

    def place(self, frames: Frames) -> Workplace:
        """The workplace with these frames as its source."""
        place = Workplace(self.settings)
        place.__dict__.update(source=frames, calendar=self._calendar, git_commit="")
        return place

    def run(self, frames: Frames, full: bool = False, members: Callable[[pl.DataFrame], pl.DataFrame] | None = None) -> Run:
        """Publish bars and universe (changed by `members`) of these frames, then the features: all of them, or from the newest run."""
        place, known = self.place(frames), {}
        bars, universe, features = bars_recipe(self.pipeline), universe_recipe(self.pipeline), features_recipe(self.pipeline)
        for recipe, publish in ((bars, publish_bars), (universe, publish_universe)):
            known[recipe.asset, UNPARTITIONED] = stored(place, publish(opened(place, recipe, known), self.pipeline))
        if members is not None:
            out = opened(place, universe, known)
            out.table(
                "members", members(read_table(place, known[universe.asset, UNPARTITIONED].manifest)), sort_by=("session", "instrument_id")
            )
            known[universe.asset, UNPARTITIONED] = stored(place, out.result())
        out, lines = opened(place, features, known), []
        result = publish_features(out, self.pipeline, None if full else self.last, lines.append)
        self.last = stored(place, result)
        reads = replace(out.inputs, upstream={**out.inputs.upstream, (features.asset, UNPARTITIONED): self.last})
        return Run(self.last, result, tuple(lines), Reader(place, reads), self.pipeline)


def opened(place: Workplace, recipe: Recipe, known: Mapping[tuple[str, str], Materialization]) -> Publication:
    """A publication outside of a Dagster run."""
    context = SimpleNamespace(instance=None, run=SimpleNamespace(run_id="test"))
    return Publication(context, place, recipe, UNPARTITIONED, known)  # type: ignore[arg-type]


def stored(place: Workplace, result: dg.MaterializeResult) -> Materialization:
    """The materialization a result leads to."""
    uri = str(dict(result.metadata or {})[MANIFEST_KEY])
    return Materialization(1, "test", 0.0, uri, read_manifest(place, uri))


def assert_is_the_whole_panel(run: Run) -> None:
    """What was published has the bits of one pass over the whole panel, every instrument of all time among its columns."""
    panel = panel_of(run.reader, run.pipeline)
    published, names = features_array(run.reader, run.pipeline, panel)
    whole = compute(panel, set_of(run.reader, run.pipeline))
    assert len(names) == whole.shape[2] and bool(np.isfinite(whole).any())
    assert published.tobytes() == np.where(panel.present[..., np.newaxis], whole, np.float32(np.nan)).tobytes()
    for known_at in run.manifest.facts["states"]:
        assert_goes_on_from(run, known_at, panel, whole)


def assert_goes_on_from(run: Run, known_at: int, panel: Panel, whole: NDArray[np.float32]) -> None:
    """The state after the row known at `known_at` gives the bits of every later row, of the features and of the factors."""
    pipeline, facts = run.pipeline, run.manifest.facts
    under = f"feature-state/{facts['feature_hash'][:16]}/{known_at}"
    program = Program(set_of(run.reader, pipeline), panel.instrument_ids)
    program.load_state(run.reader.read_file(pipeline.features, f"{under}/program"))
    row = int(np.flatnonzero(panel.known_at == known_at)[0])
    assert program.last_timestamp == panel.timestamp[row]
    rest = panel.rows(row + 1, panel.shape[0])
    assert program.step(rest).tobytes() == np.ascontiguousarray(whole[row + 1 :]).tobytes()
    factors = FactorState(actions_of(run.reader, pipeline), panel.instrument_ids)
    factors.load_state(run.reader.read_file(pipeline.features, f"{under}/factors"))
    for later in range(rest.shape[0]):
        there = rest.present[later]
        for values, name in zip(factors.open_row(int(rest.session[later])), FACTOR_FIELDS, strict=True):
            assert values[there].tobytes() == rest.fields[name][later, there].tobytes()
        factors.close_row(rest.fields["close"][later], there)


def random_bars(seed: int, stamps: np.ndarray, symbols: list[str]) -> pl.DataFrame:
    """A bar frame of random walks with 2 % of the bars missing."""
    rng = np.random.default_rng(seed)
    parts = []
    for symbol in symbols:
        close = 30.0 * np.exp(np.cumsum(rng.normal(0.0, 0.012, len(stamps))))
        open_ = close * np.exp(rng.normal(0.0, 0.004, len(stamps)))
        part = {"timestamp": stamps, "open": open_, "high": np.maximum(open_, close) * 1.004, "low": np.minimum(open_, close) * 0.996}
        table = pl.DataFrame({**part, "close": close, "volume": rng.uniform(1e5, 1e6, len(stamps)).round()})
        parts.append(table.with_columns(pl.lit(symbol).alias("symbol")).filter(pl.Series(rng.random(len(stamps)) > 0.02)))
    table = pl.concat(parts).with_columns(pl.col("timestamp").cast(pl.Datetime("ns")).dt.replace_time_zone("UTC"))
    return to_bar_frame(table, "America/New_York")


def daily_frames(calendar: MarketCalendar) -> Frames:
    """Ten names over 28 months: one joins, one leaves, one splits, one pays."""
    stamps = calendar.midnights_ns(calendar.sessions(date(2012, 1, 3), LAST))
    table = random_bars(1, stamps, [f"S{number}" for number in range(10)])
    name, day = pl.col("instrument_id"), pl.col("session")
    alive = ((name != "us:S4") | (day >= JOINED)) & ((name != "us:S6") | (day <= LEFT))
    halved = pl.when((name == "us:S2") & (day >= SPLIT)).then(0.5).otherwise(1.0)
    table = table.filter(alive).with_columns((pl.col(c) * halved).alias(c) for c in ("open", "high", "low", "close"))
    events = [("us:S2", SPLIT, 2.0, 0.0), ("us:S5", DIVIDEND, 1.0, 0.9), ("us:S4", date(2012, 6, 1), 3.0, 0.0)]  # the last: before its bars
    return Frames(table, pl.DataFrame(events, schema=ACTION_SCHEMA, orient="row"))


def minute_frames(calendar: MarketCalendar) -> Frames:
    """Four names over eleven sessions of two months, and the VIX of each minute."""
    days = calendar.sessions(date(2019, 3, 22), date(2019, 4, 5))
    stamps = np.concatenate([calendar.bar_starts(int(day), "1Min") for day in days])
    vix = pl.DataFrame({"field": ["vix"] * len(stamps), "timestamp": stamps, "known_at": stamps + 60 * 10**9, "value": stamps % 977 / 50.0})
    utc = [pl.col(name).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC") for name in ("timestamp", "known_at")]
    return Frames(random_bars(2, stamps, ["AA", "BB", "CC", "DD"]), fields=vix.with_columns(utc).cast(dict(FIELD_SCHEMA)))


def assert_same(found: Run, expected: Run) -> None:
    """File for file the same bytes and the same data version, and the same said about them."""
    assert found.files == expected.files
    assert found.manifest.data_version == expected.manifest.data_version
    assert found.manifest.facts == expected.manifest.facts
    assert {o.sha256 for o in found.manifest.outputs} == {sha(found, o.uri) for o in found.manifest.outputs}


def sha(run: Run, uri: str) -> str:
    return hashlib.sha256((run.reader.place.lake.root / uri).read_bytes()).hexdigest()


def changed(frames: Frames, name: str, day: date, column: str = "close") -> Frames:
    """One bar's value moved by 2 %."""
    there = (pl.col("instrument_id") == name) & (pl.col("session") == day)
    assert frames.table.filter(there).height == 1
    moved = pl.when(there).then(pl.col(column) * 1.02).otherwise(pl.col(column))
    return replace(frames, table=frames.table.with_columns(moved.alias(column)))
