"""Nulls know nothing, cost what they cost, and the comparison says who beat whom."""

from __future__ import annotations

from dataclasses import replace

import lightgbm as native
import numpy as np
import pytest
from panels import DAY, panel_of, random_closes

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.instruments import Instrument, symbol_of
from trading_platform.contracts.profile import Limits, Profile
from trading_platform.research import gates, metrics, null_models, nulls
from trading_platform.research.evaluate import Arena, Sessions, net_result
from trading_platform.research.labels import Labels, forward_return
from trading_platform.research.metrics import information_coefficient
from trading_platform.research.models import lightgbm
from trading_platform.research.splits import walk_forward
from trading_platform.research.thresholds import Thresholds
from trading_platform.research.trials import TrialCount
from trading_platform.research.walk_forward import run, training_matrix, usable_cells

ROWS, WIDTH = 420, 24
SMALL = lightgbm.Parameters(rounds=8, num_leaves=7, min_data_in_leaf=20)
PROFILE = Profile("test", limits=Limits(max_position=0.2, max_daily_drawdown=0.5, max_consecutive_losses=1000, min_coverage=0.5))


def arena(seed: int = 0) -> Arena:
    close = random_closes(np.random.default_rng(seed), ROWS, WIDTH, 0.01)
    close[ROWS - 60 :, 3] = np.nan
    panel = panel_of(close, high=close * 1.004, low=close * 0.996, volume=np.where(np.isfinite(close), 1e7, np.nan))
    opened = panel.timestamp + 9 * 3_600_000_000_000
    sessions = Sessions(opened, opened + 7 * 3_600_000_000_000, opened + DAY)
    instruments = [Instrument(i, symbol_of(i)) for i in panel.instrument_ids]
    flat = np.full(panel.shape, 0.01)
    return Arena(PROFILE, panel, sessions, (), instruments, flat, flat, 1e6)


PLACE = arena()
LABELS = forward_return(PLACE.panel, 5, demean=True)
FOLDS = walk_forward(LABELS.t0, LABELS.t1, 120, 60, 30)


def features(knows: float) -> np.ndarray:
    """Two columns of noise, the first of which knows the label in part."""
    made = np.random.default_rng(2).standard_normal((*PLACE.panel.shape, 2))
    made[:, :, 0] += knows * np.nan_to_num(LABELS.values) / np.nanstd(LABELS.values)
    return made.astype(np.float32)


def test_a_deal_keeps_every_cell_and_every_rows_values_and_tells_nothing() -> None:
    holed = LABELS.values.copy()
    holed[np.random.default_rng(3).random(holed.shape) < 0.01] = np.nan
    labels = replace(LABELS, values=holed)
    for rows in (1, nulls.DEAL_ROWS):
        dealt = nulls.shuffled_labels(labels, 3, rows)
        np.testing.assert_array_equal(np.isfinite(dealt.values), np.isfinite(holed))
        np.testing.assert_array_equal(np.sort(dealt.values, axis=1), np.sort(holed, axis=1))
        ics = [np.nanmean(information_coefficient(nulls.shuffled_labels(labels, seed, rows).values, holed)) for seed in range(30)]
        assert abs(np.mean(ics)) < 3 * np.std(ics, ddof=1) / np.sqrt(30) + 1e-12 and np.mean(np.abs(ics)) < 0.1


def test_only_a_deal_of_many_rows_keeps_the_overlap_of_the_labels() -> None:
    def persistence(values: np.ndarray) -> float:
        return float(np.nanmean(information_coefficient(values[1:], values[:-1])))

    honest = persistence(LABELS.values)
    assert honest > 0.7 and abs(persistence(nulls.shuffled_labels(LABELS, 1).values)) < 0.1
    assert persistence(nulls.shuffled_labels(LABELS, 1, nulls.DEAL_ROWS).values) > honest - 0.05


def test_one_binned_dataset_serves_every_deal_as_its_own_would() -> None:
    made, names = features(1.0), ("a", "b")
    found = nulls.shuffled_refits(PLACE.panel, made, names, LABELS, FOLDS, (11, 12, 13), SMALL)
    usable = usable_cells(PLACE.panel, made)
    for deal, predictions in zip((11, 12, 13), found, strict=True):
        dealt = nulls.shuffled_labels(LABELS, deal, nulls.DEAL_ROWS)
        for fold in (FOLDS[0], FOLDS[-1]):
            x, y = training_matrix(PLACE.panel, made, dealt, fold.train)
            options = SMALL.options(7, y.size)
            alone = native.train(options, native.Dataset(x, y, feature_name=list(names), params=options), SMALL.rounds)
            cells = usable[fold.speaks]
            expected = alone.predict(made[fold.speaks][cells], num_threads=1).astype(np.float32)
            np.testing.assert_array_equal(predictions[fold.speaks][cells], expected)
    spoken = np.isfinite(run(PLACE.panel, made, names, LABELS, FOLDS, SMALL).predictions)
    assert all(np.array_equal(np.isfinite(predictions), spoken) for predictions in found)


