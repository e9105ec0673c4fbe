"""What the machine does beside the operators: calls at full width, chunks of wide values, large cross-sections, extreme numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from feature_panels import adversarial_panel, assert_same_bits, clean_panel, compute, every_operator, expression_of, without
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.features import plan, program
from trading_platform.features.expression import (
    Expression,
    adj,
    cs_neutralize,
    cs_rank,
    cs_winsorize,
    ema,
    field,
    lag,
    log,
    median,
    same_minute_mean,
    session_previous,
    sum_,
    sum_over,
)
from trading_platform.features.operators import cross_section
from trading_platform.features.operators.kernel import Kind
from trading_platform.features.operators.table import OPERATORS
from trading_platform.features.program import FeatureSet, Program

MINUTE = 60_000_000_000


def one(expression: Expression) -> FeatureSet:
    """A set of one feature."""
    return FeatureSet("one", "test", {"x": expression})


def with_close(values: NDArray[np.float64]) -> Panel:
    """A clean panel whose close holds these values, (T, S)."""
    panel = clean_panel(1, *values.shape)
    return replace(panel, fields={**panel.fields, "close": np.ascontiguousarray(values)})


# --- operators the machine does not know ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [(), (1, 2, 40, 77)])
def test_an_operator_called_at_full_width_gives_the_bits_of_the_machine(monkeypatch: pytest.MonkeyPatch, cuts: tuple[int, ...]) -> None:
    panel = adversarial_panel(12, 110, 7)
    known = compute(every_operator(), panel)
    for name, spec in list(OPERATORS.items()):
        if spec.kind is not Kind.CROSS_SECTION:  # the uncompiled kernel is not among the machine's codes
            monkeypatch.setitem(OPERATORS, name, replace(spec, kernel=spec.kernel.py_func))  # type: ignore[attr-defined]
    assert all(plan.runs_wide(spec) for spec in OPERATORS.values())
    assert_same_bits(every_operator(), compute(every_operator(), panel, cuts), known)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_chunks_of_wide_values_change_no_bit(monkeypatch: pytest.MonkeyPatch, rows: int, threads: int) -> None:
    panel = adversarial_panel(13, 150, 130)
    whole, pieces = (Program(every_operator(), panel.instrument_ids, threads) for _ in range(2))
    kept = whole._plan.wide
    assert kept
    expected = whole.step(panel, np.empty((*panel.shape, len(OPERATORS))))
    monkeypatch.setattr(program, "WIDE_CELLS", rows * kept * panel.shape[1])
    assert_same_bits(every_operator(), pieces.step(panel, np.empty_like(expected)), expected)
    assert pieces.state_bytes() == whole.state_bytes()
    assert pieces.undefined_count == whole.undefined_count


def test_what_a_panel_or_an_operator_makes_infinite_is_counted_once() -> None:
    panel = clean_panel(16, 30, 4)
    panel.fields["close"][9, 1], panel.fields["close"][20, 2] = np.inf, -np.inf
    panel.fields["high"][3:5, 0] = 1.7e308
    gap = panel.present.copy()
    gap[0, 3] = False
    features = {"a": -field("close"), "b": sum_(field("high"), 2), "c": cs_rank(field("volume")) + field("close")}  # close: in two levels
    for given in (panel, without(panel, gap)):  # aligned and general
        running = Program(FeatureSet("c", "test", features), panel.instrument_ids)
        running.step(given, np.empty((30, 4, 3)))
        assert running.undefined_count == 3


def test_threads_count_the_same_undefined_cells() -> None:
    panel = adversarial_panel(14, 200, 150)
    counts = []
    for threads in (1, 2, 3):
        running = Program(every_operator(), panel.instrument_ids, threads)
        running.step(panel)
        counts.append(running.undefined_count)
    assert counts[0] > 0 and len(set(counts)) == 1


# --- windows -------------------------------------------------------------------------------------------------------------------------


def test_a_window_begins_at_the_phase_of_its_node() -> None:
    panel = clean_panel(2, 1, 3)
    for n in (5, 20, 100):
        node = lag(field("close"), n)
        running = Program(one(node), panel.instrument_ids)
        running.step(panel)
        held = np.flatnonzero(~np.isnan(running._state_of(node.key)[:, 0]))
        assert held.tolist() == [plan.phase_of(node)]
    assert len({plan.phase_of(lag(field("close"), n)) for n in range(50, 150)}) > 50


@pytest.mark.parametrize("phase", range(7))
def test_every_window_is_right_wherever_it_begins(monkeypatch: pytest.MonkeyPatch, phase: int) -> None:
    # Rounding differs with the place in the block; definedness and the value do not.
    windows = {name: expression_of(spec) for name, spec in OPERATORS.items() if spec.kind is Kind.WINDOW}
    for panel in (clean_panel(15, 60, 4), without(clean_panel(15, 60, 4), np.random.default_rng(15).random((60, 4)) < 0.9)):
        own = compute(FeatureSet("w", "test", windows), panel)
        with monkeypatch.context() as patch:
            patch.setattr(plan, "phase_of", lambda node: phase % int(plan._numeric(node).get("n", 1)))
            moved = compute(FeatureSet("w", "test", windows), panel)
        np.testing.assert_array_equal(np.isnan(moved), np.isnan(own))
        np.testing.assert_allclose(moved, own, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gap", range(1, 20))
def test_a_wall_clock_sum_after_a_gap_of_any_length(gap: int) -> None:
    n = 7
    for first in range(n):  # the gap begins anywhere in the ring
        full = clean_panel(3, 60, 1)
        kept = np.setdiff1d(np.arange(60), np.arange(15 + first, 15 + first + gap))
        axes = {name: getattr(full, name)[kept] for name in ("timestamp", "known_at", "session", "present", "member")}
        panel = replace(full, fields={name: values[kept] for name, values in full.fields.items()}, **axes)
        got = compute(one(sum_over(field("volume"), n)), panel)[:, 0, 0]
        cut = compute(one(sum_over(field("volume"), n)), panel, (15 + first, 16 + first))[:, 0, 0]
        np.testing.assert_array_equal(cut, got)  # a step that begins after the gap knows of it
        age = panel.timestamp[:, None] - panel.timestamp[None, :]
        within = (age >= 0) & (age < n * MINUTE)
        expected = (within * panel.fields["volume"][:, 0]).sum(axis=1)
        np.testing.assert_allclose(got[n - 1 :], expected[n - 1 :], rtol=1e-12)


def bits_of(state: NDArray[np.float64]) -> NDArray[np.int64]:
    """As they are saved: every NaN of one bit pattern."""
    return np.ascontiguousarray(np.where(np.isnan(state), np.nan, state)).view(np.int64)


@pytest.mark.parametrize("huge", [False, True])
def test_aligned_and_general_rows_leave_the_same_state(huge: bool) -> None:
    dense = clean_panel(8, 120, 9)
    if huge:  # infinities and invalid operations inside the moments
        dense.fields["close"][40, 2], dense.fields["volume"][41, 2], dense.fields["close"][44, 2] = 1e300, 1e300, np.nan
        dense.fields["close"][60, 3], dense.fields["volume"][60, 3], dense.fields["volume"][62, 3] = -1e300, 1e300, np.nan
    member = dense.member.copy()
    member[:, 0] = False
    dense = replace(dense, member=member)
    present = dense.present.copy()
    present[3, 0] = False
    for rows in (45, 66, 120):
        states = []
        for panel in (dense, without(dense, present)):
            running = Program(every_operator(), panel.instrument_ids)
            running.step(panel.rows(0, rows))
            states.append(running)
        wrong = [
            key
            for key in states[0]._plan.state
            if not np.array_equal(bits_of(states[0]._state_of(key)[:, 1:]), bits_of(states[1]._state_of(key)[:, 1:]))
        ]
        named = {node.key: node.operator for node in plan.nodes_of(every_operator().features)}
        assert not wrong, f"after {rows} rows: {sorted(named[key] for key in wrong)}"


# --- cross-sections ------------------------------------------------------------------------------------------------------------------


def awkward(rng: np.random.Generator, width: int) -> NDArray[np.float64]:
    """Values of both signs and every size, with ties, both zeros and NaN."""
    values = rng.normal(0.0, 1.0, width) * 10.0 ** rng.integers(-300, 300, width)
    values[rng.random(width) < 0.2] = -2.5
    values[rng.random(width) < 0.1] = 0.0
    values[rng.random(width) < 0.1] = -0.0
    values[rng.random(width) < 0.05] = np.nan
    return values


@pytest.mark.parametrize("width", [2, 39, 40, 41, 200, 700])
def test_ranks_and_tails_of_many_names_agree_with_pandas(width: int) -> None:
    rng = np.random.default_rng(width)
    values = np.array([awkward(rng, width) for _ in range(12)])
    values[-1] = -np.abs(rng.normal(3.0, 1.0, width))  # all below zero
    panel = with_close(values)
    ranks = compute(one(cs_rank(field("close"))), panel)[..., 0]
    tails = compute(one(cs_winsorize(field("close"), 0.2)), panel)[..., 0]
    for t in range(values.shape[0]):
        np.testing.assert_allclose(ranks[t], pd.Series(values[t]).rank(pct=True), rtol=1e-15)
        low, high = np.nanquantile(values[t], [0.2, 0.8])
        np.testing.assert_allclose(tails[t], np.clip(values[t], low, high), rtol=1e-12)


SPANS = (5e-324, 1e-310, 1e-200, 1e-9, 1.0, 1e9, 1e200, 8e307)


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("count", [2, 3, 40, 500])
def test_a_mean_is_exact_to_its_range_and_blind_to_order(span: float, count: int) -> None:
    rng = np.random.default_rng(count)
    for base in (0.0, 1.0, -span):
        values = base + span * rng.random(count)
        got = cross_section.mean_of(values)
        scale = 2.0**-600 if span > 1e200 else 1.0  # fsum overflows
        exact = math.fsum(values * scale) / count / scale
        assert abs(got - exact) <= max(np.ptp(values) * 2.0**-47, abs(exact) * 2.0**-52, 5e-324)
        for _ in range(5):
            assert np.float64(cross_section.mean_of(rng.permutation(values))).tobytes() == np.float64(got).tobytes()


def test_a_mean_of_what_has_none_is_nan_and_of_equals_themselves() -> None:
    assert math.isnan(cross_section.mean_of(np.array([1.0, np.nan, 2.0])))
    assert math.isnan(cross_section.mean_of(np.array([np.nan, 1.0])))
    assert math.isnan(cross_section.mean_of(np.array([1.7e308, -1.7e308])))
    assert math.isnan(cross_section.mean_of(np.array([np.inf, 1.0])))
    assert cross_section.mean_of(np.array([0.1 + 0.2] * 7)) == 0.1 + 0.2
    for zeros in ([0.0, -0.0], [-0.0, 0.0], [-0.0, -0.0]):
        assert math.copysign(1.0, cross_section.mean_of(np.array(zeros))) == 1.0


@pytest.mark.parametrize("operator", ["cs_demean", "cs_neutralize"])
def test_a_cell_without_its_second_input_is_undefined_and_moves_no_other(operator: str) -> None:
    panel = with_close(np.random.default_rng(7).normal(0.0, 1.0, (4, 9)))
    second = panel.fields["sector" if operator == "cs_demean" else "vix"]
    second[:] = second[:] if operator == "cs_demean" else np.random.default_rng(8).normal(0.0, 1.0, second.shape)
    second[1, 4] = np.nan
    feature = one(Expression(operator, (field("close"), field("sector" if operator == "cs_demean" else "vix"))))
    panel.member[1, 4] = False
    without_it = compute(feature, panel)
    panel.member[1, 4] = True
    got = compute(feature, panel)
    assert np.isnan(got[1, 4, 0]) and np.isfinite(np.delete(got[1, :, 0], 4)).all()
    np.testing.assert_array_equal(got, without_it)


# --- sessions ------------------------------------------------------------------------------------------------------------------------


def test_a_session_without_a_defined_value_is_no_previous_session() -> None:
    panel = with_close(np.arange(1.0, 13.0)[:, None])
    panel = replace(panel, session=17_000 + np.arange(12) // 3)
    panel.fields["close"][3:6] = np.nan  # the second session: bars, no values
    got = compute(one(session_previous(field("close"))), panel)[:, 0, 0]
    np.testing.assert_array_equal(got, [np.nan] * 3 + [3.0] * 6 + [9.0] * 3)


# --- extreme numbers -----------------------------------------------------------------------------------------------------------------


def test_logarithms_agree_with_the_library_to_one_unit() -> None:
    rng = np.random.default_rng(5)
    given = np.concatenate(
        [
            [5e-324, 1e-320, 2.2250738585072009e-308, 2.2250738585072014e-308, 1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)],
            [math.sqrt(0.5), math.sqrt(2.0), np.nextafter(math.sqrt(2.0), 9.0), np.finfo(float).max, 2.0, 0.5, 1e300],
            np.exp(rng.uniform(-700.0, 700.0, 400)),
            rng.uniform(0.5, 2.0, 400),
            [0.0, -0.0, -1.0, -5e-324, np.nan, np.inf],
        ]
    )
    given = np.resize(given, (given.size, 1))
    got = compute(one(log(field("close"))), with_close(given))[:, 0, 0]
    positive = (given[:, 0] > 0.0) & np.isfinite(given[:, 0])
    assert np.isnan(got[~positive]).all()
    expected = np.array([math.log(v) for v in given[positive, 0]])
    assert (np.abs(got[positive] - expected) <= np.spacing(np.abs(expected))).all()


def test_no_cast_to_the_matrix_makes_an_infinity() -> None:
    largest = float(np.finfo(np.float32).max)
    values = np.array([[largest, -largest, np.nextafter(largest, np.inf), -np.nextafter(largest, np.inf), 1e39, np.nan, 1e300]]).T
    running = Program(one(field("close")), ("us:A000",))
    got = running.step(with_close(values))[:, 0, 0]
    np.testing.assert_array_equal(got[:2], np.array([largest, -largest], np.float32))
    assert np.isnan(got[2:]).all()
    assert running.undefined_count == 4


def test_a_huge_value_leaves_no_trace_in_aligned_rows() -> None:
    spiked = clean_panel(33, 120, 3)
    spiked.fields["close"][40, 0] = 1e300
    running = one(sum_(adj("close"), 7))
    np.testing.assert_array_equal(compute(running, spiked)[47:], compute(running, clean_panel(33, 120, 3))[47:])


# --- known holes: each passes once the hole is closed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", [ema(field("close"), 3), median(field("close"), 2), same_minute_mean(field("close"), 3, 1)])
def test_no_operator_makes_an_infinity(expression: Expression) -> None:
    values = np.where(np.arange(40) < 20, 1.7e308, -1.7e308)[:, None]
    assert not np.isinf(compute(one(expression), with_close(values))).any()


@pytest.mark.parametrize("scale", [1e-170, 1e200])
def test_what_cannot_be_neutralized_is_undefined(scale: float) -> None:
    panel = with_close(np.random.default_rng(4).normal(0.0, 1.0, (3, 12)))
    panel.fields["vix"][:] = panel.fields["close"] * scale
    left = compute(one(cs_neutralize(field("close"), field("vix"))), panel)
    assert (np.isnan(left) | (np.abs(left) < 1e-9)).all()


@pytest.mark.parametrize("wrong", ["same bar", "earlier session"])
def test_rows_of_two_steps_obey_the_order_of_one(wrong: str) -> None:
    panel = clean_panel(6, 20, 2)
    running = Program(one(sum_over(field("volume"), 5)), panel.instrument_ids)
    running.step(panel.rows(0, 10))
    then = panel.rows(10, 20)
    if wrong == "same bar":
        then = replace(then, timestamp=then.timestamp - MINUTE // 2, known_at=then.known_at - MINUTE // 2)
    else:
        then = replace(then, session=then.session - 5)
    with pytest.raises(InputError):
        running.step(then)
