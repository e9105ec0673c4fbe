"""CUSUM detectors: published run lengths, calibration that survives autocorrelation, and what short Sharpes are worth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.profile import MonitorRules
from trading_platform.research import monitoring
from trading_platform.research.monitoring import SHARPE_TRIGGERS, Detector, SharpeTrigger

YEAR = 252.0


def autocorrelated(count: int, rho: float, seed: int) -> np.ndarray:
    """AR(1) with standard deviation 1."""
    noise = np.random.default_rng(seed).standard_normal(count) * np.sqrt(1.0 - rho**2)
    for at in range(1, count):
        noise[at] += rho * noise[at - 1]
    return noise


# One-sided CUSUM, allowance 0.5. Montgomery, Introduction to Statistical Quality Control, table 9.3: two-sided 168 and 465 at no shift
# (one-sided twice that), 8.38 and 10.4 at a shift of one standard deviation, 4.75 and 5.75 at one and a half.
@pytest.mark.parametrize(
    ("limit", "shift", "published", "digits"),
    [(4, 0, 336, 1), (5, 0, 930, 1), (4, 1, 8.38, 0.01), (5, 1, 10.4, 0.05), (4, 1.5, 4.75, 0.01)],
)
def test_run_lengths_are_the_published_ones(limit: float, shift: float, published: float, digits: float) -> None:
    assert monitoring.run_length_chain(0.5, limit, shift) == pytest.approx(published, abs=digits)
    assert monitoring.run_length_siegmund(0.5, limit, shift) == pytest.approx(published, rel=0.03)


def test_siegmunds_form_has_its_limit_where_shift_and_allowance_are_equal() -> None:
    assert monitoring.run_length_siegmund(0.5, 4.0, 0.5) == pytest.approx((4.0 + 1.166) ** 2)
    assert monitoring.run_length_siegmund(0.5, 4.0, 0.5 + 1e-5) == pytest.approx((4.0 + 1.166) ** 2, rel=1e-3)


def test_a_cusum_is_what_a_person_adds_up() -> None:
    detector = Detector("pnl", "low", mean=1.0, sd=2.0, allowance=0.25, limit=2.0, every=YEAR, reference=500)
    found = monitoring.watch(detector, np.array([1.0, -1.0, np.nan, -2.0, -1.0, 5.0, 1.0]))
    # bad sides: 0, 1, -, 1.5, 1, -2, 0: sums 0, .75, .75, 2.0 (not above), 2.75 alarm, 0, 0
    assert found.sums.tolist() == [0.0, 0.75, 0.75, 2.0, 2.75, 0.0, 0.0] and found.alarms.tolist() == [4]
    high = Detector("cost", "high", 1.0, 2.0, 0.25, 2.0, YEAR, 500)
    assert monitoring.watch(high, np.array([5.0, 5.0])).alarms.tolist() == [1]


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_calibration_keeps_one_false_alarm_a_year_under_autocorrelation(rho: float) -> None:
    detector = monitoring.calibrated("pnl", 0.01 * autocorrelated(4000, rho, 1) + 0.001, "low", YEAR)
    fresh = 0.01 * autocorrelated(int(200 * YEAR), rho, 2) + 0.001
    assert 0.6 < monitoring.watch(detector, fresh).alarms.size / 200 < 1.4  # per year


def test_a_limit_for_independent_noise_rings_far_too_often_on_autocorrelated_values() -> None:
    naive = monitoring.for_noise("pnl", "low", YEAR)
    assert 0.8 < monitoring.watch(naive, autocorrelated(int(200 * YEAR), 0.0, 3)).alarms.size / 200 < 1.2
    assert monitoring.watch(naive, autocorrelated(int(200 * YEAR), 0.3, 3)).alarms.size / 200 > 2.0


def test_the_simulated_limit_for_white_noise_is_the_markov_chains() -> None:
    paths = np.random.default_rng(5).standard_normal((2000, 512))
    simulated, exact = monitoring.limit_for(paths, 0.25, YEAR), monitoring.for_noise("x", "low", YEAR).limit
    assert simulated == pytest.approx(exact, rel=0.03)
    assert monitoring.run_length_chain(0.25, exact) == pytest.approx(YEAR, rel=1e-3)


def test_what_worsens_is_found_sooner_the_more_it_worsens() -> None:
    reference = autocorrelated(2000, 0.2, 4)
    detector = monitoring.calibrated("pnl", reference, "low", YEAR)
    delays = [monitoring.delay(detector, shift, reference) for shift in (0.0, 0.25, 0.5, 1.0, 2.0)]
    assert delays == sorted(delays, reverse=True) and delays[0] > 150 and delays[3] < 15
    worse = np.concatenate([autocorrelated(100, 0.2, 6), autocorrelated(60, 0.2, 7) - 1.0])
    alarms = monitoring.watch(detector, worse).alarms
    assert alarms.size and alarms[alarms >= 100][0] < 130
    white = monitoring.for_noise("x", "low", YEAR)
    noise = np.random.default_rng(13).standard_normal(20_000)
    assert monitoring.delay(white, 1.0, noise) == pytest.approx(monitoring.delay(white, 1.0), rel=0.1)


def test_differences_without_a_reference_become_standard_normal_from_the_twenty_first_on() -> None:
    rng = np.random.default_rng(8)
    z = np.concatenate([monitoring.learned_from_zero(7.0 * rng.standard_normal(60)) for _ in range(2000)])
    assert np.isnan(z[:20]).all() and np.isfinite(z[20:60]).all()
    known = z[np.isfinite(z)]
    assert stats.kstest(known, "norm").pvalue > 0.01
    # 0.27 % of normal values lie beyond 3; divided by a spread learned from 20 to 60 values and left so, 0.45 % would
    assert np.mean(np.abs(known) > 3.0) == pytest.approx(0.0027, abs=0.0006)


def test_costs_above_the_model_ring_and_costs_as_modelled_do_not() -> None:
    detector = monitoring.for_noise("cost", "high", 3 * YEAR)
    noise = np.random.default_rng(9).standard_normal(160)
    assert monitoring.watch(detector, monitoring.learned_from_zero(noise)).alarms.size == 0
    worse = noise + np.where(np.arange(160) >= 60, 1.5, 0.0)
    assert monitoring.watch(detector, monitoring.learned_from_zero(worse)).alarms.size


def test_one_missing_and_one_enormous_value_do_no_harm() -> None:
    values = np.array([np.nan] * 3 + [1.0, -1.0] * 10 + [1e9, np.nan, 0.5])
    z = monitoring.learned_from_zero(values)
    assert z[23] == 8.0 and np.isnan(z[24]) and abs(z[25]) < 1e-6


def test_the_distance_of_two_samples_is_kolmogorovs() -> None:
    rng = np.random.default_rng(10)
    reference, sample = np.sort(rng.standard_normal(5000)), rng.standard_normal(45) + 0.4
    assert monitoring.distance(reference, sample) == pytest.approx(stats.ks_2samp(reference, sample).statistic, abs=1e-12)
    assert np.isnan(monitoring.distance(reference, np.array([np.nan])))


@pytest.mark.parametrize("reference", [np.arange(50.0), np.full(500, 3.0), np.full(500, np.nan)])
def test_too_short_or_constant_a_reference_is_refused(reference: np.ndarray) -> None:
    with pytest.raises(InputError, match="pnl"):
        monitoring.calibrated("pnl", reference, "low", YEAR)


def test_a_healthy_model_breaches_thirty_percent_over_five_days_on_every_second_day() -> None:
    # T32: 47 % for a true Sharpe of 1.5
    assert SHARPE_TRIGGERS["five_days_30"].false_alarms(1.5) == pytest.approx(0.47, abs=0.005)


@pytest.mark.parametrize("name", sorted(SHARPE_TRIGGERS))
def test_false_alarm_shares_are_what_simulation_counts(name: str) -> None:
    trigger, rng = SHARPE_TRIGGERS[name], np.random.default_rng(11)
    returns = rng.standard_normal((4000, 2 * trigger.window)) * 0.01 + 0.01 * 1.5 / np.sqrt(252.0)
    counted = np.mean([bool(trigger.breached(row, 1.5)) for row in returns])
    assert trigger.false_alarms(1.5) == pytest.approx(counted, abs=0.03)
    assert trigger.action == "notify"


def test_no_action_hangs_on_a_sharpe_of_fewer_than_sixty_sessions() -> None:
    with pytest.raises(InputError, match="T32"):
        SharpeTrigger("hasty", 59, 0.5, action="refit")
    assert SharpeTrigger("patient", 60, 0.5, action="refit").breached(np.zeros(10), 1.5) is None


def test_a_profile_may_let_the_long_one_ask_for_a_refit_and_no_short_one() -> None:
    found = {one.name: one.action for one in monitoring.sharpe_triggers(MonitorRules(half_of_backtest_60="refit"))}
    assert found.pop("half_of_backtest_60") == "refit" and set(found.values()) == {"notify"}
    for rules in (MonitorRules(five_days_30="refit"), MonitorRules(half_of_backtest_60="rollback")):
        with pytest.raises(InputError):
            monitoring.sharpe_triggers(rules)


def test_the_rows_of_triggers_print_their_false_alarms() -> None:
    returns = np.random.default_rng(12).standard_normal(30) * 0.01 - 0.02
    rows = {row["trigger"]: row for row in monitoring.trigger_rows(returns, 1.5, 252.0, tuple(SHARPE_TRIGGERS.values()))}
    assert rows["five_days_30"]["breached"] is True and rows["half_of_backtest_60"]["breached"] is None
    assert all(0.3 < float(str(row["false_alarms"])) < 0.5 for row in rows.values())
