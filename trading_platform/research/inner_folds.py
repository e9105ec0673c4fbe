"""Inner purged folds of one training span: what tuning evaluates on. The test that follows the span is not even held here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.research.labels import Labels
from trading_platform.research.metrics import information_coefficient
from trading_platform.research.models import lightgbm
from trading_platform.research.splits import purged_folds
from trading_platform.research.tuning import FoldOutcome, Value
from trading_platform.research.walk_forward import training_matrix, usable_cells

WHERE = "research.inner_folds"


class InnerFolds:
    """LightGBM on purged k-fold inside a span of rows, from its first warm row on; `tuning.Evaluate`.

    features: float32 (T, S, F) of `panel`, columns named by `names`. rows: int64 (R,) ascending, the training rows of an outer fold. until:
    UTC ns, when the outer test begins: a label of the span that is known only then is refused. Features and labels of the span are copied,
    the rest is not held. InputError also for a span too short for its folds, or whose training rows the embargo leaves nothing of.
    """

    def __init__(
        self,
        panel: Panel,
        features: NDArray[np.float32],
        names: Sequence[str],
        labels: Labels,
        rows: NDArray[np.int64],
        until: int,
        folds: int,
        embargo: float,
        seed: int,
    ) -> None:
        late = labels.t1[rows] >= until
        if bool(late.any()):
            said = f"{int(late.sum())} of {rows.size} labels are known only when the outer test has begun"
            raise InputError(said, WHERE, "give the training rows of the outer fold")
        if bool(np.any(np.diff(rows) != 1)):
            raise InputError(f"{rows.size} rows spread over {int(rows[-1]) - int(rows[0]) + 1}", WHERE, "give neighbouring rows")
        warm = rows[usable_cells(panel, features)[rows].any(axis=1)]
        if not warm.size:
            raise InputError(f"not one of {rows.size} rows has a cell with all features", WHERE, "read a longer span")
        self.rows = np.arange(warm[0], rows[-1] + 1)
        first, last = int(self.rows[0]), int(self.rows[-1]) + 1
        self.panel = panel.rows(first, last)
        self.names = tuple(names)
        self.seed = seed
        self._features = features[first:last].copy()
        cut = {name: getattr(labels, name)[first:last].copy() for name in ("values", "t0", "t1")}
        self.labels = dataclasses.replace(labels, **cut)
        gap = math.ceil(embargo * self.rows.size)
        self._splits = purged_folds(self.labels.t0, self.labels.t1, folds, 1, gap)
        self._usable = usable_cells(self.panel, self._features)

    def __call__(self, values: Mapping[str, Value], fold: int) -> FoldOutcome:
        """Train with these parameters on the fold's training rows, predict its test rows. InputError for what LightGBM refuses."""
        from lightgbm.basic import LightGBMError

        parameters = dataclasses.replace(lightgbm.Parameters(), **values)  # type: ignore[arg-type]
        train, test = self._splits[fold]
        x, y = training_matrix(self.panel, self._features, self.labels, train, self._usable)
        try:
            model = lightgbm.train(x, y, self.names, parameters, self.seed)
        except LightGBMError as error:
            raise InputError(f"LightGBM refuses {dict(values)}: {error}", WHERE, "correct the space of the study") from error
        predicted = np.full((test.size, self.panel.shape[1]), np.nan)
        cells = self._usable[test]
        predicted[cells] = lightgbm.predict(model, np.ascontiguousarray(self._features[test][cells]))
        outcome = np.where(self.panel.member[test], self.labels.values[test], np.nan)
        return FoldOutcome(test, information_coefficient(predicted, outcome), predicted)

    def predictions(self, outcomes: Sequence[FoldOutcome]) -> NDArray[np.float64]:
        """What the folds said, float64 (R, S) on the span's rows, NaN where no fold has spoken."""
        found = np.full(self.panel.shape, np.nan)
        for outcome in outcomes:
            found[outcome.rows] = outcome.predictions
        return found
