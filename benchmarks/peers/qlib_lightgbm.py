"""Qlib's Alpha158 + LightGBM with its published parameters, fitted and asked on the rows that the driver names.

usage: python -m benchmarks.peers.qlib_lightgbm GIVEN.npz FOLDER
GIVEN holds open, high, low, close, vwap, volume (T, S), adjusted; per horizon h `label_h` float64 (T, S), NaN outside the rows that
everybody may use; `cells` bool (T, S), on which everybody predicts; `folds_h` int64 (K, 6): first and last row of training, validation and
test; `seeds`. FOLDER gets `qlib_h_seed.npy`, predictions float64 (T, S), one file at a time, and is not asked again for what it has.

Everything is Qlib's: its loader's 158 expressions over its own float32 files, its processors (DropnaLabel, CSZScoreNorm of the label), its
DatasetH, its LGBModel with examples/benchmarks/LightGBM/workflow_config_lightgbm_Alpha158.yaml. Beside the seed and the number of threads
only its tracking differs: the metrics of each round go nowhere.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import qlib
from numpy.typing import NDArray
from qlib.contrib.data.loader import Alpha158DL
from qlib.contrib.model import gbdt
from qlib.data import D
from qlib.data.dataset import DatasetH
from qlib.data.dataset.handler import DataHandlerLP
from qlib.data.dataset.loader import StaticDataLoader

from benchmarks.peers.with_qlib import dump

FIELDS = ("open", "high", "low", "close", "vwap", "volume")
PUBLISHED = {
    "loss": "mse",
    "colsample_bytree": 0.8879,
    "learning_rate": 0.2,
    "subsample": 0.8789,
    "lambda_l1": 205.6999,
    "lambda_l2": 580.9768,
    "max_depth": 8,
    "num_leaves": 210,
}
LEARN = [{"class": "DropnaLabel"}, {"class": "CSZScoreNorm", "kwargs": {"fields_group": "label"}}]
FIRST_DAY = pd.Timestamp("2000-01-03")  # of `dump`: a row is a day


class Silent:
    """Qlib's recorder, as far as LGBModel calls it."""

    @staticmethod
    def log_metrics(**_: object) -> None:
        """Keep nothing."""


def alpha158(given: dict[str, NDArray], root: Path) -> tuple[NDArray[np.float32], list[str]]:
    """Qlib's own values, float32 (T, S, 158)."""
    dump({name: given[name] for name in FIELDS}, root)
    qlib.init(provider_uri=str(root), region="us", kernels=1, logging_level=logging.ERROR, expression_cache=None, dataset_cache=None)
    expressions, names = Alpha158DL.get_feature_config()
    rows, width = given["close"].shape
    values = np.full((rows, width, len(names)), np.nan, np.float32)
    for s in range(width):
        found = D.features([f"S{s:04d}"], expressions, freq="day")
        values[(found.index.get_level_values("datetime") - FIRST_DAY).days, s] = found[expressions].to_numpy(np.float32)
    return values, names


def dataset(
    values: NDArray[np.float32], names: list[str], label: NDArray[np.float64], cells: NDArray[np.bool_], ends: list[int]
) -> DatasetH:
    """Qlib's dataset of one fold over the cells that everybody uses."""
    first, last = ends[0], ends[5]
    row, column = np.nonzero(cells[first : last + 1])
    row += first
    days = FIRST_DAY + pd.to_timedelta(row, unit="D")
    index = pd.MultiIndex.from_arrays([days, [f"S{s:04d}" for s in column]], names=["datetime", "instrument"])
    columns = pd.MultiIndex.from_tuples([("feature", name) for name in names] + [("label", "LABEL0")])
    frame = pd.DataFrame(np.column_stack([values[row, column], label[row, column].astype(np.float32)]), index=index, columns=columns)
    handler = DataHandlerLP(data_loader=StaticDataLoader(frame), infer_processors=[], learn_processors=LEARN, drop_raw=True)
    day = [FIRST_DAY + pd.Timedelta(days=end) for end in ends]
    return DatasetH(handler, {"train": (day[0], day[1]), "valid": (day[2], day[3]), "test": (day[4], day[5])})


def main() -> None:
    """Fit what is missing; say each fit in one JSON line."""
    given_path, folder = Path(sys.argv[1]), Path(sys.argv[2])
    with np.load(given_path) as data:
        given = {name: data[name] for name in data.files}
    gbdt.R = Silent()
    with tempfile.TemporaryDirectory() as root:
        values, names = alpha158(given, Path(root))
        shape = given["close"].shape
        for horizon in (int(name.removeprefix("label_")) for name in given if name.startswith("label_")):
            missing = [int(seed) for seed in given["seeds"] if not (folder / f"qlib_{horizon}_{seed}.npy").exists()]
            predictions = {seed: np.full(shape, np.nan) for seed in missing}
            for ends in given[f"folds_{horizon}"].tolist() if missing else []:
                fold = dataset(values, names, given[f"label_{horizon}"], given["cells"], ends)
                for seed, predicted in predictions.items():
                    began = time.perf_counter()
                    model = gbdt.LGBModel(**PUBLISHED, num_threads=1, seed=seed)
                    model.fit(fold, verbose_eval=0)
                    said = model.predict(fold)
                    row = (said.index.get_level_values("datetime") - FIRST_DAY).days
                    column = said.index.get_level_values("instrument").str[1:].astype(int)
                    predicted[row, column] = said.to_numpy()
                    line = {"horizon": horizon, "seed": seed, "trees": model.model.best_iteration, "seconds": time.perf_counter() - began}
                    print(json.dumps(line), flush=True)
            for seed, predicted in predictions.items():
                made = folder / f".qlib_{horizon}_{seed}.npy"
                np.save(made, predicted)
                os.replace(made, folder / f"qlib_{horizon}_{seed}.npy")
    print(json.dumps({"qlib": qlib.__version__}), flush=True)


if __name__ == "__main__":
    main()
