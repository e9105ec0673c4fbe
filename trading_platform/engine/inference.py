"""A model's alphas: one cross-section at a time through onnxruntime, with one thread, so that bits do not depend on the machine's load."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from trading_platform.contracts.errors import CorruptionError, InputError, TransientError
from trading_platform.contracts.model import Model

SILENT = 3  # onnxruntime's log severity: errors only


class Inference:
    """One loaded model. Purely a function of its input: no state, no clock."""

    def __init__(self, model: Model) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = SILENT
        self.label = model.label
        try:
            self._session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own classes, all derived from Exception directly
            raise CorruptionError(f"{model.label} cannot be loaded: {error}", model.bundle_id, "export it again") from error
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        self._features = len(model.config.features)

    def alphas(self, features: NDArray[np.float32], defined: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Alphas float64 (S,) of one cross-section: features float32 (S, F) in the model's column order, defined bool (S,) rows to use.

        The shape given to the model is always (S, F): rows that are not defined enter as zeros and come back NaN, as does a prediction that
        is not finite. InputError for another F, TransientError when the runtime fails (T23: the caller counts and falls back).
        """
        if features.ndim != 2 or features.shape[1] != self._features or features.dtype != np.float32:
            raise InputError(f"features are {features.dtype} {features.shape}", self.label, f"give float32 (S, {self._features})")
        filled = np.where(defined[:, None], features, np.float32(0.0))
        try:
            raw = self._session.run([self._output], {self._input: filled})[0]
        except Exception as error:  # see __init__
            raise TransientError(f"inference failed: {error}", self.label, "the runner falls back to the previous bundle") from error
        alpha = np.asarray(raw, dtype=np.float64).reshape(-1)
        if alpha.shape != defined.shape:
            raise TransientError(f"the model answered {alpha.shape} for {defined.shape} rows", self.label, "export one output per row")
        return np.where(defined & np.isfinite(alpha), alpha, np.nan)
