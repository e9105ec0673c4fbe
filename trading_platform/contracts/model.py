"""Model: the content of a verified bundle as a value, the only form in which a model reaches the engine (DESIGN section 7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError

MODEL_NAME = re.compile(r"^(.+)_v(\d+(?:\.\d+)*)$")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """`config.json` of a bundle.

    slot: Redis slot it is made for (daily, intraday). timeframe: of the rows it reads. feature_set, feature_hash: the compiled features.
    features: the F model inputs in column order, a subset of the feature set's names. volatility, atr: names of the sizing features, both
    fractions per bar. horizon: bars ahead that the alpha predicts; target: what it predicts. trained_from, trained_through: session days
    (days since 1970-01-01) of the first training row and of the newest bar that any training label knew; ages count from the latter.
    feed: T5 identity {vendor, tape, bar_version, adjustment}.
    """

    name: str
    version: str
    slot: str
    timeframe: str
    feature_set: str
    feature_hash: str
    features: tuple[str, ...]
    volatility: str
    atr: str
    horizon: int
    target: str
    trained_from: int
    trained_through: int
    feed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Model:
    """A verified bundle: its id (sha256 of metadata.json), config, ONNX bytes, golden rows and the full metadata.

    golden_input: float32 (R, F); golden_output: float64 (R,), what onnxruntime gave at export.
    """

    bundle_id: str
    config: ModelConfig
    onnx: bytes
    golden_input: NDArray[np.float32]
    golden_output: NDArray[np.float64]
    metadata: Mapping[str, Any]

    @property
    def label(self) -> str:
        """`<name>_v<version>`, as people write it into Redis."""
        return f"{self.config.name}_v{self.config.version}"


def parse_label(label: str) -> tuple[str, str]:
    """Split `<name>_v<version>` (`tlob_tiny_v1.2`, `bull_specialist_v127`) into name and version."""
    match = MODEL_NAME.match(label)
    if match is None:
        raise InputError(f"{label!r} is not <name>_v<version>", "a model's label", "write it like alpha_lightgbm_v3 or tlob_tiny_v1.2")
    return match.group(1), match.group(2)
