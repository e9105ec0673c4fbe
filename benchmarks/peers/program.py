"""What every peer's program shares, inside the peer's own environment: it reads bars, then runs one action per line that the driver sends.

Standard library and NumPy only. A request is one JSON line: {"do": ACTION} runs and times an action, {"do": "values", "columns": [...],
"path": FILE} saves the peer's values of some symbols for comparison. The answer is one JSON line. Whatever a library prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIELDS = ("open", "high", "low", "close", "volume")
COLUMNS = (
    *("adx_14", "atr_14", "band_lower", "band_place", "band_upper", "ema_12", "ema_26", "ema_50", "garman_klass", "log_return", "macd"),
    *("macd_histogram", "macd_signal", "max_20", "min_20", "obv_20", "parkinson", "returns_1", "returns_15", "returns_5", "returns_60"),
    *("rsi_14", "sma_20", "sma_5", "sma_60", "std_20", "std_60", "stochastic", "volume_ratio", "volume_z", "vwap_gap", "z_20"),
)
LIVE_WARM_UP = 300  # rows of history before the first live row; also the window of those who recompute
LIVE_CHUNK = 50  # live rows of one action

Bars = dict[str, NDArray[np.float64]]
Action = Callable[[], "list[float] | None"]
Values = Callable[[list[int]], NDArray[np.float64]]


def read_panel(path: str) -> Bars:
    """The driver's bars: field -> float64 (T, S), absent cells NaN."""
    with np.load(path) as stored:
        return {name: stored[name] for name in FIELDS}


def present_bars(panel: Bars) -> tuple[list[Bars], list[NDArray[np.int64]]]:
    """Per symbol: its present bars as contiguous arrays, and their rows. The form that per-symbol libraries want; never timed."""
    rows = [np.flatnonzero(~np.isnan(panel["close"][:, s])) for s in range(panel["close"].shape[1])]
    return [{name: np.ascontiguousarray(panel[name][at, s]) for name in FIELDS} for s, at in enumerate(rows)], rows


def scatter(found: list[Mapping[str, NDArray[np.float64]]], rows: list[NDArray[np.int64]], height: int) -> NDArray[np.float64]:
    """(height, len(found), 32): each symbol's columns put back on the common rows, NaN elsewhere."""
    out = np.full((height, len(found), len(COLUMNS)), np.nan)
    for k, (columns, at) in enumerate(zip(found, rows, strict=True)):
        for f, name in enumerate(COLUMNS):
            if name in columns:
                out[at, k, f] = columns[name]
    return out


def live_chunks(step: Callable[[int], None], first: int, rows: int) -> Action:
    """An action that takes the next LIVE_CHUNK rows (round and round past the end) and returns the seconds of each."""
    at = [first]

    def act() -> list[float]:
        seconds = []
        for _ in range(LIVE_CHUNK):
            row = first + (at[0] - first) % (rows - first)
            started = time.perf_counter()
            step(row)
            seconds.append(time.perf_counter() - started)
            at[0] += 1
        return seconds

    return act


def _busy() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(action: Action) -> dict[str, Any]:
    """Wall and CPU seconds of one action, and the samples it returned if it takes its own."""
    busy, started = _busy(), time.perf_counter()
    samples = action()
    wall = time.perf_counter() - started
    return {"wall": wall, "cpu": _busy() - busy, "samples": samples}


def serve(actions: Mapping[str, Action], values: Values | None, version: str) -> None:
    """Answer the driver until it closes our standard input."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")

    say({"actions": list(actions), "version": version})
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "values":
            if values is None:
                raise SystemExit("this peer compares no values")
            np.save(request["path"], values(request["columns"]))
            say({})
        else:
            say(timed(actions[request["do"]]))
