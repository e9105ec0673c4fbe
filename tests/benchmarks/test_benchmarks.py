"""The benchmarks at a size of seconds: their value comparison can fail, their measuring core measures what it says, peers agree."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import all as every
from benchmarks import (
    features_accuracy,
    features_batch,
    features_frames,
    features_growth,
    features_hundred,
    features_live,
    features_start,
    features_stream,
    report,
    truth,
)
from benchmarks.agreement import EXACT, SEEDED_ELSEWHERE, compare, our_values, worst
from benchmarks.peers import install, process
from benchmarks.peers.process import Peer, PeerFailedError
from benchmarks.peers.program import COLUMNS, LIVE_CHUNK, LIVE_WARM_UP, present_bars, read_panel, scatter, timed
from benchmarks.rounds import Times, ours, take_turns
from benchmarks.workload import catalogue_features, daily_panel, feature_set, later, make_panel, save_panel
from trading_platform.contracts.panel import BAR_FIELDS, Panel
from trading_platform.features.program import Program
from trading_platform.kernel_cache import cache_root

INSTALLED_HERE = {"talib": "talib", "polars": "polars", "pandas": "pandas"}  # peers that our own environment happens to have


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers that our environment has run in it; the others count as not installed."""
    monkeypatch.setattr(process, "python_of", lambda name: Path(sys.executable))
    monkeypatch.setattr(process, "why_absent", lambda name: None if name in INSTALLED_HERE else "not installed: run `make peers`")


@pytest.fixture
def gappy(tmp_path: Path) -> Iterator[tuple[Panel, Path]]:
    """A panel with missing bars, and its file."""
    panel = make_panel(1700, 3, 0.05)
    yield panel, save_panel(panel, tmp_path / "panel.npz")


def test_the_columns_are_those_of_the_feature_set_and_nearly_fill_a_panel() -> None:
    panel = make_panel(400, 2)
    assert feature_set().names == COLUMNS
    assert np.isfinite(our_values(panel, [0, 1])[100:]).all()


def test_our_columns_equal_the_reference_in_extended_precision(gappy: tuple[Panel, Path]) -> None:
    panel, _ = gappy
    mine, exact = our_values(panel, [0, 2]), features_accuracy.reference_values(panel, [0, 2])
    assert worst(compare(mine, exact, COLUMNS, panel.present[:, [0, 2]], frozenset())).worst < EXACT


@pytest.mark.parametrize("name", COLUMNS)
def test_a_planted_difference_of_one_part_in_a_hundred_million_is_found(name: str) -> None:
    panel = make_panel(1600, 2)
    mine, f = our_values(panel, [0, 1]), COLUMNS.index(name)
    wrong = mine.copy()
    row = 1599 - int(np.argmax(np.abs(mine[:1500:-1, 1, f])))  # where the value is not small
    wrong[row, 1, f] *= 1 + 1e-8
    found = worst(compare(wrong, mine, COLUMNS, panel.present, SEEDED_ELSEWHERE))
    assert (found.name, found.worst > EXACT) == (name, True)


def test_cells_that_one_side_lacks_are_counted_and_nothing_compared_is_an_error() -> None:
    panel = make_panel(80, 1)
    mine = our_values(panel, [0])
    holes = mine.copy()
    holes[70:73, 0, COLUMNS.index("sma_5")] = np.nan
    counted = {one.name: one.one_sided for one in compare(mine, holes, COLUMNS, panel.present, frozenset())}
    assert counted["sma_5"] == 3
    with pytest.raises(ValueError, match="no cell was compared in macd"):
        worst(compare(mine, np.where(np.isin(COLUMNS, ["macd"]), np.nan, mine), COLUMNS, panel.present, frozenset()))


def test_take_turns_warms_each_once_and_lets_every_one_go_first() -> None:
    order: list[str] = []

    def contender(name: str) -> list[float]:
        order.append(name)
        return [len(order) * 1.0]

    found = take_turns({name: ours(lambda name=name: contender(name)) for name in "ab"}, 2)
    assert order == ["a", "b", "a", "b", "b", "a"]
    assert found["a"].samples == (3.0, 6.0)


def test_times_tell_the_median_and_the_next_larger_quantile() -> None:
    times = Times((3.0, 1.0, 9.0), (1.0, 1.0, 2.0), tuple(float(x) for x in range(1, 101)))
    assert (times.wall, times.cpu, times.quantile(0.5), times.quantile(0.99), times.quantile(0.999)) == (3.0, 1.0, 51.0, 100.0, 100.0)


