"""What a row's decision reads from outside: quotes from bars, average volume, the row's hash."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_market import contexts, daily_market, minute_market

from trading_platform.contracts.errors import InputError
from trading_platform.engine.context import average_volume_lots, quotes_from_bars, row_hash

ONES = np.ones(6, np.int64)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(1, 30))
def test_average_volume_is_the_mean_of_the_last_present_bars(seed: int, rows: int) -> None:
    panel, _ = daily_market(60, 6, seed, missing=0.3)
    got = average_volume_lots(panel, ONES, rows)
    for s in range(6):
        for t in range(60):
            seen = panel.fields["volume"][: t + 1, s][panel.present[: t + 1, s]][-rows:]
            assert got[t, s] == pytest.approx(seen.mean(), rel=1e-12) if len(seen) else np.isnan(got[t, s])


def test_average_volume_is_in_todays_shares_and_does_not_depend_on_where_the_panel_begins() -> None:
    panel, _ = daily_market(80, 6, 4)
    factor = np.ones(panel.shape)
    factor[40:, 2] = 4.0
    split = replace(panel, fields={**panel.fields, "split_factor": factor, "volume": panel.fields["volume"] * factor})
    assert average_volume_lots(split, ONES)[:, 2] == pytest.approx(average_volume_lots(panel, ONES)[:, 2] * factor[:, 2], nan_ok=True)
    late = average_volume_lots(panel.rows(30, 80), ONES)
    assert late[30:].tobytes() == average_volume_lots(panel, ONES)[60:].tobytes()


def test_quotes_are_the_closes_aged_to_known_at() -> None:
    panel, sessions = daily_market(10, 6, 4)
    mid, age = quotes_from_bars(panel, sessions.close_ns)
    assert (mid[panel.present] == panel.fields["close"][panel.present]).all() and np.isnan(mid[~panel.present]).all()
    assert set(age[panel.present]) == {900.0}
    minutes, times = minute_market(1, 10, 6, 4)
    assert set(quotes_from_bars(minutes, times.close_ns)[1][minutes.present]) == {0.0}


def test_the_row_hash_sees_every_input_and_only_one_kind_of_nan() -> None:
    panel, sessions = daily_market(10, 6, 4, missing=0.5)
    row, context = panel.rows(3, 4), contexts(panel, sessions)[3]
    digest = row_hash(row, context)
    other_nan = np.array([0x7FF8000000000001], np.int64).view(np.float64)[0]
    close = np.where(np.isnan(row.fields["close"]), other_nan, row.fields["close"])
    assert close.tobytes() != row.fields["close"].tobytes()
    assert row_hash(replace(row, fields={**row.fields, "close": close}), context) == digest
    changed = {
        row_hash(replace(row, known_at=row.known_at + 1), context),
        row_hash(replace(row, member=~row.member), context),
        row_hash(replace(row, fields={**row.fields, "close": close + 0.01}), context),
        row_hash(row, replace(context, kill_level=1)),
        row_hash(row, replace(context, quote_mid=context.quote_mid + 0.01)),
        row_hash(row, replace(context, trading_blocked=True)),
    }
    assert len(changed) == 6 and digest not in changed


def test_contexts_of_another_axis_or_with_unknown_sectors_are_refused() -> None:
    panel, sessions = daily_market(10, 6, 4)
    context = contexts(panel, sessions)[0]
    with pytest.raises(InputError, match="quote_mid"):
        context.check(7)
    with pytest.raises(InputError, match="sector"):
        replace(context, sector=np.full(6, 64, np.int64)).check(6)
