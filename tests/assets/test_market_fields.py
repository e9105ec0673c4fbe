"""VIX in the intraday pipeline: which set is traded, what the runner is told, and what a late index bar explains."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trading_platform.assets.feature_policy import Decisions
from trading_platform.assets.panels import market_fields, set_of
from trading_platform.assets.parity import Batch, ParityFold, compare
from trading_platform.assets.pipelines import DAILY, INTRADAY
from trading_platform.assets.session_inputs import external_fields
from trading_platform.assets.workplace import Workplace
from trading_platform.calendar import MarketCalendar, day_of
from trading_platform.config import load_settings
from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.journal import Kind, Record
from trading_platform.contracts.journaled_row import panel_of
from trading_platform.contracts.panel import BAR_FIELDS
from trading_platform.contracts.session_inputs import ExternalField
from trading_platform.demo.stretch import index_bars
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.program import Program

ROWS, LATE = 70, 65
IDS = ("us:AA", "us:BB")
SESSION = "default/paper/2019-02-15/1"


class Bars:
    """A reader that sees bars with these market-wide fields beside them."""

    def __init__(self, home: Path, *fields: str) -> None:
        self.place = Workplace(load_settings(home=home))
        self._fields = fields

    def read(self, asset: str, under: str) -> pl.DataFrame:
        assert asset in (DAILY.bars, INTRADAY.bars) and under == "fields"
        return pl.DataFrame({"field": list(self._fields)}, schema={"field": pl.String})


@pytest.mark.parametrize(("fields", "name"), [(("vix",), "intraday_vix"), ((), "intraday"), (("other",), "intraday")])
def test_minute_bars_without_vix_are_traded_with_the_plain_set(tmp_path: Path, fields: tuple[str, ...], name: str) -> None:
    chosen = set_of(Bars(tmp_path, *fields), INTRADAY)  # type: ignore[arg-type]
    assert chosen.name == name
    assert external_fields(market_fields(chosen)) == ((ExternalField("vix", "VIX", 3),) if name == "intraday_vix" else ())
    assert market_fields(feature_set(DAILY.feature_set)) == ()


def test_a_set_put_in_force_that_the_bars_cannot_feed_is_no_reason_to_trade_another(tmp_path: Path) -> None:
    bars = Bars(tmp_path, "vix")
    Decisions(bars.place, INTRADAY, "Ann", "a reason", 1).disable(["vix_change_20"])
    assert set_of(bars, INTRADAY).name == "intraday_vix!vix_change_20"  # type: ignore[arg-type]
    assert set_of(Bars(tmp_path), INTRADAY).name == "intraday"  # type: ignore[arg-type]
    Decisions(bars.place, DAILY, "Ann", "a reason", 1).use("core_sentiment", True)
    with pytest.raises(InputError, match=r"core_sentiment, read sentiment, and bars_daily holds no such field"):
        set_of(bars, DAILY)  # type: ignore[arg-type]


def test_the_simulator_is_given_the_closes_the_lake_keeps() -> None:
    series = pl.DataFrame({"field": ["vix", "other"], "timestamp": [1, 2], "value": [16.25, 3.0]})
    assert index_bars(series, ("vix",)).rows() == [("VIX", 1, 16.25, 16.25, 16.25, 16.25, 0.0)]


def row(at: int, day: int, vix: float, rng: np.random.Generator) -> dict[str, Any]:
    prices = 50.0 + rng.normal(0.0, 0.1, len(IDS))
    fields = {name: prices + shift for name, shift in (("open", 0.0), ("high", 0.2), ("low", -0.2), ("close", 0.1), ("volume", 900.0))}
    assert set(fields) == set(BAR_FIELDS)
    ones, true = np.ones(len(IDS)), np.ones(len(IDS), np.bool_)
    fields |= {"split_factor": ones, "return_factor": ones, "vix": np.full(len(IDS), vix)}
    head = {"timeframe": "1Min", "instrument_ids": list(IDS), "timestamp": at, "known_at": at + 60 * 10**9, "session": day}
    return {**head, "fields": fields, "present": true, "member": true}


@pytest.mark.parametrize(("journaled", "causes"), [(True, {"late bar"}), (False, {"unexplained"})])
def test_a_late_index_bar_explains_every_instrument_from_its_time_on(journaled: bool, causes: set[str]) -> None:
    calendar, chosen = MarketCalendar(), feature_set("intraday_vix")
    day = day_of(date(2019, 2, 15))
    stamps = calendar.bar_starts(day, "1Min")[:ROWS]
    vix = 16.0 + 0.1 * np.arange(ROWS)
    seen = vix.copy()
    seen[LATE] = vix[LATE - 1]
    live, final = (
        [row(int(at), day, value, np.random.default_rng(int(at) % 97)) for at, value in zip(stamps, said, strict=True)]
        for said in (seen, vix)
    )
    program = Program(chosen, IDS)
    values = np.stack([program.step(panel_of(parse(canonical_bytes(body))))[0] for body in final])
    batch = Batch(
        {int(at): number for number, at in enumerate(stamps)},
        {name: column for column, name in enumerate(IDS)},
        values,
        np.ones((ROWS, len(IDS)), np.bool_),
    )
    bodies: list[tuple[Kind, str, dict[str, Any]]] = [(Kind.ROW, "", body) for body in live]
    if journaled:
        bodies.insert(LATE + 1, (Kind.LATE_BAR, "vix", {"t": int(stamps[LATE])}))
    records = [Record(n, SESSION, n, kind, key, parse(canonical_bytes(body)), "", "") for n, (kind, key, body) in enumerate(bodies, 1)]
    found = compare(lambda: records, ParityFold(chosen, batch, lambda ids, state: Program(chosen, ids), lambda *_: np.zeros(2), 0.9, 0.6))[
        SESSION
    ]
    assert found.differing > 2 * len(IDS) and set(found.causes) == causes
    assert {worst.feature for worst in found.worst} <= {"vix", "vix_change_20", "vix_zscore_60"}
    assert found.unexplained == (0 if journaled else found.differing)
