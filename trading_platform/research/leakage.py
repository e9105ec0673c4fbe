"""Leakage checks: each finds one kind of look-ahead and names the column, the first bad time and both values (freqtrade#11642).

Findings are texts that start with the leak's name; an empty tuple means clean. The gate `leakage` fails on any finding. A leak of a known
kind is called by its name (label_in_features, shifted_timestamp, full_sample_scaler, future_universe, same_bar_fill, training_meets_test);
what fits none is `future_changes_past` or `not_recomputable`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.panel import Panel
from trading_platform.features.perturb import other_future
from trading_platform.research.labels import NEVER, Labels, demeaned, forward_return
from trading_platform.research.metrics import MIN_NAMES, information_coefficient
from trading_platform.research.splits import Fold

Features = NDArray[np.float32]
Compute = Callable[[Panel], Features]
Members = Callable[[int], NDArray[np.bool_]]
IMPLAUSIBLE_IC = 0.25  # honest daily features reach 0.05; a one-row shift of a return reaches 1
SAMPLE_ROWS = 250
RECOMPUTED_ROWS = 400
SHIFTS = (1, 2, 3)  # rows by which a join goes wrong
SAME = 1e-5  # relative; float32 features of one definition agree to the bit, on another CPU type to 1e-6
SCALED_SHARE = 0.9  # of a column's cells on one line: the rest may be clipped
MEMBER_ROWS = 5


def _when(panel: Panel, row: int) -> str:
    return str(np.datetime64(int(panel.timestamp[row]), "ns").astype("datetime64[s]")) + "Z"


def _sampled(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(SAMPLE_ROWS, count)).astype(np.int64))


def _implausible(outcome: NDArray[np.float64], rows: NDArray[np.int64], horizon: int) -> float:
    """The mean rank IC that neither honest features nor luck reach: luck's own spread, three times, on top for few names and rows.

    The standard deviation of one rank IC of n names is 1 / sqrt(n - 1); outcomes of h bars make every h-th row independent.
    """
    names = np.isfinite(outcome[rows]).sum(axis=1)
    judged = names[names >= MIN_NAMES]
    independent = max(judged.size / max(horizon, 1), 1.0)
    return IMPLAUSIBLE_IC + 3.0 / np.sqrt(max(float(judged.mean()) - 1.0, 1.0) * independent) if judged.size else np.inf


def _mean_ics(features: Features, outcome: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean rank IC of each column with the outcome over some rows, float64 (F,), NaN where there are too few."""
    found = np.full(features.shape[2], np.nan)
    for column in range(features.shape[2]):
        series = information_coefficient(features[rows, :, column].astype(np.float64), outcome[rows])
        defined = series[np.isfinite(series)]
        found[column] = defined.mean() if defined.size else np.nan
    return found


def label_in_features(panel: Panel, features: Features, names: Sequence[str], labels: Labels) -> list[str]:
    """Features that rank instruments as their own label does: the label, or a piece of it, is among the inputs."""
    usable = np.flatnonzero(np.isfinite(labels.values).sum(axis=1) >= MIN_NAMES)
    if usable.size == 0:
        return []
    rows = usable[_sampled(usable.size)]
    outcome = np.where(panel.member, labels.values, np.nan)
    found, limit = _mean_ics(features, outcome, rows), _implausible(outcome, rows, labels.horizon)
    return [
        f"label_in_features: {name} has a mean rank IC of {ic:.2f} with {labels.name}, first at {_when(panel, int(rows[0]))}"
        for name, ic in zip(names, found, strict=True)
        if abs(ic) > limit
    ]


def shifted_timestamp(panel: Panel, features: Features, names: Sequence[str]) -> list[str]:
    """Features that know the next row's return: bars stamped with their end, or joined one row too early."""
    wealth = panel.fields["close"] * panel.fields["return_factor"]
    following = np.full(panel.shape, np.nan)
    following[:-1] = wealth[1:] / wealth[:-1] - 1.0
    rows = _sampled(panel.shape[0])
    found, limit = _mean_ics(features, following, rows), _implausible(following, rows, 1)
    return [
        f"shifted_timestamp: {name} at row t has a mean rank IC of {ic:.2f} with the return of row t+1"
        for name, ic in zip(names, found, strict=True)
        if abs(ic) > limit
    ]


