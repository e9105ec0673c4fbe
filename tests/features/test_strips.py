"""Columns of one history run together: which ones, that it changes no bit, and that an interrupted step is not continued."""

from __future__ import annotations

import numpy as np
import pytest
from feature_panels import adversarial_panel, assert_same_bits, clean_panel, compute, every_operator, without
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.features import machine, strips
from trading_platform.features.program import Program
from trading_platform.features.strips import strips_of


def listed(seed: int, rows: int, width: int) -> Panel:
    """Most columns from the first row on, the others listed later in twos, some with a hole, some gone early; with every unpleasantness."""
    rng = np.random.default_rng([seed, 9])
    panel = adversarial_panel(seed, rows, width)
    present = np.ones((rows, width), bool)
    order = rng.permutation(width)
    for k, column in enumerate(order[: width // 2]):
        first = 11 * (k // 2)
        present[:first, column] = False
        present[first + 40 : first + 40 + k % 3, column] = False
    present[rows - 30 :, order[-3:]] = False
    clean = clean_panel(seed, rows, width)  # its cells are there where the adversarial panel has a gap
    fields = {name: np.where(panel.present, values, clean.fields[name]) for name, values in panel.fields.items()}
    return without(
        Panel(panel.timeframe, panel.instrument_ids, panel.timestamp, panel.known_at, panel.session, fields, present, panel.member), present
    )


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_moved_columns_change_no_bit(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    panel = listed(3, 420, 60)
    program = Program(every_operator(), panel.instrument_ids, threads)
    assert len(program._strips(panel)) > 1, "the panel is too small to be cut"
    together = compute(every_operator(), panel, (200,), threads)
    monkeypatch.setattr(strips, "MIN_CELLS", panel.present.size)
    assert len(program._strips(panel)) == 1
    assert_same_bits(every_operator(), compute(every_operator(), panel, (200,)), together)


def test_the_state_after_moved_columns_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = listed(4, 300, 70)
    moved, still = (Program(every_operator(), panel.instrument_ids, 2) for _ in range(2))
    moved.step(panel)
    monkeypatch.setattr(strips, "MIN_CELLS", panel.present.size)
    still.step(panel)
    assert moved.state_bytes() == still.state_bytes()
    assert moved.undefined_count == still.undefined_count


@given(st.integers(0, 2**31), st.integers(1, 4), st.lists(st.integers(0, 5), min_size=1, max_size=600), st.integers(1, 40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_each_column_runs_once_beside_columns_of_its_history(seed: int, threads: int, kinds: list[int], rows: int, seen: bool) -> None:
    rng = np.random.default_rng(seed)
    histories = rng.random((rows, 6)) < 0.5
    histories[0] = True
    present = np.repeat(histories[:, kinds], 1 + strips.MIN_CELLS // rows // len(kinds), axis=0)
    rows_seen: NDArray[np.int64] = rng.integers(0, 3, 6)[kinds] if seen else np.zeros(len(kinds), np.int64)
    found = strips_of(present, rows_seen, threads)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(kinds)))
    if present.size <= strips.MIN_CELLS:
        assert len(found) == 1
        return
    mixed = 0
    for columns in found:
        assert (np.diff(columns.astype(np.int64)) > 0).all()
        assert threads == 1 or columns.size <= machine.BLOCK_COLUMNS
        one = {(*present[:, column].tolist(), int(rows_seen[column])) for column in columns.tolist()}
        mixed += columns.size if len(one) > 1 else 0
    alone = sum(n for n in np.unique([*present, rows_seen], axis=1, return_counts=True)[1] if n < strips.MIN_TOGETHER)
    assert mixed <= alone


def test_an_interrupted_step_is_not_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = clean_panel(1, 60, 4)
    program = Program(every_operator(), panel.instrument_ids)
    program.step(panel.rows(0, 30))
    kept = program.state_bytes()

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(machine, "advance", interrupt)
        with pytest.raises(KeyboardInterrupt):
            program.step(panel.rows(30, 45))
    with pytest.raises(InputError, match="an earlier step was interrupted"):
        program.step(panel.rows(45, 60))
    with pytest.raises(InputError, match="an earlier step was interrupted"):
        program.state_bytes()
    program.load_state(kept)
    assert_same_bits(
        every_operator(),
        program.step(panel.rows(30, 60), np.empty((30, 4, len(every_operator().names)))),
        compute(every_operator(), panel)[30:],
    )
