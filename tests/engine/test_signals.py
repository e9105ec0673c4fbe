"""Signals are a causal scan: chunks, restarts and swaps change no byte they should not; a failing model holds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from synthetic_market import daily_market, feature_set, linear_model, minute_market, profile

from trading_platform.contracts.errors import CorruptionError, InputError, TransientError
from trading_platform.contracts.model import Model
from trading_platform.contracts.panel import Panel
from trading_platform.engine.inference import Inference
from trading_platform.engine.signals import WARM_ROWS, SignalBlock, Signals, coverage_of, joined
from trading_platform.engine.strategies import long_flat

FEATURES = feature_set()
FIRST = linear_model(FEATURES, {"momentum_3": 1.0, "returns_1": -0.5}, "first_v1")
SECOND = linear_model(FEATURES, {"momentum_3": -1.0}, "second_v1")
ROWS, WIDTH = 90, 10


def signals(model: Model | None = FIRST, panel: Panel | None = None) -> Signals:
    names = (market() if panel is None else panel).instrument_ids
    return Signals(profile(), FEATURES, model, names)


def market(seed: int = 3) -> Panel:
    return daily_market(ROWS, WIDTH, seed)[0]


def same(one: SignalBlock, other: SignalBlock) -> bool:
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in SignalBlock.__dataclass_fields__)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, ROWS - 1), max_size=6, unique=True), st.integers(0, 99), st.booleans())
def test_any_chunking_with_a_restart_at_each_cut_gives_the_same_bytes(cuts: list[int], seed: int, restart: bool) -> None:
    panel = market(seed)
    whole = signals().step(panel)
    running, blocks = signals(), []
    edges = [0, *sorted(cuts), ROWS]
    for start, stop in itertools.pairwise(edges):
        if restart:
            saved = running.state_bytes()
            running = signals()
            running.load_state(saved)
        blocks.append(running.step(panel.rows(start, stop)))
    assert same(whole, joined(blocks))
    assert whole.held.any() and np.isfinite(whole.alpha).any()


def test_a_swap_warms_the_new_bundles_latch_on_the_rows_kept_and_inherits_nothing() -> None:
    panel = market()
    swapped = signals(FIRST)
    swapped.step(panel.rows(0, 60))
    swapped.swap(SECOND)
    after = swapped.step(panel.rows(60, ROWS))
    # 60 rows fit into the 64 kept, so the latch is the one SECOND would have had from the start
    alone = signals(SECOND).step(panel)
    assert same(after, alone.rows(60, ROWS))
    inherited = signals(FIRST).step(panel).rows(60, ROWS)
    assert after.held.tobytes() != inherited.held.tobytes()


def test_a_swap_forgets_a_latch_that_the_new_bundle_never_set() -> None:
    panel = market()
    member = panel.member.copy()
    member[:, 4] = False
    running = signals(FIRST)
    running.latched[4] = True
    running.step(replace(panel, member=member))
    assert running.latched[4]
    running.swap(SECOND)
    assert not running.latched[4]


def test_a_swap_between_chunks_depends_on_no_chunking() -> None:
    panel = market()
    once, often = signals(FIRST), signals(FIRST)
    once.step(panel.rows(0, 80))
    for t in range(80):
        often.step(panel.rows(t, t + 1))
    once.swap(SECOND)
    often.swap(SECOND)
    assert once.latched.tolist() == often.latched.tolist()
    assert once.state_bytes() == often.state_bytes()


def test_shadow_answers_for_the_rows_kept_and_changes_nothing() -> None:
    panel = market()
    running = signals(FIRST)
    running.step(panel)
    before = running.state_bytes()
    shadow = running.shadow(SECOND)
    assert shadow.tobytes() == signals(SECOND).step(panel).alpha[-WARM_ROWS:].tobytes()
    assert running.state_bytes() == before and running.model is FIRST


def test_no_model_wants_nothing_and_a_removed_model_keeps_the_latch() -> None:
    panel = market()
    assert not signals(None).step(panel).held.any()
    running = signals(FIRST)
    held = running.step(panel.rows(0, 60)).held[-1]
    running.swap(None)
    after = running.step(panel.rows(60, ROWS))
    assert (after.held == held).all() and np.isnan(after.alpha).all() and held.any()


def test_instruments_are_ready_after_their_own_warm_up_and_not_before() -> None:
    panel = market()
    running = signals()
    block = running.step(panel)
    bars = np.cumsum(panel.present, axis=0)
    assert (block.ready == (bars >= running.program.warm_up)).all()
    assert np.isnan(block.alpha[~block.ready]).all() and np.isnan(block.alpha[~panel.present]).all()


def test_coverage_counts_members_and_low_coverage_hides_every_alpha() -> None:
    panel = market()
    present = panel.present.copy()
    present[70, :3] = False
    fields = {name: np.where(present, values, np.nan) for name, values in panel.fields.items()}
    gaps = replace(panel, present=present, fields=fields, member=np.ones_like(panel.member))
    block = signals().step(gaps)
    assert block.coverage[70] == pytest.approx(1.0 - (~present[70]).sum() / WIDTH)
    assert np.isnan(block.alpha[70]).all() and (block.held[70] == block.held[69]).all()


def test_an_absent_intraday_cell_is_silent_unless_the_row_says_late() -> None:
    panel, _ = minute_market(1, 30, WIDTH, 2)
    assert (coverage_of(panel) == 1.0).all() and (~panel.present).any()
    late = replace(panel, fields={**panel.fields, "late": (~panel.present).astype(np.float64)}, member=np.ones_like(panel.member))
    assert coverage_of(late).tolist() == pytest.approx(panel.present.mean(axis=1).tolist())
    dead = replace(panel, present=np.zeros_like(panel.present), member=np.ones_like(panel.member))
    assert (coverage_of(dead) == 0.0).all()


def test_the_latch_by_hand() -> None:
    alpha = np.array([[4.0, 3, 2, 1], [1, 4, 3, 2], [np.nan, 4, 3, 2], [4, 1, 3, 2]])
    member = np.ones((4, 4), np.bool_)
    member[1, 3] = False
    latched = np.zeros(4, np.bool_)
    held = long_flat(alpha, member, 0.9, 0.6, latched)
    # ranks: 1 .75 .5 .25 | 1/3 1 2/3 nan | nan 1 2/3 1/3 | 1 .25 .75 .5
    assert held.tolist() == [
        [True, False, False, False],
        [False, True, False, False],
        [False, True, False, False],
        [True, False, False, False],
    ]
    assert latched.tolist() == held[-1].tolist()


def failing_model() -> Model:
    """A graph that loads but whose Reshape cannot serve the rows of a cross-section."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [7, 1])
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["rows"], ["sum"], keepdims=0), helper.make_node("Reshape", ["sum", "shape"], ["alpha"])],
        "failing",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("alpha", TensorProto.FLOAT, [None, 1])],
        [shape],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(proto)
    return replace(SECOND, onnx=proto.SerializeToString())