def same_bar_fill(panel: Panel, labels: Labels, honest: Labels | None = None) -> list[str]:
    """Labels that are not the attainable outcome: bought in the row of the decision, held for another horizon, or zero where absent.

    honest: the same labels made again from this panel; without them the forward return (demeaned if so named) is made here.
    """
    if honest is None:
        raw = forward_return(panel, labels.horizon)
        honest = demeaned(raw, panel.member) if labels.name.endswith("_demeaned") else raw
    wanted = honest.values
    both = np.isfinite(wanted) & np.isfinite(labels.values)
    wrong = both & (np.abs(np.where(both, wanted, 0.0) - np.where(both, labels.values, 0.0)) > 1e-9)
    wrong |= np.isfinite(labels.values) & ~np.isfinite(wanted)
    if not wrong.any():
        return []
    row, column = (int(i) for i in np.argwhere(wrong)[0])
    expected, got = wanted[row, column], labels.values[row, column]
    where = f"{panel.instrument_ids[column]} at {_when(panel, row)}"
    return [f"same_bar_fill: label of {where} is {got:.6g}, an entry in the next row gives {expected:.6g} ({int(wrong.sum())} cells)"]


def filled_before_order(panel: Panel, fills: NDArray[np.void]) -> list[str]:
    """Fills of a backtest in a bar that had ended when their order became valid: the bar it was decided on, or an earlier one (I4).

    fills: structured, with column, at (the bar's end) and valid_from (0 for a protective stop), UTC ns, as `backtest.run` gives them.
    """
    early = np.flatnonzero((fills["valid_from"] > 0) & (fills["at"] <= fills["valid_from"]))
    if early.size == 0:
        return []
    first = fills[early[0]]
    when = [str(np.datetime64(int(first[name]), "ns").astype("datetime64[s]")) + "Z" for name in ("at", "valid_from")]
    who = panel.instrument_ids[int(first["column"])]
    return [f"same_bar_fill: {who} is filled in the bar that ends {when[0]} by an order valid from {when[1]} ({early.size} fills)"]


def future_universe(panel: Panel, members: Members, rows: Sequence[int]) -> list[str]:
    """Members that the universe's rule, seeing only bars before a row, would not have named: survivors, tomorrow's index, later volume.

    members: row -> bool (S,), made from bars before that row. Instruments without a bar before the row are not compared.
    """
    wrong: list[tuple[int, int]] = []
    for row in rows:
        known = panel.present[:row].any(axis=0)
        wrong += [(row, int(column)) for column in np.flatnonzero(known & (panel.member[row] != members(row)))]
    if not wrong:
        return []
    row, column = wrong[0]
    said = "a member" if panel.member[row, column] else "no member"
    where = f"{panel.instrument_ids[column]} at {_when(panel, row)}"
    return [f"future_universe: {where} is {said}, bars before it say otherwise ({len(wrong)} cells of {len(rows)} rows)"]


def training_meets_test(labels: Labels, folds: Sequence[Fold]) -> list[str]:
    """Folds whose training labels were not yet known when their first test row was decided, or that never become known."""
    found = []
    for number, fold in enumerate(folds):
        late = labels.t1[fold.train].max()
        if late >= labels.t0[fold.test[0]]:
            when = "never" if late == NEVER else str(late)
            found.append(
                f"training_meets_test: fold {number} learns from a label known at {when}, its test begins at {labels.t0[fold.test[0]]}"
            )
    return found


