"""I1 and I2 of the design, for every feature of the catalogue and every operator of the table (generated, not listed)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from feature_panels import PRICE_FIELDS, adversarial_panel, assert_same_bits, clean_panel, compute, every_operator, with_event, without
from feature_worker import save_panel, set_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trading_platform.contracts import names
from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog import registry
from trading_platform.features.expression import adj, ema, mean
from trading_platform.features.operators.kernel import Kind, Operator
from trading_platform.features.operators.table import OPERATORS
from trading_platform.features.program import FeatureSet

SETS = (*registry.names(), "every_operator")
ROWS, WIDTH = 290, 9
LONG = bool(os.environ.get(names.ENV_TEST_LONG))
CAMPAIGN = settings(max_examples=100 if LONG else 12, deadline=None, suppress_health_check=list(HealthCheck))


def check_chunks(feature_set: FeatureSet, panel: Panel, cuts: tuple[int, ...]) -> None:
    """I2: any split, with the state saved and loaded at each cut, gives the bits of one run."""
    assert_same_bits(feature_set, compute(feature_set, panel, cuts), compute(feature_set, panel))


def another_future(panel: Panel, row: int, seed: int) -> Panel:
    """The panel up to `row` (included), and other bars, presence, universe, sessions and factors after it."""
    rng = np.random.default_rng([seed, 2])
    shape = (panel.shape[0] - row - 1, panel.shape[1])
    fields = {name: values.copy() for name, values in panel.fields.items()}
    present, member, session = panel.present.copy(), panel.member.copy(), panel.session.copy()
    for values in fields.values():
        values[row + 1 :] = np.exp(rng.normal(3.0, 2.0, shape))
    present[row + 1 :] = rng.random(shape) < 0.8
    member[row + 1 :] = rng.random(shape) < 0.5
    session[row + 1 :] += np.cumsum(rng.random(shape[0]) < 0.3)
    return without(replace(panel, fields=fields, member=member, session=session), present)


def check_causal(feature_set: FeatureSet, panel: Panel, row: int, seed: int = 0) -> None:
    """I1: whatever comes after `row` moves no bit at or before it."""
    before = compute(feature_set, panel)[: row + 1]
    assert_same_bits(feature_set, compute(feature_set, another_future(panel, row, seed))[: row + 1], before)


@pytest.mark.parametrize("name", SETS)
@CAMPAIGN
@given(seed=st.integers(0, 10_000), cuts=st.sets(st.integers(1, ROWS - 1), max_size=12), gaps=st.booleans())
def test_any_split_gives_the_same_bits(name: str, seed: int, cuts: set[int], gaps: bool) -> None:
    panel = adversarial_panel(seed, ROWS, WIDTH) if gaps else clean_panel(seed, ROWS, WIDTH)
    check_chunks(set_of(name), panel, tuple(sorted(cuts)))


@pytest.mark.parametrize("name", SETS)
def test_one_row_at_a_time_gives_the_bits_of_the_batch(name: str) -> None:
    panel = adversarial_panel(11, ROWS, WIDTH)
    check_chunks(set_of(name), panel, tuple(range(1, ROWS)))


@pytest.mark.parametrize("name", SETS)
@CAMPAIGN
@given(seed=st.integers(0, 10_000), row=st.integers(0, ROWS - 2))
def test_the_future_moves_no_past_feature(name: str, seed: int, row: int) -> None:
    check_causal(set_of(name), adversarial_panel(seed, ROWS, WIDTH), row, seed)


def test_a_state_reloaded_in_another_process_at_each_cut_gives_the_same_bits(tmp_path: Path) -> None:
    panel = adversarial_panel(5, ROWS, WIDTH)
    save_panel(tmp_path / "panel.npz", panel)
    edges = (0, 61, 62, 150, ROWS)
    for start, stop in pairwise(edges):
        run_worker(tmp_path, ",".join(SETS), start, stop)
    for name in SETS:
        parts = [np.load(tmp_path / f"{name}_features_{start}.npy") for start in edges[:-1]]
        assert_same_bits(set_of(name), np.concatenate(parts), compute(set_of(name), panel))


def test_uncompiled_kernels_give_the_same_bits(tmp_path: Path) -> None:
    panel = adversarial_panel(6, 150, 7)
    save_panel(tmp_path / "panel.npz", panel)
    names = SETS if LONG else ("core", "every_operator")
    run_worker(tmp_path, ",".join(names), 0, 150, NUMBA_DISABLE_JIT="1")
    for name in names:
        assert_same_bits(set_of(name), np.load(tmp_path / f"{name}_features_0.npy"), compute(set_of(name), panel))


def run_worker(folder: Path, names: str, start: int, stop: int, **environment: str) -> None:
    """One process of its own per call."""
    command = [sys.executable, str(Path(__file__).with_name("feature_worker.py")), str(folder), names, str(start), str(stop)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("make", [adversarial_panel, clean_panel])
def test_permuted_symbols_give_permuted_features(name: str, make: Callable[[int, int, int], Panel]) -> None:
    panel, order = make(3, ROWS, WIDTH), np.random.default_rng(3).permutation(WIDTH)
    fields = {key: np.ascontiguousarray(values[:, order]) for key, values in panel.fields.items()}
    present, member = np.ascontiguousarray(panel.present[:, order]), np.ascontiguousarray(panel.member[:, order])
    permuted = compute(set_of(name), replace(panel, fields=fields, present=present, member=member))
    assert_same_bits(set_of(name), permuted, np.ascontiguousarray(compute(set_of(name), panel)[:, order]))


@pytest.mark.parametrize("name", SETS)
def test_the_path_for_aligned_columns_gives_the_bits_of_the_general_one(name: str) -> None:
    # One gap in column 0 keeps its neighbours' block off the fast path for ever; a universe without column 0 hides it from cross-sections.
    dense = clean_panel(8, ROWS, WIDTH)
    member = dense.member.copy()
    member[:, 0] = False
    dense = replace(dense, member=member)
    present = dense.present.copy()
    present[3, 0] = False
    ragged = compute(set_of(name), without(dense, present))
    assert_same_bits(set_of(name), np.ascontiguousarray(ragged[:, 1:]), np.ascontiguousarray(compute(set_of(name), dense)[:, 1:]))


@pytest.mark.parametrize("name", SETS)
def test_threads_and_blocks_change_no_bit(name: str) -> None:
    panel = adversarial_panel(9, 400, 150)
    whole = compute(set_of(name), panel)
    assert_same_bits(set_of(name), compute(set_of(name), panel, threads=2), whole)
    assert_same_bits(set_of(name), compute(set_of(name), panel, (1, 2, 129, 257), threads=2), whole)


# --- T1: events ----------------------------------------------------------------------------------------------------------------------


def moved(feature_set: FeatureSet, got: NDArray, expected: NDArray) -> dict[str, float]:
    """Largest change per feature, relative to 1 or to the value, whichever is larger; inf where definedness differs."""
    same = np.isnan(got) == np.isnan(expected)
    change = np.where(np.isnan(got), 0.0, np.abs(got - expected) / np.maximum(1.0, np.abs(expected)))
    change = np.where(same, change, np.inf)
    return {name: float(np.nanmax(change[..., f])) for f, name in enumerate(feature_set.names)}


@pytest.mark.parametrize("name", registry.names())
def test_an_inserted_split_moves_no_feature(name: str) -> None:
    feature_set, panel = set_of(name), clean_panel(21, ROWS, WIDTH)
    changes = moved(feature_set, compute(feature_set, with_event(panel, 90, 2, 4.0)), compute(feature_set, panel))
    assert {key: value for key, value in changes.items() if value > 1e-12} == {}


@pytest.mark.parametrize("name", registry.names())
def test_an_inserted_dividend_moves_no_feature_beyond_rounding(name: str) -> None:
    feature_set, panel = set_of(name), clean_panel(23, ROWS, WIDTH)
    changes = moved(feature_set, compute(feature_set, with_event(panel, 90, 2, 1.0, 0.0137)), compute(feature_set, panel))
    assert {key: value for key, value in changes.items() if value > 1e-9} == {}


@pytest.mark.parametrize("name", registry.names())
def test_only_features_flagged_as_levels_move_when_one_instruments_prices_are_scaled(name: str) -> None:
    feature_set, panel = set_of(name), clean_panel(22, ROWS, WIDTH)
    fields = {key: values.copy() for key, values in panel.fields.items()}
    for key in PRICE_FIELDS:
        fields[key][:, 2] *= 3.7
    changes = moved(feature_set, compute(feature_set, replace(panel, fields=fields)), compute(feature_set, panel))
    assert {key for key, value in changes.items() if value > 1e-9} == set(feature_set.level)


# --- planted mutants: the properties above must be able to fail -----------------------------------------------------------------------


def centred_mean(present, seen, aligned, places, lo, state, x, n, divisor, out):
    """Mutant: the mean over [t - n/2, t + n/2] of the chunk."""
    half = n // 2
    for t in range(x.shape[0]):
        out[t] = x[max(t - half, 0) : t + half + 1].mean(axis=0)
    return 0


def forgetful_ema(present, seen, aligned, places, lo, state, x, n, weight, out):
    """Mutant: the state lives in the call and is never saved."""
    value = x[0].copy()
    for t in range(x.shape[0]):
        value += weight * (x[t] - value)
        out[t] = value
    return 0


def whole_column_zscore(x, out):
    """Mutant: mean and deviation over all cells of the chunk."""
    out[:] = (x - x.mean()) / x.std()
    return 0


def test_a_centred_window_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATORS, "mean", replace(OPERATORS["mean"], kernel=centred_mean))
    feature_set = FeatureSet("mutant", "m", {"mean": mean(adj("close"), 8)})
    with pytest.raises(AssertionError, match="bits differ"):
        check_causal(feature_set, clean_panel(1, ROWS, 4), 100)


def test_a_state_that_is_not_saved_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = replace(OPERATORS["ema"], kernel=forgetful_ema, cold=lambda _: ())
    monkeypatch.setitem(OPERATORS, "ema", mutant)
    feature_set = FeatureSet("mutant", "m", {"ema": ema(adj("close"), 8)})
    with pytest.raises(AssertionError, match="bits differ"):
        check_chunks(feature_set, clean_panel(1, 100, 4), (50,))


def test_a_zscore_over_the_whole_column_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATORS, "neg", Operator("neg", Kind.ELEMENTWISE, whole_column_zscore, 1, "mutant"))
    feature_set = FeatureSet("mutant", "m", {"zscore": -adj("close")})
    with pytest.raises(AssertionError, match="bits differ"):
        check_causal(feature_set, clean_panel(1, 100, 4), 60)
    with pytest.raises(AssertionError, match="bits differ"):
        check_chunks(feature_set, clean_panel(1, 100, 4), (50,))


def test_the_generated_set_holds_every_operator() -> None:
    assert set(every_operator().names) == set(OPERATORS)
