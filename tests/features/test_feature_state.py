"""What a program refuses, what its state carries, and what its hash depends on."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from feature_panels import adversarial_panel, clean_panel, compute, every_operator

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.panel import Panel
from trading_platform.features import state as states
from trading_platform.features.catalog import registry
from trading_platform.features.expression import Expression, adj, ema, field, lag, log, mean, std
from trading_platform.features.operators import kernel as kernels
from trading_platform.features.operators import rolling_moments
from trading_platform.features.operators.table import OPERATORS
from trading_platform.features.program import FeatureSet, Program
from trading_platform.features.reference import markdown

VWAP_GAP = FeatureSet("gap", "test", {"vwap_gap": adj("close") / adj("vwap") - 1.0, "trend": mean(adj("close"), 5)})


def columns_of(panel: Panel, keep: list[int]) -> Panel:
    """The panel with only these columns."""
    fields = {name: np.ascontiguousarray(values[:, keep]) for name, values in panel.fields.items()}
    ids = tuple(panel.instrument_ids[i] for i in keep)
    present, member = np.ascontiguousarray(panel.present[:, keep]), np.ascontiguousarray(panel.member[:, keep])
    return replace(panel, instrument_ids=ids, fields=fields, present=present, member=member)


# --- refusals ------------------------------------------------------------------------------------------------------------------------


def test_an_absent_field_is_refused_by_feature_and_field() -> None:
    panel = clean_panel(1, 5, 2)
    fields = {name: values for name, values in panel.fields.items() if name != "vwap"}
    with pytest.raises(InputError, match=r"no field vwap; needed by vwap_gap"):
        Program(VWAP_GAP, panel.instrument_ids).step(replace(panel, fields=fields))


def test_an_absent_factor_is_refused_by_name() -> None:
    panel = clean_panel(1, 5, 2)
    fields = {name: values for name, values in panel.fields.items() if name != "return_factor"}
    with pytest.raises(InputError, match=r"no field return_factor; needed by .*price"):
        Program(registry.feature_set("core"), panel.instrument_ids).step(replace(panel, fields=fields))


@pytest.mark.parametrize("name", ["adjusted_close", "adj_close"])
def test_prices_adjusted_as_of_today_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="as of today"):
        field(name)


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_a_window_that_would_reach_the_future_is_refused(n: int) -> None:
    with pytest.raises(InputError, match="window"):
        lag(adj("close"), n)


def test_only_expressions_and_finite_numbers_can_be_inputs() -> None:
    with pytest.raises(InputError, match="ndarray"):
        adj("close") + np.zeros(3)  # type: ignore[operator]
    with pytest.raises(InputError, match="finite"):
        adj("close") + float("nan")
    with pytest.raises(InputError, match="truth value"):
        bool(adj("close") > 1.0)


def test_rows_that_are_not_newer_are_refused_and_change_nothing() -> None:
    panel = clean_panel(2, 20, 2)
    program = Program(registry.feature_set("core"), panel.instrument_ids)
    program.step(panel)
    before = program.state_bytes()
    shifted = {"timestamp": panel.timestamp + 10**15, "known_at": panel.known_at + 10**15, "session": panel.session + 100}
    later = replace(panel, **shifted)
    with pytest.raises(InputError, match="not newer"):
        program.step(panel.rows(19, 20))
    with pytest.raises(InputError, match="1Day panel after 1Min"):
        program.step(replace(later, timeframe="1Day").rows(0, 1))
    with pytest.raises(InputError, match="instruments"):
        program.step(columns_of(panel, [0]))
    with pytest.raises(InputError, match="out is"):
        program.step(later, np.empty((20, 2, 1)))
    assert program.state_bytes() == before


# --- warm-up -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.names())
def test_every_feature_is_defined_from_the_warm_up_on_and_the_slowest_not_before(name: str) -> None:
    feature_set = registry.feature_set(name)
    panel = clean_panel(4, feature_set.warm_up + 40, 12, session_rows=20)
    features = compute(feature_set, panel)
    structural = [f for f, key in enumerate(feature_set.names) if not key.startswith(("overnight", "minute_volume"))]
    assert np.isfinite(features[feature_set.warm_up - 1 :][..., structural]).all()
    assert np.isnan(features[feature_set.warm_up - 2]).any()


def test_ready_counts_present_bars_of_each_instrument() -> None:
    panel = adversarial_panel(4, 60, 8)
    program = Program(FeatureSet("t", "test", {"x": mean(adj("close"), 20)}), panel.instrument_ids)
    program.step(panel)
    np.testing.assert_array_equal(program.rows_seen, panel.present.sum(axis=0))
    np.testing.assert_array_equal(program.ready, program.rows_seen >= 20)


# --- state ---------------------------------------------------------------------------------------------------------------------------


def test_equal_states_are_equal_bytes_however_they_were_reached() -> None:
    panel = adversarial_panel(5, 100, 7)
    whole, pieces = (Program(every_operator(), panel.instrument_ids) for _ in range(2))
    whole.step(panel)
    for start, stop in ((0, 1), (1, 50), (50, 100)):
        pieces.step(panel.rows(start, stop))
    assert whole.state_bytes() == pieces.state_bytes()


def test_a_state_follows_its_instruments_to_another_axis_and_joiners_start_cold() -> None:
    panel = adversarial_panel(6, 160, 8)
    first = columns_of(panel, [0, 2, 3, 5, 6])
    program = Program(every_operator(), first.instrument_ids)
    program.step(first.rows(0, 80))
    then = columns_of(panel, [1, 2, 5, 7])
    moved = Program(every_operator(), then.instrument_ids)
    moved.load_state(program.state_bytes())
    np.testing.assert_array_equal(moved.rows_seen[[0, 3]], 0)
    got = moved.step(then.rows(80, 160), np.empty((80, 4, len(moved.feature_set.names))))
    of_the_rows = {"minute_of_session", "same_minute_mean"}  # the session began before the joiners came
    columnwise = [f for f, name in enumerate(moved.feature_set.names) if not name.startswith("cs_") and name not in of_the_rows]
    stayed = compute(every_operator(), panel)[80:, [2, 5]]
    joined = compute(every_operator(), columns_of(panel, [1, 7]).rows(80, 160))
    np.testing.assert_array_equal(got[:, [1, 2]][..., columnwise], stayed[..., columnwise])
    np.testing.assert_array_equal(got[:, [0, 3]][..., columnwise], joined[..., columnwise])


def test_the_state_of_another_version_is_refused() -> None:
    panel = clean_panel(7, 30, 2)
    old = Program(FeatureSet("a", "test", {"x": mean(adj("close"), 5)}), panel.instrument_ids)
    old.step(panel)
    new = Program(FeatureSet("a", "test", {"x": mean(adj("close"), 6)}), panel.instrument_ids)
    with pytest.raises(InputError, match="feature version"):
        new.load_state(old.state_bytes())


@pytest.mark.parametrize("damage", ["truncated", "empty", "not a zip", "a third axis"])
def test_damaged_bytes_are_refused_and_change_nothing(damage: str) -> None:
    panel = clean_panel(8, 30, 2)
    program = Program(registry.feature_set("core"), panel.instrument_ids)
    program.step(panel)
    good = program.state_bytes()
    saved = states.decode(good)
    cubes = {key: array[None] for key, array in saved.arrays.items()}
    bad = {"truncated": good[: len(good) // 2], "empty": b"", "not a zip": b"x" * 99}
    bad["a third axis"] = states.encode(replace(saved, arrays=cubes))
    with pytest.raises(CorruptionError):
        program.load_state(bad[damage])
    assert program.state_bytes() == good


def test_a_flipped_byte_never_loads_another_state() -> None:
    panel = clean_panel(8, 30, 2)
    program = Program(registry.feature_set("core"), panel.instrument_ids)
    program.step(panel)
    good = program.state_bytes()
    refused = 0
    for place in np.random.default_rng(8).integers(0, len(good), 60):
        other = Program(registry.feature_set("core"), panel.instrument_ids)
        try:
            other.load_state(good[:place] + bytes([good[place] ^ 255]) + good[place + 1 :])
        except CorruptionError:
            refused += 1
        else:
            assert other.state_bytes() == good  # the byte was padding of the archive
    assert refused > 30


# --- the version ---------------------------------------------------------------------------------------------------------------------


def test_the_hash_is_blind_to_order_and_sees_every_change_of_meaning() -> None:
    close = adj("close")
    a, b = ema(close, 12), log(close / lag(close, 1))
    version = FeatureSet("s", "v1", {"a": a, "b": b}).hash
    assert len(version) == 64
    assert FeatureSet("other name", "v2", {"b": b, "a": a}).hash == version
    assert FeatureSet("s", "v1", {"a": ema(close, 13), "b": b}).hash != version
    assert FeatureSet("s", "v1", {"a": a, "c": b}).hash != version
    assert FeatureSet("s", "v1", {"a": a, "b": log(lag(close, 1) / close)}).hash != version


def test_the_hash_sees_a_change_in_a_kernel_or_in_what_it_calls_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    spread, average = {"s": std(adj("close"), 5)}, {"m": mean(adj("close"), 5)}

    def version(features: dict[str, Expression]) -> str:
        return FeatureSet("s", "v", features).hash

    before = version(spread), version(average)

    def merged_variance(share, scale, mean, total, suffix_mean, suffix_total, root):
        return total

    monkeypatch.setattr(rolling_moments, "merged_variance", kernels.kernel(merged_variance))
    assert version(spread) != before[0]
    assert version(average) == before[1]


def test_the_hash_sees_an_argument_that_a_spec_derives(monkeypatch: pytest.MonkeyPatch) -> None:
    before = FeatureSet("s", "v", {"e": ema(adj("close"), 5)}).hash
    monkeypatch.setitem(OPERATORS, "ema", replace(OPERATORS["ema"], extra=lambda params: (1.0 / params["n"],)))
    assert FeatureSet("s", "v", {"e": ema(adj("close"), 5)}).hash != before


def test_syntax_hash_ignores_layout_comments_and_docstrings(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("def f(x):\n    return x + 1.0\n")
    (tmp_path / "two.py").write_text('def f( x ):\n    """Say what."""\n    # why\n    return (x +\n            1.0)\n')
    (tmp_path / "three.py").write_text("def f(x):\n    return x + 2.0\n")
    code = "from trading_platform.features.operators.kernel import syntax_hash; import f_module; print(syntax_hash(f_module.f))"
    command, hashes = [sys.executable, "-B", "-c", code], []
    for name in ("one", "two", "three"):
        (tmp_path / "f_module.py").write_text((tmp_path / f"{name}.py").read_text())
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
        hashes.append(done.stdout)
    assert hashes[0] == hashes[1] != hashes[2]


def test_subexpressions_are_shared() -> None:
    close = adj("close")
    program = Program(FeatureSet("s", "v", {"a": mean(close, 5) + 1.0, "b": mean(adj("close"), 5) * 2.0}), ("us:A",))
    assert len([key for key, (first, last) in program._plan.state.items() if last > first]) == 1


@pytest.mark.parametrize(
    ("name", "volatility"), [("core", "volatility_20d"), ("intraday", "volatility_60"), ("intraday_vix", "volatility_60")]
)
def test_the_sets_that_pipelines_trade_hold_what_sizing_reads(name: str, volatility: str) -> None:
    assert {"atr_20_pct", volatility} <= set(registry.feature_set(name).names)


def test_the_reference_page_is_the_one_the_code_would_write() -> None:
    page = Path(__file__).parents[2] / "docs" / "features.md"
    command = "python -c \"from trading_platform.features.reference import markdown; print(markdown(), end='')\" > docs/features.md"
    assert page.read_text() == markdown(), f"run: {command}"
