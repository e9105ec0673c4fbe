from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.ledger import GENESIS, LedgerReader
from trading_platform.registry import ledger
from trading_platform.registry.approvals import record_thresholds
from trading_platform.research import gates
from trading_platform.research.export import Latency, Parity
from trading_platform.research.nulls import NullComparison
from trading_platform.research.thresholds import Thresholds, changed, in_force, thresholds_of
from trading_platform.research.trials import TrialCount

RNG = np.random.default_rng(3)
NOISE = RNG.standard_normal(1500) * 0.004
GOOD = NOISE - NOISE.mean() + 0.004 * 2.2 / np.sqrt(252)
TECHNICAL = gates.Technical((), Parity(12_000, 0, 0.0, 1.0, 1.0, 0.0, 1.0, True), 0.0, Latency(300, 0.5, 1.0, 6e5))
NULLS = NullComparison(0.03, 0.005, 200, 0.01, 0.006, 100, 3.0)
PBO = gates.Overfitting(0.05, 40, 16, 0.25, 0.71)
STATISTICAL = gates.Statistical(
    GOOD,
    GOOD * 0.9,
    GOOD * 0.8,
    252.0,
    TrialCount(5, 1, 1 / 1499),
    500.0,
    NULLS,
    1500,
    0.02,
    pbo=PBO,
    capacity=2e6,
    capital=1e6,
    trades=900,
    win_rate=0.52,
    accuracy=0.56,
)


def verdicts(technical: gates.Technical = TECHNICAL, statistical: gates.Statistical | None = STATISTICAL) -> dict[str, str]:
    return {g.name: g.verdict for g in gates.evaluate(technical, statistical)}


def test_a_good_model_passes_every_gate_and_the_names_are_the_ledgers() -> None:
    found = verdicts()
    assert set(found.values()) == {"passed"}
    assert set(found) >= set(ledger.required_gates("live")) - {"operational_evidence"}


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
        ({"delayed": None}, "cost_stress", "not judged"),
        ({"delayed": GOOD - 0.6 * GOOD.mean()}, "cost_stress", "failed"),
        ({"nulls": None}, "beats_nulls", "not judged"),
        ({"nulls": replace(NULLS, model_ic=0.004)}, "beats_nulls", "failed"),
        ({"nulls": replace(NULLS, shuffled_95=0.04)}, "beats_nulls", "failed"),
        ({"nulls": replace(NULLS, intercept_t=1.9)}, "beats_nulls", "failed"),
        ({"nulls": replace(NULLS, shuffled_runs=99)}, "beats_nulls", "not judged"),
        ({"nulls": replace(NULLS, intercept_t=None)}, "beats_nulls", "not judged"),
        ({"nulls": replace(NULLS, random_95=float("nan"), random_runs=0)}, "beats_nulls", "not judged"),
        ({"nulls": replace(NULLS, random_95=float("nan"))}, "beats_nulls", "failed"),
        ({"nulls": replace(NULLS, model_sharpe=1.0, shuffled_sharpe_95=1.1)}, "beats_nulls", "failed"),
        ({"nulls": replace(NULLS, model_sharpe=1.0, random_sharpe_95=1.1)}, "beats_nulls", "failed"),
        ({"nulls": replace(NULLS, random_sharpe_95=1.1)}, "beats_nulls", "failed"),
        ({"names_left": 0.0}, "survivorship", "failed"),
        ({"pbo": replace(PBO, probability=0.21)}, "pbo", "failed"),
        ({"pbo": None}, "pbo", "passed"),
        ({"pbo": None, "trials": TrialCount(30, 0, 1 / 1499)}, "pbo", "not judged"),
        ({"pbo": replace(PBO, configurations=20), "trials": TrialCount(30, 0, 1 / 1499)}, "pbo", "not judged"),
        ({"pbo": replace(PBO, blocks=8)}, "pbo", "not judged"),
        ({"capacity": 0.9e6}, "capacity", "failed"),
        ({"capacity": None}, "capacity", "not judged"),
        ({"trades": 100}, "seed_trades", "failed"),
        ({"win_rate": 0.45}, "seed_win_rate", "failed"),
        ({"accuracy": 0.51}, "seed_accuracy", "failed"),
        ({"accuracy": None}, "seed_accuracy", "not judged"),
        ({"accuracy": float("nan")}, "seed_accuracy", "not judged"),
        ({"returns": GOOD * 10}, "seed_drawdown", "failed"),
        ({"returns": GOOD + 0.0007}, "seed_suspected_leakage", "failed"),
        ({"returns": np.zeros(1500)}, "seed_suspected_leakage", "failed"),
    ],
)
def test_a_statistical_fault_is_not_passed(change: dict[str, Any], gate: str, verdict: str) -> None:
    assert verdicts(statistical=replace(STATISTICAL, **change))[gate] == verdict