def test_timed_measures_wall_and_cpu_seconds() -> None:
    took = timed(lambda: sum(i * i for i in range(400_000)) and None)
    assert took["wall"] > 0.005 and took["cpu"] > 0.005
    assert timed(lambda: time.sleep(0.05))["cpu"] < 0.04  # waiting is not work


@pytest.mark.parametrize("missing", [0.0, 0.05])
def test_every_way_of_talib_fills_the_output_with_its_values(missing: float) -> None:
    with_talib = importlib.import_module("benchmarks.peers.with_talib")
    panel = make_panel(300, 10, missing)
    batch = with_talib.Batch({name: panel.fields[name] for name in BAR_FIELDS})
    expected = batch.values(list(range(10)))
    for fill, width in ((batch.fill_writer, 2), (batch.fill_writer, 8), (batch.fill_numpy, 1)):
        for threads in (1, 2):
            batch.matrix.fill(-1.0)
            batch.run(fill, width, threads)
            np.testing.assert_array_equal(batch.matrix.reshape(300, 10, -1), expected.astype(np.float32))
    batch.natural.fill(-1.0)
    batch.run(batch.fill_natural, 1, 2)
    packed = [{name: batch.natural[s, f, : at.size] for f, name in enumerate(COLUMNS)} for s, at in enumerate(batch.rows)]
    np.testing.assert_array_equal(scatter(packed, batch.rows, 300), expected)


@pytest.mark.parametrize("name", INSTALLED_HERE)
def test_a_peer_runs_every_action_and_agrees(name: str, here: None, gappy: tuple[Panel, Path]) -> None:
    pytest.importorskip(INSTALLED_HERE[name])
    panel, path = gappy
    seeded = features_frames.RECURSIVE if name != "talib" else SEEDED_ELSEWHERE
    with Peer(name, f"benchmarks.peers.with_{name}", str(path), "batch") as peer:
        assert all(peer.run(action)["wall"] > 0 for action in peer.actions)
        found = compare(our_values(panel, [0, 2]), peer.values([0, 2]), COLUMNS, panel.present[:, [0, 2]], seeded)
    assert worst(found).worst < EXACT


def test_a_peer_that_is_absent_or_fails_says_why(here: None, tmp_path: Path) -> None:
    with pytest.raises(PeerFailedError, match="qlib not installed: run `make peers`"):
        Peer("qlib", "benchmarks.peers.with_qlib")
    with pytest.raises(PeerFailedError, match=r"talib failed: .*nowhere\.npz"):
        Peer("talib", "benchmarks.peers.with_talib", str(tmp_path / "nowhere.npz"), "batch")


def test_a_failed_installation_is_remembered_for_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install, "FOLDER", tmp_path)
    monkeypatch.setitem(install.PACKAGES, "nobody", ("./there-is-no-such-package",))
    assert install.why_absent("nobody") == "not installed: run `make peers`"
    assert install.install("nobody") is False
    assert "there-is-no-such-package" in str(install.why_absent("nobody"))


def test_the_batch_page_compares_measures_and_names_what_is_absent(here: None) -> None:
    page = "\n".join(features_batch.page({"dense": make_panel(1600, 9), "real daily": None}, 1))
    assert "real daily: **not measured**, the data are absent" in page
    assert page.count("| dense | TA-Lib | float32 (time, symbol, column) |") == 1
    assert "1.2x | 4.0x |" in page


