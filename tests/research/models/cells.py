"""Training cells for tests of learners: seeded, synthetic, with a known signal."""

from __future__ import annotations

import numpy as np

from trading_platform.research.models.learner import TrainingRows

NAMES = ("product_a", "product_b", "slope", "noise 1", "noise_2")
ROWS, WIDTH = 120, 50


def cells(seed: int = 0, rows: int = ROWS, weights: np.ndarray | None = None) -> TrainingRows:
    """Heavy-tailed features; the label is a product of two, a slope on the third, and noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(5, (rows * WIDTH, len(NAMES))).astype(np.float32)
    y = 0.01 * x[:, 0] * x[:, 1] + 0.02 * x[:, 2] + 0.03 * rng.standard_normal(len(x))
    return TrainingRows(x, y.astype(np.float64), NAMES, np.full(rows, WIDTH), weights)