def test_kept_refits_are_taken_only_for_the_very_same_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, bytes] = {}

    class Shelf:
        def get(self, key: str) -> bytes | None:
            return kept.get(key)

        def put(self, key: str, model: bytes) -> None:
            kept[key] = model

    made = features(1.0)
    given = (PLACE.panel, made, ("a", "b"), LABELS, FOLDS)
    first = nulls.shuffled_refits(*given, (1, 2), SMALL, store=Shelf())
    assert len(kept) == len(FOLDS)
    nulls.shuffled_refits(*given, (1, 3), SMALL, store=Shelf())
    nulls.shuffled_refits(*given, (1, 2), replace(SMALL, rounds=9), store=Shelf())
    assert len(kept) == 3 * len(FOLDS)
    monkeypatch.setattr(nulls, "_fitted", None)
    again = nulls.shuffled_refits(*given, (1, 2), SMALL, store=Shelf(), workers=1)
    assert [one.tobytes() for one in again] == [one.tobytes() for one in first]


def test_a_model_that_knows_beats_its_refits_on_shuffled_labels_and_one_that_does_not_is_one_of_them() -> None:
    outcome = null_models.member_outcome(PLACE, LABELS)
    for knows, beats in ((0.5, True), (0.0, False)):
        made = features(knows)
        model = null_models.mean_ic(run(PLACE.panel, made, ("a", "b"), LABELS, FOLDS, SMALL).predictions, outcome)
        refits = nulls.shuffled_refits(PLACE.panel, made, ("a", "b"), LABELS, FOLDS, range(20), SMALL)
        ics = np.array([null_models.mean_ic(predictions, outcome) for predictions in refits])
        assert abs(ics.mean()) < 4 * ics.std(ddof=1) / np.sqrt(20) and (model > ics.max()) == beats


def test_random_signals_have_the_models_turnover_and_none_of_its_knowledge() -> None:
    signal = np.where(np.arange(ROWS)[:, None] < 30, np.nan, features(2.0)[:, :, 0].astype(np.float64))
    signal[ROWS - 60 :, 3] = np.nan
    outcome = null_models.member_outcome(PLACE, LABELS)
    own = net_result(PLACE, signal).performance.mean_turnover
    runs = null_models.random_runs(PLACE, signal, outcome, None, range(12))
    assert np.mean([one.turnover for one in runs]) == pytest.approx(own, rel=0.15)
    assert abs(np.mean([one.ic for one in runs])) < 0.03 < null_models.mean_ic(signal, outcome)
    assert len({one.sharpe for one in runs}) == 12
    alone = null_models.random_runs(PLACE, signal, outcome, None, range(12), workers=1)
    assert [(one.ic, one.returns.tobytes()) for one in runs] == [(one.ic, one.returns.tobytes()) for one in alone]


def test_reversal_and_buying_and_holding_by_hand() -> None:
    close = np.array([[10.0, 20.0], [11.0, 20.0], [12.0, 22.0], [12.0, np.nan], [15.0, np.nan]])
    panel = panel_of(close)
    score = nulls.reversal_1(panel)
    assert np.isnan(score[0]).all() and score[1, 0] == pytest.approx(-0.1) and score[2, 1] == pytest.approx(-0.1) and np.isnan(score[3, 1])
    held = nulls.buy_and_hold(panel, 0, 10.0)
    bought = (np.array([1.0, (12 / 11 + 1.1) / 2, (12 / 11 + 1.1) / 2, (15 / 11 + 1.1) / 2])) / 1.001
    np.testing.assert_allclose(np.cumprod(1.0 + held)[1:], bought)
    assert held[0] == 0.0 and held.size == 5
    with pytest.raises(InputError, match="can be bought"):
        nulls.buy_and_hold(panel, 4, 10.0)


