"""Trees made exact in float32, so that the model that research judges is bit for bit the one that onnxruntime serves.

Two runtimes differ in a tree ensemble for two reasons: thresholds are rounded to float32 (onnxmltools#708: to nearest, which sends some
rows into another leaf), and leaves are summed in another order. Both end here, before anyone has used the model.
"""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def float32_below(values: Array) -> Array:
    """The largest float32 not above each value: for float32 x, x <= value and x <= float32_below(value) are the same question."""
    near = values.astype(np.float32)
    near[near.astype(np.float64) > values] = np.nextafter(near[near.astype(np.float64) > values], np.float32(-np.inf))
    return near.astype(np.float64)


def leaf_grid(bound: float) -> float:
    """The step 2^(k-23) with 2^k above `bound`, the sum over trees of the largest |leaf|: every partial sum of leaves on it is exact.

    Partial sums are whole numbers below 2^24 steps, so no order of summation rounds. A prediction moves by at most trees x step / 2.
    """
    return 2.0 ** (math.floor(math.log2(bound)) + 1 - 23) if bound > 0.0 else 1.0


def _numbers(text: str, name: str) -> list[Array]:
    return [np.array(line.split(), dtype=np.float64) for line in re.findall(rf"(?m)^{name}=(.*)$", text)]


def exact_text(text: str) -> str:
    """LightGBM text with thresholds rounded down to float32 and leaves on their grid; a forest's mean becomes a sum of scaled leaves.

    The lines of byte offsets go: whoever loads the text writes them anew.
    """
    leaves = _numbers(text, "leaf_value")
    share = len(leaves) if re.search(r"(?m)^average_output$", text) else 1
    grid = leaf_grid(sum(float(np.abs(values).max(initial=0.0)) for values in leaves) / share)

    def written(name: str, values: Array) -> str:
        return f"{name}=" + " ".join(repr(float(v)) for v in values)

    def threshold(line: re.Match[str]) -> str:
        return written("threshold", float32_below(np.array(line[1].split(), dtype=np.float64)))

    def leaf(line: re.Match[str]) -> str:
        return written("leaf_value", np.round(np.array(line[1].split(), dtype=np.float64) / share / grid) * grid)

    text = re.sub(r"(?m)^threshold=(.*)$", threshold, text)
    text = re.sub(r"(?m)^leaf_value=(.*)$", leaf, text)
    return re.sub(r"(?m)^(tree_sizes=.*|average_output)\n", "", text)
