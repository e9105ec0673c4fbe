"""`trading-platform features skew`, as a person types it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest

from trading_platform.cli import main
from trading_platform.config import Settings
from trading_platform.contracts.feed_skew import skew_folder, stored_reports
from trading_platform.demo.doctor import examine
from trading_platform.registry.redis_server import RedisServer

SYMBOLS, MINUTES = ("AA", "BB", "CC"), 40


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """Five sessions of minutes; the right one has one close corrected in the last session."""
    rng, frames = np.random.default_rng(4), []
    for day in range(5):
        first = datetime(2019, 2, 11, 14, 30, tzinfo=UTC) + timedelta(days=day)
        for number, symbol in enumerate(SYMBOLS):
            close = (20.0 + 5.0 * number + rng.normal(0.0, 0.05, MINUTES).cumsum()).round(2)
            stamps = [first + timedelta(minutes=minute) for minute in range(MINUTES)]
            prices = {"open": close, "high": close + 0.05, "low": close - 0.05, "close": close, "volume": np.full(MINUTES, 300.0)}
            frames.append(pl.DataFrame({"symbol": [symbol] * MINUTES, "timestamp": stamps, **prices}))
    left = pl.concat(frames)
    changed = (pl.col("symbol") == "AA") & (pl.col("timestamp") == datetime(2019, 2, 15, 14, 50, tzinfo=UTC))
    right = left.with_columns(close=pl.when(changed).then(pl.col("close") + 0.04).otherwise(pl.col("close")))
    left.write_parquet(tmp_path / "sip.parquet")
    right.write_parquet(tmp_path / "iex.parquet")
    return tmp_path / "sip.parquet", tmp_path / "iex.parquet"


def words(tables: tuple[Path, Path], *more: str) -> list[str]:
    return ["features", "skew", "--left", str(tables[0]), "--right", str(tables[1]), "--set", "intraday", *more]


def test_it_says_what_differs_where_and_what_would_flip(tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tables, "--rank-by", "returns_5")) == 0
    said = capsys.readouterr().out
    assert "200 1Min rows of 5 sessions" in said and "600, 1 differ, 0 left only, 0 right only" in said
    assert "us:AA at 2019-02-15T14:50:00Z" in said and "ranked by                  feature returns_5" in said
    assert main(words((tables[0], tables[0]), "--json")) == 0
    same = orjson.loads(capsys.readouterr().out)
    assert (same["cells"] > 1000, same["differing"], same["flipped"], same["bars_differ"]) == (True, 0, 0, 0)


def test_a_kept_report_is_what_a_runner_reads(tables: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path / "home"), "--left-feed", "alpaca/sip/first/regular/raw", "--right-feed", "alpaca/iex/first/regular/raw"]
    assert main(words(tables, "--rank-by", "returns_5", "--store", *home)) == 0
    (report,) = stored_reports(tmp_path / "home" / "lake")
    assert report.failures() == () and report.bars_differ == 1 and report.differing > 0
    assert (report.left["tape"], report.right["tape"], report.alpha) == ("sip", "iex", "feature returns_5")
    assert main(words(tables, "--store", *home)) == 1
    assert "no decision was compared" in capsys.readouterr().out


def test_the_doctor_counts_comparisons_and_finds_a_changed_one(
    tables: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feeds = ["--left-feed", "alpaca/sip/first/regular/raw", "--right-feed", "alpaca/iex/first/regular/raw"]
    settings = Settings(home=tmp_path / "home")
    main(words(tables, "--rank-by", "returns_5", "--store", "--home", str(settings.home), *feeds))
    capsys.readouterr()
    assert examine(settings, as_json=True) == 0
    answers = orjson.loads(capsys.readouterr().out)
    assert answers["feeds"]["text"].startswith("comparisons stored: 1, of which 1 pass; live from Alpaca: iex")
    assert answers["feature cache"]["text"] == "in the runner's Redis"
    (path,) = skew_folder(settings.lake_dir).glob("*.json")
    path.write_bytes(path.read_bytes() + b" ")
    with RedisServer() as cache:
        examine(settings.model_copy(update={"feature_cache_url": cache.url}), as_json=True)
    answers = orjson.loads(capsys.readouterr().out)
    assert not answers["feeds"]["ok"] and "was changed" in answers["feeds"]["text"]
    assert answers["feature cache"]["ok"] and "noeviction" in answers["feature cache"]["text"]
    examine(settings.model_copy(update={"feature_cache_url": cache.url}), as_json=True)
    assert "TRADING_FEATURE_CACHE_URL" in orjson.loads(capsys.readouterr().out)["feature cache"]["text"]


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (("--store",), "a report that is kept names its feeds"),
        (("--store", "--left-feed", "alpaca/sip"), "'alpaca/sip' is no feed"),
        (("--rank-by", "nothing"), "'nothing' is no feature of the set intraday"),
        (("--rank-by", "returns_5", "--bundle", "m_v1"), "a bundle and a feature to rank by"),
        (("--bundle", "m_v1"), "no object trading-models/m/versions/v1"),
        (("--timeframe", "5Min"), "is no start of a 5Min bar"),
    ],
)
def test_what_cannot_be_compared_is_said(
    more: tuple[str, ...], what: str, tables: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tables, *more, "--home", str(tmp_path / "home"))) == 2
    assert what in capsys.readouterr().err


def test_a_table_that_is_none_is_named(tables: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.parquet").write_text("no")
    pl.read_parquet(tables[0]).drop("close").write_parquet(tmp_path / "part.parquet")
    twice = pl.read_parquet(tables[0])
    pl.concat([twice, twice]).write_parquet(tmp_path / "twice.parquet")
    zero = pl.when(pl.col("symbol") == "BB").then(0.0).otherwise(pl.col("open"))
    pl.read_parquet(tables[0]).with_columns(open=zero).write_parquet(tmp_path / "free.parquet")
    wrong = {"text": "not a Parquet file", "part": "close", "twice": "twice", "free": "open is 0.0 for us:BB at 2019-02-11T14:30:00"}
    for name, what in wrong.items():
        assert main(words((tables[0], tmp_path / f"{name}.parquet"))) == 2
        assert what in capsys.readouterr().err
