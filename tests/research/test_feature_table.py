"""A table of features on disk equals one computation in memory, is whole or absent, and every bad input ends in one precise error."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.expression import adj, cs_rank, ema, field, mean, pct_change
from trading_platform.features.program import FeatureSet, Program
from trading_platform.market_data.bar_file import open_bars, panels
from trading_platform.research.feature_table import Computed, compute_table

CALENDAR = MarketCalendar()
SET = FeatureSet(
    "few",
    "test",
    {
        "change": pct_change(adj("close"), 3),
        "rank": cs_rank(adj("volume")),
        "gap": adj("close") / mean(adj("close"), 9),
        "ema": ema(adj("close"), 5),
    },
    frozenset({"ema"}),
)


def bars(days: int = 90) -> pl.DataFrame:
    rng = np.random.default_rng(8)
    stamps = CALENDAR.midnights_ns(CALENDAR.sessions(date(2014, 1, 2), date(2014, 12, 31))[:days])
    parts = []
    for number in range(6):
        close = 40.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, days)))
        columns = {name: close for name in ("open", "high", "low", "close")}
        part = pl.DataFrame({"symbol": [f"S{number}"] * days, "timestamp": stamps, **columns, "volume": rng.uniform(1e5, 1e6, days)})
        parts.append(part.filter(pl.int_range(pl.len()) % (5 + number) != 2))
    return pl.concat(parts).with_columns(pl.col("timestamp").cast(pl.Datetime("ns")).dt.replace_time_zone("UTC"))


def compute(folder: Path, table: pl.DataFrame, chosen: FeatureSet = SET, chunk: int = 20) -> Computed:
    table.write_parquet(folder / "bars.parquet")
    return compute_table(open_bars(folder / "bars.parquet"), chosen, folder / "out.parquet", CALENDAR, chunk)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_table_is_the_one_computation_in_memory_for_every_chunk_and_order(tmp_path: Path) -> None:
    table = bars()
    table.write_parquet(tmp_path / "whole.parquet")
    (panel,) = panels(open_bars(tmp_path / "whole.parquet"), CALENDAR, 10_000, tmp_path)
    (tmp_path / "whole.parquet").unlink()
    expected = Program(SET, panel.instrument_ids).step(panel)
    row, column = np.nonzero(panel.present)
    for chunk, given in ((1, table), (33, table), (500, table.sort("timestamp", "symbol"))):
        said = compute(tmp_path, given, chunk=chunk)
        got = pl.read_parquet(tmp_path / "out.parquet")
        assert got.columns == ["instrument_id", "timestamp", *SET.names]
        assert got["instrument_id"].to_list() == [panel.instrument_ids[c] for c in column]
        assert np.array_equal(got["timestamp"].to_physical().to_numpy(), panel.timestamp[row])
        values = got.select(SET.names).to_numpy()
        assert values.dtype == np.float32 and np.array_equal(values, expected[row, column], equal_nan=True)
        assert said.rows == table.height and said.chunks == -(-panel.shape[0] // chunk) and said.without_factors
        assert said.undefined["change"] == pytest.approx(float(np.isnan(values[:, SET.names.index("change")]).mean()))
        assert names(tmp_path) == ["bars.parquet", "out.parquet"]


def changed(column: str, row: int, value: float | None) -> pl.DataFrame:
    return bars().with_columns(pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))


def test_infinite_inputs_are_counted_and_become_undefined(tmp_path: Path) -> None:
    said = compute(tmp_path, changed("volume", 100, float("inf")))
    assert said.infinite == {"volume": 1} and said.made_undefined >= 1
    assert not np.isinf(pl.read_parquet(tmp_path / "out.parquet").select(SET.names).to_numpy()).any()


def test_bad_input_is_one_precise_error_and_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "out.parquet").write_bytes(b"of yesterday")
    spread = FeatureSet("spread", "test", {"spread": field("quoted_spread") / adj("close"), "change": pct_change(adj("close"), 1)})
    cases: list[tuple[str, pl.DataFrame, FeatureSet, int]] = [
        (r"the file has no column quoted_spread; needed by spread \(div\)", bars(), spread, 20),
        (r"the file has no column vix; needed by vix \(field\)", bars(), feature_set("intraday_vix"), 20),
        (r"column volume holds no number at all; needed by rank", bars().with_columns(volume=pl.lit(float("nan"))), SET, 20),
        (r"close is -3.0 for us:S1 at 2014-0", changed("close", 120, -3.0), SET, 20),
        (r"duplicate bar of S0", pl.concat([bars()[:3], bars()[2:]]), SET, 20),
        (r"timestamps run backwards for S0", bars()[[0, 2, 1, *range(3, 50)]], SET, 20),
        (r"a chunk of 0 rows", bars(), SET, 0),
    ]
    for text, table, chosen, chunk in cases:
        with pytest.raises(InputError, match=text):
            compute(tmp_path, table, chosen, chunk)
        assert (tmp_path / "out.parquet").read_bytes() == b"of yesterday" and names(tmp_path) == ["bars.parquet", "out.parquet"]


def test_a_symbol_that_appears_and_one_that_disappears_change_nobody_elses_own_features(tmp_path: Path) -> None:
    alone = [name for name in SET.names if name != "rank"]
    table = bars()
    late = table.filter(
        ~((pl.col("symbol") == "S2") & (pl.col("timestamp").dt.month() < 3))
        & ~((pl.col("symbol") == "S4") & (pl.col("timestamp").dt.month() > 2))
    )
    compute(tmp_path, table)
    whole = pl.read_parquet(tmp_path / "out.parquet").filter(~pl.col("instrument_id").is_in(["us:S2", "us:S4"]))
    compute(tmp_path, late)
    part = pl.read_parquet(tmp_path / "out.parquet")
    assert part.filter(~pl.col("instrument_id").is_in(["us:S2", "us:S4"])).select(alone).equals(whole.select(alone))
    assert part.filter(pl.col("instrument_id") == "us:S2")["change"][:3].is_nan().all()
