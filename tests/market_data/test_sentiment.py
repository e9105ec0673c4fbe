"""The sentiment field: never later than known_at, never older than its age, the same from a file and from a stream."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from trading_platform.calendar import MarketCalendar, day_of
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.program import Program
from trading_platform.market_data.sentiment import Scores, read_scores, with_sentiment

CALENDAR = MarketCalendar(first=date(2014, 1, 1), last=date(2014, 12, 31))
SESSIONS = CALENDAR.sessions(date(2014, 1, 2), date(2014, 4, 30))
IDS = ("us:AAPL", "us:IBM", "us:KO")


def ns(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 1_000_000_000  # type: ignore[arg-type]


@pytest.fixture
def panel() -> Panel:
    close = np.ones((len(SESSIONS), 3))
    known = CALENDAR.closes_ns(SESSIONS)
    present = np.ones(close.shape, bool)
    present[5, 0] = False
    fields = {"close": np.where(present, close, np.nan)}
    return Panel("1Day", IDS, CALENDAR.midnights_ns(SESSIONS), known, SESSIONS, fields, present, np.ones(close.shape, bool)).check()


def scores_of(*rows: tuple[str, int, float]) -> pl.DataFrame:
    schema = {"instrument_id": pl.String, "known_at": pl.Datetime("ns", "UTC"), "sentiment": pl.Float64}
    return pl.DataFrame([(name, at, value) for name, at, value in rows], schema=schema, orient="row")


def random_scores(count: int) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    at = np.sort(rng.integers(ns(2014, 1, 1), ns(2014, 5, 10), count))
    return scores_of(*((IDS[rng.integers(0, 2)], int(t), float(v)) for t, v in zip(at, rng.normal(0, 1, count), strict=True)))


def test_a_row_has_the_newest_score_known_then_as_pandas_says(panel: Panel) -> None:
    scores = random_scores(300)
    got = with_sentiment(panel, scores, CALENDAR, max_age=1000).fields["sentiment"]
    for s, name in enumerate(IDS):
        own = scores.filter(pl.col("instrument_id") == name)
        events = pd.DataFrame({"t": own["known_at"].to_physical().to_numpy(), "v": own["sentiment"].to_numpy()})
        expected = pd.merge_asof(pd.DataFrame({"t": panel.known_at}), events, on="t")["v"].to_numpy()
        np.testing.assert_array_equal(got[:, s], np.where(panel.present[:, s], expected, np.nan))


def test_a_score_known_after_the_close_is_of_the_next_row(panel: Panel) -> None:
    close = int(panel.known_at[10])
    got = with_sentiment(panel, scores_of((IDS[1], close, 1.0), (IDS[1], close + 1, 2.0)), CALENDAR).fields["sentiment"][:, 1]
    assert np.isnan(got[9]) and got[10] == 1.0 and got[11] == 2.0


def test_a_later_score_moves_no_earlier_row(panel: Panel) -> None:
    scores = random_scores(300)
    cut = int(panel.known_at[40])
    early = scores.filter(pl.col("known_at").to_physical() <= cut)
    whole, part = (with_sentiment(panel, each, CALENDAR).fields["sentiment"] for each in (scores, early))
    np.testing.assert_array_equal(whole[:41], part[:41])
    assert not np.array_equal(whole[41:], part[41:], equal_nan=True)


def test_a_score_older_than_three_sessions_is_nan_and_weekend_news_counts_from_friday(panel: Panel) -> None:
    saturday, row = ns(2014, 2, 8, 15), int(np.searchsorted(SESSIONS, day_of(date(2014, 2, 10))))
    got = with_sentiment(panel, scores_of((IDS[1], saturday, 0.5)), CALENDAR).fields["sentiment"][:, 1]
    assert np.isnan(got[row - 1])
    assert got[row : row + 3].tolist() == [0.5, 0.5, 0.5] and np.isnan(got[row + 3])


def test_a_stream_gives_the_rows_of_the_file(panel: Panel) -> None:
    scores = random_scores(200)
    batch = with_sentiment(panel, scores, CALENDAR).fields["sentiment"]
    events, live, rows = iter(scores.with_columns(pl.col("known_at").to_physical()).rows()), Scores(CALENDAR), []
    waiting = next(events)
    for known_at, session in zip(panel.known_at, panel.session, strict=True):
        while waiting and waiting[1] <= known_at:
            live.add(*waiting)
            waiting = next(events, None)
        rows.append(live.at(IDS, int(known_at), int(session)))
    np.testing.assert_array_equal(np.where(panel.present, np.array(rows), np.nan), batch)


def test_csv_and_parquet_are_read_alike(tmp_path: Path) -> None:
    text = "instrument_id,known_at,sentiment,headline\nus:KO,2014-01-27T21:31:05Z,0.25,up\nus:AAPL,2014-01-27T21:31:05.5Z,-0.62,down\n"
    (tmp_path / "scores.csv").write_text(text)
    read = read_scores(tmp_path / "scores.csv")
    assert read["instrument_id"].to_list() == ["us:AAPL", "us:KO"] and read["sentiment"].to_list() == [-0.62, 0.25]
    assert read["known_at"].to_physical().to_list() == [ns(2014, 1, 27, 21, 31, 5) + 500_000_000, ns(2014, 1, 27, 21, 31, 5)]
    read.write_parquet(tmp_path / "scores.parquet")
    assert read_scores(tmp_path / "scores.parquet").equals(read)


@pytest.mark.parametrize(
    ("line", "message"),
    [("us:KO,2014-01-27 21:31,0.1", "row 1"), ("us:KO,2014-01-27T21:31:05Z,high", "row 1"), ("us:KO,2014-01-27T21:31:05Z,inf", "row 1")],
)
def test_what_is_no_score_is_refused_by_row(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "scores.csv").write_text(f"instrument_id,known_at,sentiment\nus:KO,2014-01-27T21:31:05Z,0.25\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_scores(tmp_path / "scores.csv")
    (tmp_path / "scores.csv").write_text("instrument_id,known_at\n")
    with pytest.raises(InputError, match="no column sentiment"):
        read_scores(tmp_path / "scores.csv")


def test_a_panel_without_scores_is_refused_by_the_set_that_needs_them(panel: Panel) -> None:
    fields = {name: panel.fields["close"] for name in ("open", "high", "low", "close", "volume", "split_factor", "return_factor")}
    without = Panel("1Day", IDS, panel.timestamp, panel.known_at, panel.session, fields, panel.present, panel.member)
    with pytest.raises(InputError, match=r"no field sentiment; needed by sentiment, sentiment_change_5d"):
        Program(feature_set("core_sentiment"), IDS).step(without)
