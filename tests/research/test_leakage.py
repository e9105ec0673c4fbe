"""Each planted leak is caught by name; the honest set is clean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from panels import panel_of, random_closes

from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.program import Program
from trading_platform.matching.price import attainable_prices
from trading_platform.research import leakage
from trading_platform.research.labels import forward_return
from trading_platform.research.splits import Fold, walk_forward

NAMES = ("momentum", "noise")


def compute(panel: Panel) -> np.ndarray:
    """Two honest features: the last 3 rows' return and a number that depends on the row alone."""
    close = panel.fields["close"]
    momentum = np.full(panel.shape, np.nan)
    momentum[3:] = close[3:] / close[:-3] - 1.0
    noise = np.sin(1e4 * close)
    return np.stack([momentum, noise], axis=2).astype(np.float32)


PANEL = panel_of(random_closes(np.random.default_rng(0), 300, 25))
FEATURES = compute(PANEL)
LABELS = forward_return(PANEL, 5)
FOLDS = walk_forward(LABELS.t0, LABELS.t1, 60, 30, 20)


def names_of(found: tuple[str, ...] | list[str]) -> set[str]:
    return {text.split(":")[0] for text in found}


def test_honest_features_and_labels_are_clean() -> None:
    assert leakage.check(PANEL, FEATURES, NAMES, LABELS, FOLDS, compute) == ()


def test_a_label_among_the_features_is_named() -> None:
    leaking = FEATURES.copy()
    leaking[:, :, 1] = LABELS.values * 3 + 0.02 * np.random.default_rng(1).standard_normal(PANEL.shape)
    found = leakage.check(PANEL, leaking, NAMES, LABELS, FOLDS)
    assert "label_in_features" in names_of(found) and all("noise" in text for text in found)


def test_a_feature_one_row_early_is_named() -> None:
    shifted = FEATURES.copy()
    shifted[:-1, :, 0] = FEATURES[1:, :, 0]
    found = leakage.shifted_timestamp(PANEL, shifted, NAMES)
    assert len(found) == 1 and "momentum" in found[0] and "row t+1" in found[0]


def test_a_label_bought_in_the_row_of_its_decision_is_found_with_both_values() -> None:
    price = attainable_prices(PANEL)
    values = LABELS.values.copy()
    values[:-5] = price[5:] / price[:-5] - 1.0
    found = leakage.same_bar_fill(PANEL, replace(LABELS, values=values))
    assert len(found) == 1 and "us:S000 at 2008-05-01" in found[0]


def test_a_tail_of_zeros_instead_of_absent_labels_is_found() -> None:
    assert names_of(leakage.same_bar_fill(PANEL, replace(LABELS, values=np.nan_to_num(LABELS.values)))) == {"same_bar_fill"}


def test_a_fold_without_purge_is_found() -> None:
    unpurged = Fold(np.arange(60), np.arange(60, 90), np.arange(60, 80))
    assert leakage.training_meets_test(LABELS, FOLDS) == []
    assert "fold 1" in leakage.training_meets_test(LABELS, [FOLDS[0], unpurged])[0]
    unknown = Fold(np.arange(290, 300), np.array([299]), np.array([299]))
    assert "never" in leakage.training_meets_test(LABELS, [unknown])[0]


def test_a_centred_window_and_a_full_column_score_change_the_past() -> None:
    def centred(panel: Panel) -> np.ndarray:
        made = compute(panel)
        made[1:-1, :, 0] = (made[:-2, :, 0] + made[1:-1, :, 0] + made[2:, :, 0]) / 3
        return made

    def scaled(panel: Panel) -> np.ndarray:
        made = compute(panel)
        made[:, :, 0] /= np.nanstd(made[:, :, 0], axis=0)
        return made

    for planted, name in ((centred, "future_changes_past"), (scaled, "full_sample_scaler")):
        found = leakage.check(PANEL, planted(PANEL), NAMES, LABELS, FOLDS, planted)
        assert names_of(found) == {name} and len(found) == 1 and "momentum of us:S" in found[0] and "became" in found[0]


def test_stored_features_that_their_program_does_not_compute_are_named_by_what_they_are() -> None:
    """One column each: another row's, the whole sample's unit (of the column, of each instrument, clipped), something else."""

    def planted(change: Callable[[np.ndarray], np.ndarray]) -> list[str]:
        stored = FEATURES.astype(np.float64)
        stored[:, :, 0] = change(stored[:, :, 0])
        return leakage.recomputed(PANEL, stored.astype(np.float32), NAMES, compute)

    def clipped(x: np.ndarray) -> np.ndarray:
        return np.clip((x - np.nanmean(x)) / np.nanstd(x), -3.0, 3.0)

    assert planted(lambda x: x) == []
    for name, change in {
        "shifted_timestamp": [lambda x: np.roll(x, -1, axis=0), lambda x: np.roll(x, -3, axis=0)],
        "full_sample_scaler": [lambda x: x / np.nanstd(x), lambda x: (x - np.nanmean(x, 0)) / np.nanstd(x, 0), clipped],
        "not_recomputable": [
            lambda x: x + 0.1 * np.nanstd(x) * np.sin(np.arange(x.size)).reshape(x.shape),
            lambda x: np.where(x > 0, x, 0),
        ],
    }.items():
        for one in change:
            found = planted(one)
            assert names_of(found) == {name} and len(found) == 1 and "momentum of us:S" in found[0], name


def test_members_that_only_the_future_could_name_are_found() -> None:
    close = random_closes(np.random.default_rng(5), 300, 25)
    close[200:, :4] = np.nan
    panel = panel_of(close)

    def members(row: int) -> np.ndarray:
        return panel.present[row - 1]

    told = replace(panel, member=np.vstack([np.ones((1, 25), bool), panel.present[:-1]]))
    survivors = replace(told, member=told.member & panel.present[-1])
    assert leakage.future_universe(told, members, (1, 100, 250)) == []
    found = leakage.future_universe(survivors, members, (1, 100, 250))
    assert len(found) == 1 and "us:S000 at 2008-05-02" in found[0] and "no member" in found[0] and "8 cells of 3 rows" in found[0]


def test_a_fill_in_the_bar_of_its_decision_is_found() -> None:
    fills = np.zeros(3, [("column", np.int64), ("at", np.int64), ("valid_from", np.int64)])
    fills["at"], fills["valid_from"] = PANEL.known_at[11:14], [PANEL.known_at[10], 0, PANEL.known_at[12]]
    assert leakage.filled_before_order(PANEL, fills) == []
    fills["at"][2] = PANEL.known_at[12]
    assert names_of(leakage.filled_before_order(PANEL, fills)) == {"same_bar_fill"}


def test_the_catalogue_is_clean_under_a_changed_future() -> None:
    core = feature_set("core")
    panel = PANEL.rows(0, 220)
    found = leakage.future_changes_past(panel, core.names, lambda p: Program(core, p.instrument_ids).step(p), (150, 218))
    assert found == []