def test_the_batch_page_stops_where_values_differ(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = features_batch.our_values
    monkeypatch.setattr(features_batch, "our_values", lambda panel, columns: wrong(panel, columns) * (1 + 1e-8))
    with pytest.raises(SystemExit, match="differs from TA-Lib by"):
        features_batch.page({"dense": make_panel(1600, 2)}, 1)


def test_the_frames_page_keeps_a_row_for_a_peer_that_is_not_installed(here: None) -> None:
    page = "\n".join(features_frames.page({"synthetic minutes": make_panel(1700, 2)}, 1))
    assert "| synthetic minutes | qlib | **not measured**: qlib not installed" in page
    assert "| synthetic minutes | Polars " in page


def test_the_live_page_checks_the_newest_row_and_keeps_a_row_for_who_is_absent(here: None) -> None:
    page = "\n".join(features_live.page(4, 1))
    assert "stream handles: newest row of 4 symbols" in page
    assert "| nautilus | **not measured**: nautilus not installed" in page


def test_the_live_side_computes_what_batch_computes() -> None:
    panel = make_panel(LIVE_WARM_UP + LIVE_CHUNK, 3)
    live = features_live.Live(panel)
    assert len(live.chunk()) == LIVE_CHUNK
    np.testing.assert_array_equal(live.out[0], our_values(panel, [0, 1, 2])[-1])


def test_the_hundred_features_are_different_and_some_look_across_the_universe() -> None:
    chosen = catalogue_features(40)
    assert len(set(chosen.features.values())) == len(chosen.names) == 40
    wall, cpu = features_hundred.live_rows(chosen, 20, 30, chosen.warm_up)
    assert len(wall.samples) == len(cpu.samples) == 29
    assert "| wall | 29 |" in "\n".join(features_hundred.page(20, 30))
    assert any(features_hundred.crosses(x) for x in catalogue_features(1000).features.values())


def test_growth_streams_the_chunks_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    page = "\n".join(features_growth.page([2, 4], 400, [1600, 3200], 2, 1))
    assert "| bars streamed | 3,200 | 3,200 | 1 |" in page
    assert "| symbols | 2 | 1,600 | 1 |" in page


def test_a_chunk_moved_later_continues_the_stream() -> None:
    panel = make_panel(780, 2)
    program = Program(feature_set(), panel.instrument_ids)
    program.step(panel)
    again = later(panel, 780)
    program.step(again)
    assert (again.timestamp[0] - panel.timestamp[-1], again.session[0] - panel.session[-1]) == (60_000_000_000, 1)


def test_the_year_on_disk_holds_the_features_of_one_uncut_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(features_stream, "FEATURES", 12)
    found = features_stream.work(tmp_path / "features.parquet", 100, 3, 30)
    chosen = catalogue_features(12)
    parts = list(features_stream.generated(100, 3, 30))
    program = Program(chosen, parts[0].instrument_ids)
    expected = np.concatenate([program.step(part) for part in parts]).reshape(300, 12)
    stored = pq.read_table(tmp_path / "features.parquet")
    np.testing.assert_array_equal(np.column_stack([stored[name].to_numpy() for name in chosen.names]), expected)
    assert stored["instrument_id"].to_pylist()[:4] == [*parts[0].instrument_ids, parts[0].instrument_ids[0]]
    assert 0.05 < found["peak"] < 8 and found["compute"] > 0


def test_a_fresh_process_reaches_its_first_row() -> None:
    start = features_start.fresh(cache_root().parent)
    assert start.whole > start.parts["imports"] + start.parts["row"] > 0


def test_the_reference_is_not_blind_to_a_shift_by_one_bar(gappy: tuple[Panel, Path]) -> None:
    panel, path = gappy
    each, rows = present_bars(read_panel(str(path)))
    shifted = scatter([{name: np.roll(x, 1) for name, x in truth.columns_of(each[0]).items()}], rows[:1], panel.shape[0])
    found = compare(our_values(panel, [0]), shifted, COLUMNS, panel.present[:, :1], frozenset())
    assert min(one.worst for one in found) > EXACT


def test_the_index_demotes_headings_and_shows_what_was_not_measured(tmp_path: Path) -> None:
    (tmp_path / "features_batch.md").write_text("# Batch, timed\n\n| 3x | **met** |\n| 1x | **missed** |\n\n## More\n")
    (tmp_path / "demo.md").write_text("# The demo\n\ntext\n")
    index = every.assemble(tmp_path)
    assert "- [Batch, timed](#batch-timed): 1 of 2 required figures met\n" in index and "\n### More" in index and "\n## The demo" in index
    assert "**Not measured yet**: `python -m benchmarks.features_live" in index


def test_a_page_says_how_it_was_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = report.parser(None).parse_args(["--quick", "--markdown", str(tmp_path / "features_growth.md")])
    report.publish("Growth", "features_growth", ["text"], given, report.machine())
    text = (tmp_path / "features_growth.md").read_text()
    assert text == capsys.readouterr().out
    assert "Made by `python -m benchmarks.features_growth --quick --markdown docs/benchmarks/features_growth.md`." in text
    assert "load average" in text and "numba" in text


def test_the_real_daily_bars_become_a_panel_of_adjusted_prices() -> None:
    panel = daily_panel(3)
    if panel is None:
        pytest.skip("no real daily data; set TRADING_TEST_DATA")
    checked = replace(panel).check()
    assert checked.shape[1] == 3 and checked.present.sum() > 5000
    assert np.nanmin(checked.fields["high"] - checked.fields["low"]) >= 0
