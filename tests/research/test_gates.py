from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trading_platform.registry import ledger
from trading_platform.research import gates
from trading_platform.research.export import Latency, Parity
from trading_platform.research.nulls import NullComparison
from trading_platform.research.trials import TrialCount

RNG = np.random.default_rng(3)
NOISE = RNG.standard_normal(1500) * 0.004
GOOD = NOISE - NOISE.mean() + 0.004 * 2.2 / np.sqrt(252)
TECHNICAL = gates.Technical((), Parity(12_000, 0, 0.0, 1.0, 1.0, 0.0, 1.0, True), 0.0, Latency(300, 0.5, 1.0, 6e5))
NULLS = NullComparison(0.03, 0.005, 200, 0.01, 0.006, 100, 3.0)
STATISTICAL = gates.Statistical(GOOD, GOOD * 0.9, GOOD * 0.8, 252.0, TrialCount(5, 1, 1 / 1499), 500.0, NULLS, 1500, 0.02)


def verdicts(technical: gates.Technical = TECHNICAL, statistical: gates.Statistical | None = STATISTICAL) -> dict[str, str]:
    return {g.name: g.verdict for g in gates.evaluate(technical, statistical)}


def test_a_good_model_passes_every_gate_and_the_names_are_the_ledgers() -> None:
    found = verdicts()
    assert set(found.values()) == {"passed"}
    assert set(found) == set(ledger.required_gates("live")) - {"operational_evidence"}


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"leaks": ("label_in_features: x",)}, "leakage"),
        ({"leaks": None}, "leakage"),
        ({"golden_difference": 1e-9}, "golden"),
        ({"golden_difference": None}, "golden"),
        ({"golden_difference": float("nan")}, "golden"),
        ({"latency": Latency(300, 50.0, 101.0, 1.0)}, "latency"),
        ({"latency": None}, "latency"),
        ({"parity": None}, "parity"),
        ({"parity": None}, "batch_invariance"),
    ],
)
def test_a_technical_fault_is_not_passed(change: dict[str, Any], gate: str) -> None:
    assert verdicts(replace(TECHNICAL, **change))[gate] != "passed"


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 9_999},
        {"max_abs": 2e-6},
        {"max_abs": float("nan")},
        {"spearman": 0.999},
        {"spearman": float("nan")},
        {"sign_flips": 0.01},
        {"top_overlap": 0.9},
    ],
)
def test_each_part_of_parity_can_fail_it(change: dict[str, Any]) -> None:
    assert TECHNICAL.parity is not None
    assert verdicts(replace(TECHNICAL, parity=replace(TECHNICAL.parity, **change)))["parity"] == "failed"


def test_a_model_whose_predictions_depend_on_the_batch_fails() -> None:
    assert TECHNICAL.parity is not None
    assert verdicts(replace(TECHNICAL, parity=replace(TECHNICAL.parity, batch_invariant=False)))["batch_invariance"] == "failed"


@pytest.mark.parametrize(
    ("change", "gate", "verdict"),
    [
        ({"returns": NOISE}, "dsr", "failed"),
        ({"returns": NOISE}, "net_sharpe", "failed"),
        ({"returns": NOISE}, "expectancy", "failed"),
        ({"trials": TrialCount(5000, 0, 0.01)}, "dsr", "failed"),
        ({"trials": TrialCount(0, 0, float("nan"))}, "dsr", "not judged"),
        ({"returns": GOOD + 0.002}, "plausible_sharpe", "failed"),
        ({"returns": np.zeros(1500)}, "plausible_sharpe", "failed"),
        ({"returns": np.where(np.arange(1500) < 60, -0.004, GOOD)}, "drawdown_at_fixed_volatility", "failed"),
        ({"effective_bets": 99.0}, "effective_bets", "failed"),
        ({"stressed": -GOOD}, "cost_stress", "failed"),
        ({"stressed": None}, "cost_stress", "not judged"),
        ({"delayed": GOOD * 0.0 + NOISE * 1.0}, "cost_stress", "failed"),
        ({"nulls": None}, "beats_nulls", "not judged"),
        ({"nulls": replace(NULLS, model_ic=0.004)}, "beats_nulls", "failed"),
        ({"nulls": replace(NULLS, shuffled_95=0.04)}, "beats_nulls", "failed"),
        ({"nulls": replace(NULLS, intercept_t=1.9)}, "beats_nulls", "failed"),
        ({"nulls": replace(NULLS, shuffled_runs=99)}, "beats_nulls", "not judged"),
        ({"nulls": replace(NULLS, intercept_t=None)}, "beats_nulls", "not judged"),
        ({"names_left": 0.0}, "survivorship", "failed"),
    ],
)
def test_a_statistical_fault_is_not_passed(change: dict[str, Any], gate: str, verdict: str) -> None:
    assert verdicts(statistical=replace(STATISTICAL, **change))[gate] == verdict


def test_the_dsr_gate_says_how_long_a_record_it_takes() -> None:
    def judged(returns: np.ndarray, trials: int = 5) -> gates.GateResult:
        evidence = replace(STATISTICAL, returns=returns, trials=TrialCount(trials, 0, 1 / 1499))
        return next(gate for gate in gates.evaluate(TECHNICAL, evidence) if gate.name == "dsr")

    def needed(gate: gates.GateResult) -> int:
        return int(gate.text.partition("minimum track record ")[2].partition(" observations (there are ")[0])

    assert judged(GOOD).text.endswith("of trials 1.4 years") and judged(GOOD, 5000).text.endswith("of trials 13.6 years")
    assert "minimum track record none" in judged(-GOOD).text
    for less, passed in ((0.0, True), (0.0002, True), (0.0004, False)):
        gate = judged(GOOD - less)
        assert (needed(gate) <= GOOD.size) == gate.passed == passed


def test_a_week_has_no_power() -> None:
    week = replace(STATISTICAL, sessions=5)
    found = [g for g in gates.evaluate(TECHNICAL, week) if g.kind != "technical"]
    assert {g.verdict for g in found} == {"not judged"} and all("no power" in g.text or "short" in g.text for g in found)
    assert {g.verdict for g in gates.evaluate(TECHNICAL, None) if g.kind != "technical"} == {"not judged"}


def test_records_leave_out_what_is_not_known_so_that_the_ledger_refuses() -> None:
    record = gates.as_record(gates.evaluate(TECHNICAL, None))
    assert "passed" not in record["dsr"] and record["parity"]["passed"] is True and record["parity"]["threshold"] == 1e-6


@pytest.mark.parametrize(
    ("trials", "rows", "dsr"), [(10, 1000, (0.01, 0.14, 0.46)), (10, 2500, (0.20, 0.69, 0.97)), (50, 2500, (0.19, 0.68, 0.97))]
)
def test_the_power_of_the_dsr_gate_is_the_published_one(trials: int, rows: int, dsr: tuple[float, ...]) -> None:
    table = gates.power_table(rows, 252.0, trials, sharpes=(0.0, 1.0, 1.5, 2.0))
    assert table[0].dsr <= 0.01
    np.testing.assert_allclose([row.dsr for row in table[1:]], dsr, atol=0.09)
    assert all(row.all <= min(row.dsr, row.net_sharpe, row.drawdown) for row in table)
    assert gates.power_lines(table)[2].startswith("| 0.0 |")