def test_a_failing_model_holds_counts_and_says_why() -> None:
    panel = market()
    running = signals(FIRST)
    held = running.step(panel.rows(0, 60)).held[-1]
    running.swap(failing_model())
    running.latched[:] = held
    block = running.step(panel.rows(60, 63))
    assert running.failures == 3 and isinstance(running.last_failure, TransientError)
    assert np.isnan(block.alpha).all() and (block.held == held).all()
    with pytest.raises(TransientError, match="inference failed"):
        running.shadow(failing_model())
    running.swap(FIRST)
    running.step(panel.rows(63, 64))
    assert running.failures == 0


def test_inference_ignores_rows_that_are_not_defined() -> None:
    runtime = Inference(FIRST)
    rows = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    defined = np.array([True, False, True, True, False])
    spoiled = rows.copy()
    spoiled[~defined] = np.nan
    alpha = runtime.alphas(spoiled, defined)
    assert np.isnan(alpha[~defined]).all()
    assert alpha[defined].tolist() == runtime.alphas(rows, np.ones(5, np.bool_))[defined].tolist()
    with pytest.raises(InputError, match="float32"):
        runtime.alphas(rows.astype(np.float64), defined)


def test_bytes_that_are_no_model_and_a_model_of_other_features_are_refused() -> None:
    with pytest.raises(CorruptionError, match="cannot be loaded"):
        Inference(replace(FIRST, onnx=b"no model"))
    with pytest.raises(InputError, match="wants features"):
        signals(replace(FIRST, config=replace(FIRST.config, feature_hash="0" * 64)))
    with pytest.raises(InputError, match="absent here: \\['unheard_of'\\]"):
        signals(replace(FIRST, config=replace(FIRST.config, atr="unheard_of")))
    with pytest.raises(CorruptionError, match="signals state"):
        signals().load_state(b"no state")


def test_a_state_moves_to_a_wider_axis_and_new_instruments_start_cold() -> None:
    panel = market()
    names = panel.instrument_ids
    keep = np.array([0, 2, 3, 5, 9])
    narrow_ids = tuple(names[s] for s in keep)
    narrow = Signals(profile(), FEATURES, FIRST, narrow_ids)
    cut = replace(
        panel.rows(0, 60),
        instrument_ids=narrow_ids,
        fields={name: np.ascontiguousarray(values[:60, keep]) for name, values in panel.fields.items()},
        present=np.ascontiguousarray(panel.present[:60, keep]),
        member=np.ascontiguousarray(panel.member[:60, keep]),
    )
    narrow.step(cut)
    wide = signals()
    wide.load_state(narrow.state_bytes())
    assert wide.latched[keep].tolist() == narrow.latched.tolist() and not np.delete(wide.latched, keep).any()
    block = wide.step(panel.rows(60, 62))
    assert block.ready[:, keep].all() and not np.delete(block.ready, keep, axis=1).any()
