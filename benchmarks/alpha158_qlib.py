"""Qlib's half of alpha158_parity.py: runs in Qlib's own virtual environment and imports nothing of this project.

usage: python alpha158_qlib.py INPUT.npz OUTPUT.npz FOLDER {float32,float64}
INPUT: `dates` (ISO days, str), `symbols`, and per field an array (T, S). float32: a Qlib data folder is written and read, as users do.
float64: the same engine and expressions, fields handed over unrounded. OUTPUT: values float32 (T, S, 158), names, expressions, version.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import qlib
from qlib.contrib.data.loader import Alpha158DL
from qlib.data import D
from qlib.data.data import LocalFeatureProvider

FIELDS = ("open", "high", "low", "close", "vwap", "volume")
INPUT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()


class Unrounded(LocalFeatureProvider):
    """Fields as float64; Qlib's own storage rounds them to float32."""

    def __init__(self, **_: object) -> None:
        super().__init__()
        with np.load(INPUT) as data:
            self._columns = {name.lower(): s for s, name in enumerate(data["symbols"])}
            self._values = {name: data[name] for name in FIELDS}

    def feature(self, instrument: str, field: str, start_index: int, end_index: int, freq: str) -> pd.Series:
        """One field of one instrument by calendar index."""
        values = self._values[str(field).lower()[1:]][:, self._columns[instrument.lower()]]
        here = np.arange(max(0, start_index), min(end_index, len(values) - 1) + 1)
        return pd.Series(values[here], index=here)


def write_folder(folder: Path) -> None:
    """Calendar, instruments and one .bin per field (float32; the first number is the place in the calendar)."""
    with np.load(INPUT) as data:
        dates, symbols = data["dates"], data["symbols"]
        for name in ("calendars", "instruments"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "calendars" / "day.txt").write_text("\n".join(dates) + "\n")
        (folder / "instruments" / "all.txt").write_text("".join(f"{s}\t{dates[0]}\t{dates[-1]}\n" for s in symbols))
        for s, symbol in enumerate(symbols):
            home = folder / "features" / symbol.lower()
            home.mkdir(parents=True, exist_ok=True)
            for name in FIELDS:
                np.concatenate(([0.0], data[name][:, s])).astype("<f4").tofile(home / f"{name}.day.bin")


def main(output: Path, folder: Path, precision: str) -> None:
    """Compute Alpha158 with Qlib's loader, engine and operators."""
    write_folder(folder)
    exact = {"feature_provider": {"class": "Unrounded", "module_path": str(Path(__file__).resolve())}} if precision == "float64" else {}
    qlib.init(provider_uri=str(folder), kernels=1, expression_cache=None, dataset_cache=None, **exact)
    expressions, names = Alpha158DL.get_feature_config()
    with np.load(INPUT) as data:
        symbols, rows = list(data["symbols"]), len(data["dates"])
    frame = D.features([str(symbol) for symbol in symbols], expressions, freq="day")
    values = np.full((rows, len(symbols), len(names)), np.nan, np.float32)
    for s, symbol in enumerate(symbols):
        values[:, s] = frame.loc[symbol][expressions].to_numpy()
    np.savez(output, values=values, names=names, expressions=expressions, version=qlib.__version__, pandas=pd.__version__)


if __name__ == "__main__":
    main(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
