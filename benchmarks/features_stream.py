"""A year of minutes streamed to Parquet: 49 M bars x 60 features with bounded memory; the compute share apart from reading and writing.

usage: python -m benchmarks.features_stream [--quick] [--markdown FILE] [--folder DIR]
500 symbols, generated in chunks of 1,000 rows (never held together), through one Program into one Parquet file (zstd, float32, a row group
per chunk) that is deleted afterwards; it takes about 10 GB in --folder at full size. Peak memory is VmHWM of a process that does only this.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.peers.process import ROOT
from benchmarks.workload import catalogue_features, later, make_panel
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.features.program import Program

SYMBOLS, CHUNK_ROWS, FEATURES, THREADS = 500, 1000, 60, 2
MUST_GIB = 3.0
BYTES_PER_VALUE = 4.5  # what the disk must have free: float32 that zstd cannot shrink, and the keys
HEADS = (
    *("bars x features", "bars read s", "compute s", "write s", "compute share"),
    *("ns per value", "M bars / s", "GB written", "peak GiB", "must", ""),
)


def generated(rows: int, symbols: int, chunk: int) -> Iterator[Panel]:
    """Seeded chunks of minute bars on one growing time axis."""
    for start in range(0, rows, chunk):
        yield later(make_panel(min(chunk, rows - start), symbols, 0.0, seed=start), start)


def as_table(panel: Panel, ids: pa.Array, values: NDArray[np.float32], schema: pa.Schema) -> pa.Table:
    """Rows (timestamp, instrument_id), one float32 column per feature."""
    rows, symbols = panel.shape
    keys = pa.DictionaryArray.from_arrays(pa.array(np.tile(np.arange(symbols, dtype=np.int32), rows)), ids)
    flat = np.ascontiguousarray(values.reshape(rows * symbols, -1).T)
    columns = [pa.array(np.repeat(panel.timestamp, symbols)), keys, *(pa.array(column) for column in flat)]
    return pa.Table.from_arrays(columns, schema=schema)


def peak_gib() -> float:
    """The largest resident size this process has had (getrusage would carry over its parent's)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 2**20
    raise InputError("no VmHWM in /proc/self/status", "benchmarks.features_stream", "run this on Linux")


def work(path: Path, rows: int, symbols: int, chunk: int) -> dict[str, float]:
    """Stream, compute, write; seconds of each, bytes, peak memory."""
    chosen = catalogue_features(FEATURES)
    program = Program(chosen, next(generated(1, symbols, 1)).instrument_ids, THREADS)
    program.step(next(generated(chunk, symbols, chunk)))  # compiles
    program.reset()
    ids = pa.array(list(program.instrument_ids))
    fields = [("timestamp", pa.int64()), ("instrument_id", pa.dictionary(pa.int32(), pa.string()))]
    schema = pa.schema([*fields, *((name, pa.float32()) for name in chosen.names)])
    out = np.empty((chunk, symbols, len(chosen.names)), np.float32)
    spent = {"read": 0.0, "compute": 0.0, "write": 0.0}
    options = {"compression": "zstd", "compression_level": 1, "use_dictionary": ["instrument_id"]}
    options["use_byte_stream_split"] = list(chosen.names)
    with pq.ParquetWriter(path, schema, **options) as writer:
        clock = time.perf_counter()
        for panel in generated(rows, symbols, chunk):
            arrived = time.perf_counter()
            values = program.step(panel, out[: panel.shape[0]])
            computed = time.perf_counter()
            writer.write_table(as_table(panel, ids, values, schema))
            spent["read"] += arrived - clock
            spent["compute"] += computed - arrived
            clock = time.perf_counter()
            spent["write"] += clock - computed
    size = float(path.stat().st_size)
    written = pq.ParquetFile(path).metadata.num_rows
    if written != rows * symbols:
        raise InputError(f"{written} rows written, {rows * symbols} computed", str(path), "look for a full disk")
    return spent | {"bytes": size, "peak": peak_gib(), "features": float(len(chosen.names))}


def page(rows: int, folder: Path) -> list[str]:
    """Run the worker in its own process and tell."""
    needed, free = rows * SYMBOLS * FEATURES * BYTES_PER_VALUE, shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(f"{folder} has {free / 1e9:.0f} GB free, {needed / 1e9:.0f} GB are needed: use --folder")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [sys.executable, "-m", "benchmarks.features_stream", "--work", str(Path(place) / "features.parquet"), str(rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found = json.loads(done.stdout.splitlines()[-1])
    total, bars = found["read"] + found["compute"] + found["write"], rows * SYMBOLS
    cells = (
        f"{bars:,} x {found['features']:.0f}",
        *(f"{found[name]:.1f}" for name in ("read", "compute", "write")),
        f"{found['compute'] / total:.0%}",
        f"{found['compute'] / bars / found['features'] * 1e9:.2f}",
        f"{bars / found['compute'] / 1e6:.2f}",
        f"{found['bytes'] / 1e9:.2f}",
        f"**{found['peak']:.2f}**",
        f"{MUST_GIB:g} GiB",
        report.verdict(found["peak"] <= MUST_GIB),
    )
    short = "" if found["features"] == FEATURES else f" **The catalogue has only {found['features']:.0f} that need bars alone.**"
    explained = (
        f"{SYMBOLS} symbols, chunks of {CHUNK_ROWS:,} rows, {THREADS} threads, {FEATURES} features of the catalogue, cross-sections too."
        f"{short} `bars read` is their generation. Peak memory is the whole process: interpreter, libraries, compiler, buffers."
    )
    return [explained, "", *report.table(HEADS, [cells])]


def main() -> None:
    """Print the table; optionally write it. With --work: be the worker."""
    parser = report.parser(__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the Parquet file is written")
    parser.add_argument("--work", nargs=2, metavar=("FILE", "ROWS"), help="(internal) one run, told as JSON")
    given = parser.parse_args()
    if given.work:
        print(json.dumps(work(Path(given.work[0]), int(given.work[1]), SYMBOLS, CHUNK_ROWS)))
        return
    started = report.machine()
    lines = page(4_000 if given.quick else 98_280, given.folder)
    report.publish("A year of minutes streamed to Parquet", "features_stream", lines, given, started)


if __name__ == "__main__":
    main()