def test_a_sharpe_ratio_above_three_is_flagged_at_once_and_blocks_beyond_its_sampling_error() -> None:
    flat = (NOISE - NOISE.mean()) / NOISE.std(ddof=1)
    for yearly, flagged, blocked in ((2.9, False, False), (3.3, True, False), (4.2, True, True)):
        found = verdicts(statistical=replace(STATISTICAL, returns=0.004 * (flat + yearly / np.sqrt(252))))
        assert (found["seed_suspected_leakage"] == "failed", found["plausible_sharpe"] == "failed") == (flagged, blocked)


def test_the_default_thresholds_are_the_documented_ones() -> None:
    """Who changes a default changes this hash, docs/gates.md and its history; at a running platform it takes a ledger entry."""
    manual = (Path(__file__).parents[2] / "docs" / "gates.md").read_text(encoding="utf-8")
    assert f"`{Thresholds().hash[:16]}`" in manual
    assert all(f"`{field.name}`" in manual for field in fields(Thresholds))
    policy = next(gate for gate in gates.evaluate(TECHNICAL, STATISTICAL) if gate.name == "thresholds")
    assert policy.text == Thresholds().hash != replace(Thresholds(), dsr=0.9).hash


def test_a_threshold_moves_only_by_a_ledger_entry_of_two_people(tmp_path: Path) -> None:
    path, strict = tmp_path / "ledger.jsonl", thresholds_of({"dsr": 0.97, "null_runs": 200})
    assert in_force(LedgerReader(path).entries()) == Thresholds()
    for people, reason in ((["ann"], "r"), (["ann", "Ann "], "r"), (["ann", "automatic"], "r"), (["ann", "bob"], " ")):
        with pytest.raises(InputError):
            record_thresholds(path, expected_head=GENESIS, thresholds=strict, at=1, people=people, reason=reason)
    entry = record_thresholds(path, expected_head=GENESIS, thresholds=strict, at=1, people=["ann", "bob"], reason="more trials a year")
    assert entry.document is not None and entry.document["dsr"] == 0.97
    assert in_force(LedgerReader(path).entries()) == strict
    with pytest.raises(InputError, match="are in force"):
        record_thresholds(path, expected_head=entry.hash, thresholds=strict, at=2, people=["ann", "bob"], reason="again")
    with pytest.raises(CorruptionError, match="under the name"):
        in_force([replace(entry, document={**entry.document, "dsr": 0.5})])
    assert changed(strict, ["dsr=0.95", "null_runs=100"]) == Thresholds()
    with pytest.raises(InputError, match="gives no number"):
        changed(strict, ["dsr"])


@pytest.mark.parametrize("given", [{"dsrr": 0.9}, {"dsr": "0.9"}, {"dsr": True}, {"null_runs": 99.5}, {"dsr": -1.0}, {"dsr": float("nan")}])
def test_a_threshold_that_does_not_exist_or_is_no_number_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        thresholds_of(given)


def test_the_dsr_gate_judges_by_the_stricter_count_of_trials() -> None:
    def dsr(trials: TrialCount) -> gates.GateResult:
        return next(gate for gate in gates.evaluate(TECHNICAL, replace(STATISTICAL, trials=trials)) if gate.name == "dsr")

    raw, alike = dsr(TrialCount(40, 0, 1e-3)), dsr(TrialCount(40, 0, 1e-3, 12, 1e-2))
    assert raw.value is not None and alike.value is not None and alike.value < raw.value
    assert "12 different bets" in alike.text and "different" not in raw.text
    assert dsr(TrialCount(40, 0, 1e-3, 2, 1e-3)).value == raw.value  # fewer different bets never make it easier


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
    found = [g for g in gates.evaluate(TECHNICAL, week) if g.kind in ("statistical", "data")]
    assert {g.verdict for g in found} == {"not judged"} and all("no power" in g.text or "short" in g.text for g in found)
    assert {g.verdict for g in gates.evaluate(TECHNICAL, None) if g.kind not in ("technical", "policy")} == {"not judged"}


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