def test_pairing_takes_out_what_moves_both() -> None:
    rng = np.random.default_rng(4)
    market = rng.standard_normal(1500) * 0.01
    null, skill = market + 0.001 * rng.standard_normal(1500), market + 0.001 * rng.standard_normal(1500) + 0.0005
    difference, low, high = null_models.block_bootstrap(skill, null)
    assert 0.0 < low < difference < high < low + 0.5
    apart = null_models.block_bootstrap(skill, rng.permutation(null))
    assert apart[2] - apart[1] > 4 * (high - low)
    assert null_models.block_bootstrap(null, null) == (0.0, 0.0, 0.0)
    assert np.isnan(null_models.block_bootstrap(skill[:30], null[:30])).all()
    with pytest.raises(InputError):
        null_models.block_bootstrap(skill, null[1:])


def test_the_interval_covers_no_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(80):
        both = 0.01 * rng.standard_normal((2, 500)) + 0.01 * rng.standard_normal(500)
        _, low, high = null_models.block_bootstrap(both[0], both[1], runs=200)
        hits += low <= 0.0 <= high
    assert 68 <= hits <= 80


def test_the_table_holds_every_pair_and_the_gate_reads_it() -> None:
    signal = np.where(np.arange(ROWS)[:, None] < 30, np.nan, features(3.0)[:, :, 0].astype(np.float64))
    outcome = null_models.member_outcome(PLACE, LABELS)
    net, ic = net_result(PLACE, signal), null_models.mean_ic(signal, outcome)
    runs = null_models.random_runs(PLACE, signal, outcome, None, range(10)) + null_models.rule_runs(PLACE, signal, outcome)
    pairs = null_models.compared(net, ic, runs)
    assert [pair.null for pair in pairs] == ["random signal", "12-1 momentum", "1-day reversal", "buy and hold"]
    assert pairs[0].runs == 10 and pairs[0].beaten_ic == pairs[0].beaten_sharpe == 1.0 and pairs[0].low > 0.0
    left = null_models.intercept(PLACE, net, runs)
    assert left[1] > 2.0
    lines = null_models.table_lines(net, ic, pairs, left)
    assert lines[2].startswith("| **the model**") and len(lines) == 3 + len(pairs) + 2 and all(line.count("|") == 11 for line in lines[:-2])
    told = null_models.comparison(net, ic, runs, left[1])
    assert told.random_runs == 10 and told.shuffled_runs == 0 and told.shuffled_95 is None and told.model_ic == ic
    evidence = gates.Statistical(
        net.returns, net.returns, net.returns, 252.0, TrialCount(1, 0, 1 / 400), 500.0, told, net.session.size, 0.02
    )
    judged = {gate.name: gate for gate in gates.statistical_gates(evidence, Thresholds())}["beats_nulls"]
    assert judged.verdict == "not judged" and "10 random and 0 shuffled-label runs of 100" in judged.text
    whole = replace(evidence, nulls=replace(told, random_runs=100, shuffled_runs=100, shuffled_95=0.01, shuffled_sharpe_95=0.5))
    assert {gate.name: gate.verdict for gate in gates.statistical_gates(whole, Thresholds())}["beats_nulls"] == "passed"
    better = replace(whole.nulls, shuffled_sharpe_95=net.performance.annual_sharpe + 0.1)
    lost = {gate.name: gate for gate in gates.statistical_gates(replace(whole, nulls=better), Thresholds())}["beats_nulls"]
    assert lost.verdict == "failed" and "shuffled labels reach" in lost.text


def test_a_population_stands_by_its_run_at_the_95th_percentile() -> None:
    days = np.arange(200)
    base = np.random.default_rng(8).standard_normal(200) * 0.01
    runs = [nulls_run(number, days, base - base.mean() + 0.0001 * number) for number in range(100)]
    signal = np.where(np.arange(ROWS)[:, None] < 30, np.nan, features(3.0)[:, :, 0].astype(np.float64))
    net = replace(net_result(PLACE, signal), session=days, returns=runs[94].returns)
    (pair,) = null_models.compared(net, 0.5, runs)
    assert pair.difference == 0.0 and pair.runs == 100 and pair.sharpe_95 == pytest.approx(runs[94].sharpe, rel=1e-2)


def nulls_run(number: int, days: np.ndarray, returns: np.ndarray) -> null_models.NullRun:
    return null_models.NullRun("random signal", number, 0.0, metrics.annual_sharpe(returns, 252.0), 0.1, days, returns)


def test_labels_nobody_has_are_dealt_to_nobody() -> None:
    empty = Labels(np.full((10, 4), np.nan), np.arange(10), np.arange(10) + 1, 1, "none")
    assert np.isnan(nulls.shuffled_labels(empty, 1, 5).values).all()
