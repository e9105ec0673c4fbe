"""Changed copies of a panel, for proofs: another future, other prices, one more split. Deterministic, or drawn from a given generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.panel import FACTOR_FIELDS, Panel
from trading_platform.features.node import is_price, is_shares

DROPPED, ADDED, UNDEFINED, FLIPPED = 0.10, 0.05, 0.02, 0.10  # shares of the later cells


def other_future(panel: Panel, cut: int, generator: np.random.Generator) -> Panel:
    """The same panel up to row `cut` and including it; after it every number, some bars' existence and some memberships are others."""
    after = np.arange(panel.shape[0])[:, np.newaxis] > cut
    draw = generator.random(panel.shape)
    dropped, added = after & panel.present & (draw < DROPPED), after & ~panel.present & (draw < ADDED)
    present = (panel.present & ~dropped) | added
    fields = {}
    for name, values in panel.fields.items():
        changed = values * np.exp(0.5 * generator.standard_normal(panel.shape))
        changed[added] = np.exp(generator.standard_normal(int(added.sum())))
        changed[generator.random(panel.shape) < UNDEFINED] = np.nan
        fields[name] = np.where(present, np.where(after, changed, values), np.nan)
    member = np.where(after & (generator.random(panel.shape) < FLIPPED), ~panel.member, panel.member)
    return replace(panel, fields=fields, present=present, member=member)


def rescaled(panel: Panel, columns: NDArray[np.int64], factor: float) -> Panel:
    """The same market with all prices of some instruments in another unit: raw prices times `factor`, volumes as they were."""
    fields = {name: values.copy() if is_price(name) else values for name, values in panel.fields.items()}
    for name, values in fields.items():
        if is_price(name):
            values[:, columns] *= factor
    return replace(panel, fields=fields)


def with_split(panel: Panel, row: int, columns: NDArray[np.int64], ratio: float) -> Panel:
    """The same market in which some instruments split `ratio`:1 before row `row`: prices fall, shares multiply, the factors say so (T1)."""
    fields = {name: values.copy() for name, values in panel.fields.items()}
    for name, values in fields.items():
        if is_price(name):
            values[row:, columns] /= ratio
        elif is_shares(name) or name in FACTOR_FIELDS:
            values[row:, columns] *= ratio
    return replace(panel, fields=fields)


def sample(panel: Panel, rows: int, columns: int) -> Panel:
    """The last `rows` rows and at most `columns` instruments, evenly spaced over the axis: the same ones every time.

    Instruments without a bar in those rows are left out. Cross-sections of a sample are those of a smaller universe.
    """
    cut = panel.rows(max(panel.shape[0] - rows, 0), panel.shape[0])
    there = np.flatnonzero(cut.present.any(axis=0))
    chosen = there[np.unique(np.linspace(0, max(len(there) - 1, 0), min(columns, len(there))).astype(np.int64))]
    return replace(
        cut,
        instrument_ids=tuple(panel.instrument_ids[column] for column in chosen),
        fields={name: np.ascontiguousarray(values[:, chosen]) for name, values in cut.fields.items()},
        present=np.ascontiguousarray(cut.present[:, chosen]),
        member=np.ascontiguousarray(cut.member[:, chosen]),
    )