def _same(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Cells that agree, undefined ones included."""
    with np.errstate(invalid="ignore"):
        close = np.abs(one - other) <= SAME * np.maximum(np.abs(one), np.abs(other))
    return close | (np.isnan(one) & np.isnan(other))


def _rescaled(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether each instrument's column (T, S) is the other one in another unit: nearly all cells on one line, none of them as they were.

    The line goes through the quartiles, which clipping leaves alone; a symbol with fewer than 8 different values says nothing.
    """
    judged, fits = 0, 0
    for x, y in zip(one.T, other.T, strict=True):
        both = np.isfinite(x) & np.isfinite(y)
        a, b = x[both], y[both]
        if a.size < 8 or np.unique(a).size < 8 or _same(a, b).mean() > 1.0 - SCALED_SHARE:
            continue
        judged += 1
        order = np.argsort(a, kind="stable")
        low, high = order[a.size // 4], order[a.size * 3 // 4]
        slope = (b[high] - b[low]) / (a[high] - a[low]) if a[high] > a[low] else 0.0
        rest = np.abs(b - b[low] - slope * (a - a[low]))
        fits += slope != 0.0 and float(np.mean(rest <= 1e-3 * max(float(b.std()), 1e-30))) >= SCALED_SHARE
    return judged > 0 and fits >= SCALED_SHARE * judged


def recomputed(panel: Panel, features: Features, names: Sequence[str], compute: Compute) -> list[str]:
    """Stored features that their program does not compute from the same bars: another row's, another unit's, or something else.

    A column that equals the program's with later rows is `shifted_timestamp`; one that is the program's in another unit, which only the
    whole sample can have told, is `full_sample_scaler`; any other is `not_recomputable`.
    """
    honest = compute(panel).astype(np.float64)
    found = []
    for column, name in enumerate(names):
        stored, wanted = features[:, :, column].astype(np.float64), honest[:, :, column]
        wrong = ~_same(stored, wanted)
        if not wrong.any():
            continue
        row, symbol = (int(i) for i in np.argwhere(wrong)[0])
        where = f"{name} of {panel.instrument_ids[symbol]} at {_when(panel, row)}"
        values = f"is {stored[row, symbol]:.6g}, its program gives {wanted[row, symbol]:.6g}"
        shift = next((k for k in SHIFTS if bool(_same(stored[:-k], wanted[k:]).all())), 0)
        if shift:
            found.append(f"shifted_timestamp: {where} {values}, which is row t+{shift}'s ({int(wrong.sum())} cells)")
        elif _rescaled(wanted, stored):
            found.append(f"full_sample_scaler: {where} {values}: the column in another unit, which no row knew ({int(wrong.sum())} cells)")
        else:
            found.append(f"not_recomputable: {where} {values} ({int(wrong.sum())} cells)")
    return found


def future_changes_past(panel: Panel, names: Sequence[str], compute: Compute, cuts: Sequence[int], seed: int = 7) -> list[str]:
    """Features at or before a cut that change when everything after it changes (I1): centred windows, full-sample scaling.

    compute: panel -> float32 (T, S, F), from a cold start each time. Bits are compared. A column that a changed future only puts in another
    unit is called `full_sample_scaler`, any other `future_changes_past`.
    """
    honest = compute(panel)
    found: dict[str, str] = {}
    for cut in cuts:
        mine, other = honest[: cut + 1], compute(other_future(panel, cut, np.random.default_rng(seed)))[: cut + 1]
        same = (mine == other) | (np.isnan(mine) & np.isnan(other))
        for column in np.flatnonzero(~same.all(axis=(0, 1))):
            row, symbol = (int(i) for i in np.argwhere(~same[:, :, column])[0])
            scaled = _rescaled(mine[:, :, column].astype(np.float64), other[:, :, column].astype(np.float64))
            kind = "full_sample_scaler" if scaled else "future_changes_past"
            values = f"{mine[row, symbol, column]:.6g} became {other[row, symbol, column]:.6g}"
            where = f"{panel.instrument_ids[symbol]} at {_when(panel, row)}"
            found.setdefault(names[column], f"{kind}: {names[column]} of {where}: {values} when rows after {_when(panel, cut)} changed")
    return list(found.values())


def check(
    panel: Panel,
    features: Features,
    names: Sequence[str],
    labels: Labels,
    folds: Sequence[Fold],
    compute: Compute | None = None,
    members: Members | None = None,
    honest: Labels | None = None,
    fills: NDArray[np.void] | None = None,
) -> tuple[str, ...]:
    """All checks that the arguments allow. compute adds the recomputation and the perturbation of the first 400 rows, members that of the
    universe at some rows, fills that of a backtest; honest: see `same_bar_fill`.
    """
    found = label_in_features(panel, features, names, labels) + shifted_timestamp(panel, features, names)
    found += same_bar_fill(panel, labels, honest) + training_meets_test(labels, folds)
    if fills is not None:
        found += filled_before_order(panel, fills)
    if members is not None:
        found += future_universe(panel, members, np.unique(np.linspace(1, panel.shape[0] - 1, MEMBER_ROWS).astype(int)).tolist())
    if compute is not None:
        count = min(panel.shape[0], RECOMPUTED_ROWS)
        rows = panel.rows(0, count)
        known = {name for name in names for text in found if text.startswith(f"label_in_features: {name} has ")}
        others = [index for index, name in enumerate(names) if name not in known]  # a label is no feature that was computed wrongly
        found += recomputed(rows, features[:count][:, :, others], [names[i] for i in others], lambda panel: compute(panel)[:, :, others])
        found += future_changes_past(rows, names, compute, (count // 2, count * 3 // 4, count - 2))
    return tuple(found)
