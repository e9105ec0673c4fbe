"""Our forecasts beside Qlib's on the real daily set, 2005-2014: our features and LightGBM against its Alpha158 + LightGBM as published.

usage: python -m benchmarks.qlib_models [--quick] [--page] [--shuffles N] [--markdown FILE]
Later data is never read (T34). Everybody gets the same names, the same training and test rows, the same cells and the same outcomes; only
features, treatment of the label and parameters are each side's own. Beside both stand our own models trained on shuffled labels (T29).

Every finished model is kept under build/qlib_models/<hash of the protocol>/, so a stopped run goes on where it was, and a page can be made
of what is there (--page). On one free core: a quarter of an hour for the models, two and a half hours for 2 x 100 shuffles.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.forecasts import BLOCK, DRAWS, Daily, daily, interval, resampled_means
from benchmarks.peers.install import python_of, why_absent
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts import names
from trading_platform.contracts.canonical import content_hash, sha256_hex
from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog import registry
from trading_platform.features.program import Program
from trading_platform.market_data.panel import action_table, build_panel
from trading_platform.market_data.sources.files import FileSource
from trading_platform.research.labels import Labels, demeaned, forward_return
from trading_platform.research.metrics import hac_t
from trading_platform.research.models.lightgbm import Parameters, exact, predict
from trading_platform.research.nulls import shuffled_labels
from trading_platform.research.splits import training_rows
from trading_platform.research.walk_forward import training_matrix, usable_cells

ROOT = Path(__file__).resolve().parents[1]
LAST = date(2014, 12, 31)
HORIZONS, SEEDS = (1, 5), (1, 2, 3, 4, 5)
TRAIN, FOLDS, EMBARGO = 756, 3, 0.01
VALID = 0.2  # share of the training rows, the newest, on which Qlib stops early
COST = 5e-4  # of each unit traded: 2 bps half spread and 3 bps impact
SHUFFLES, BATCH = 100, 5
PRICES = ("open", "high", "low", "close", "vwap")
SETS = ("core", "alpha158")


@dataclass(frozen=True, slots=True)
class Ground:
    """What everybody stands on. features: float32 (T, S, F). cells: bool (T, S) on which everybody learns and speaks. labels, folds: by
    horizon; a fold is (training rows, test rows)."""

    panel: Panel
    features: NDArray[np.float32]
    names: tuple[str, ...]
    cells: NDArray[np.bool_]
    labels: dict[int, Labels]
    folds: dict[int, list[tuple[NDArray[np.int64], NDArray[np.int64]]]]

    @property
    def key(self) -> str:
        """Hash of everything that a stored forecast depends on."""
        bars = [sha256_hex(np.ascontiguousarray(self.panel.fields[name]).tobytes()) for name in (*PRICES, "volume", "return_factor")]
        sets = {name: registry.feature_set(name).hash for name in SETS}
        protocol = [TRAIN, FOLDS, EMBARGO, VALID, asdict(Parameters()), lightgbm.__version__]
        labels = [sha256_hex(self.labels[horizon].values.tobytes()) for horizon in HORIZONS]
        return content_hash([bars, sets, protocol, labels, sha256_hex(np.packbits(self.cells).tobytes())])[:16]


def ground(quick: bool) -> Ground:
    """Panel of 2005-2014 with vwap = typical price, our features, the cells where all of them are defined, labels and folds."""
    root = Path(os.environ.get(names.ENV_TEST_DATA, ROOT.parent / "shared" / "data" / "open"))
    source = FileSource(root, MarketCalendar(), daily_last=LAST)
    bars = source.bars("1Day").with_columns(vwap=(pl.col("high") + pl.col("low") + pl.col("close")) / 3.0)
    if quick:
        bars = bars.filter(pl.col("instrument_id").is_in(bars["instrument_id"].unique().sort()[:40]))
    panel = build_panel(bars, action_table(source.corporate_actions()), "1Day", MarketCalendar(), fields=("vwap",))
    if np.datetime64(int(panel.session[-1]), "D") > np.datetime64(LAST):
        raise SystemExit("the panel reaches past 2014: refused (T34)")
    parts, found = [], []
    for name in SETS:
        chosen = registry.feature_set(name)
        kept = [index for index, feature in enumerate(chosen.names) if feature not in set(chosen.level)]
        parts.append(Program(chosen, panel.instrument_ids).step(panel)[..., kept])
        found += [chosen.names[index] for index in kept]
    features = np.ascontiguousarray(np.concatenate(parts, axis=2))
    cells = usable_cells(panel, features)
    start = int(np.argmax(cells.sum(axis=1) >= 0.5 * panel.present.sum(axis=1)))
    labels = {horizon: forward_return(panel, horizon) for horizon in HORIZONS}
    first = start + TRAIN + max(HORIZONS) + 2 + int(np.ceil(EMBARGO * TRAIN))
    tests = np.array_split(np.arange(first, panel.shape[0]), FOLDS)
    folds = {h: [(training_rows(one.t0, one.t1, int(rows[0]), TRAIN, EMBARGO), rows) for rows in tests] for h, one in labels.items()}
    return Ground(panel, features, tuple(found), cells, labels, folds)


def theirs(given: Ground, folder: Path, seeds: tuple[int, ...]) -> str:
    """Qlib's forecasts, by its own process, unless all are kept; empty, or why there are none."""
    if all((folder / f"qlib_{horizon}_{seed}.npy").is_file() for horizon in HORIZONS for seed in seeds):
        return ""
    absent = why_absent("qlib")
    if absent:
        return f"qlib {absent}"
    adjusted = {name: given.panel.fields[name] * given.panel.fields["return_factor"] for name in PRICES}
    adjusted["volume"] = given.panel.fields["volume"] / given.panel.fields["split_factor"]
    labels = {f"label_{h}": np.where(given.cells, one.values, np.nan) for h, one in given.labels.items()}
    ends = {f"folds_{h}": np.array([_ends(train, test, h) for train, test in folds]) for h, folds in given.folds.items()}
    path = folder / "given.npz"
    np.savez(path, cells=given.cells, seeds=np.array(seeds), **adjusted, **labels, **ends)
    command = [str(python_of("qlib")), "-W", "ignore", "-m", "benchmarks.peers.qlib_lightgbm", str(path), str(folder)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    with (folder / "qlib_fits.jsonl").open("a") as log:
        log.write("".join(f"{line}\n" for line in done.stdout.splitlines() if line.startswith("{")))
    return ""


def _ends(train: NDArray[np.int64], test: NDArray[np.int64], horizon: int) -> list[int]:
    """First and last row of Qlib's training, validation and test; no label of its training ends in its validation."""
    split = int(train.size * (1.0 - VALID))
    return [int(row) for row in (train[0], train[split - horizon - 2], train[split], train[-1], test[0], test[-1])]


def ours(given: Ground, horizon: int, labels: list[tuple[str, int, Labels]]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """(name, forecast (T, S)) of our model for each (name, seed, labels): one binned Dataset per fold serves all of them."""
    forecasts = {name: np.full(given.panel.shape, np.nan) for name, _, _ in labels}
    for train, test in given.folds[horizon]:
        x, y = training_matrix(given.panel, given.features, given.labels[horizon], train, given.cells)
        options = Parameters().options(labels[0][1], y.size)
        data = lightgbm.Dataset(x, y, feature_name=[name.replace(" ", "_") for name in given.names], params=options)
        cells = given.cells[test]
        asked = np.ascontiguousarray(given.features[test][cells])
        for name, seed, label in labels:
            _, target = training_matrix(given.panel, given.features, label, train, given.cells)
            booster = lightgbm.train(Parameters().options(seed, y.size), data.construct().set_label(target), Parameters().rounds)
            said = np.full(cells.shape, np.nan)
            said[cells] = predict(exact(booster.model_to_string().encode()), asked)
            forecasts[name][test] = said
    yield from forecasts.items()


def outcome(given: Ground, horizon: int) -> NDArray[np.float64]:
    """What is forecast: the raw forward return on the cells that everybody speaks about."""
    return np.where(given.cells, given.labels[horizon].values, np.nan)


def train_ours(given: Ground, folder: Path, seeds: tuple[int, ...], shuffles: int) -> None:
    """Every model that is not kept yet, some at a time."""
    for horizon in HORIZONS:
        target = demeaned(given.labels[horizon], given.panel.member)
        real = [(f"ours_{horizon}_{seed}", seed, target) for seed in seeds]
        for name, forecast in _missing(given, folder, horizon, real):
            np.save(folder / f"{name}.npy", forecast)
    for first in range(0, shuffles, BATCH):
        for horizon in HORIZONS:
            target = demeaned(given.labels[horizon], given.panel.member)
            dealt = [(f"shuffle_{horizon}_{n}", n, shuffled_labels(target, n)) for n in range(first, min(first + BATCH, shuffles))]
            for name, forecast in _missing(given, folder, horizon, dealt):
                found = daily(forecast, outcome(given, horizon), horizon, COST)
                np.savez(folder / f"{name}.npz", ic=found.ic, net=found.net, traded=found.traded)
                print(name, flush=True, file=sys.stderr)


def _missing(given: Ground, folder: Path, horizon: int, labels: list[tuple[str, int, Labels]]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    todo = [one for one in labels if not list(folder.glob(f"{one[0]}.np?"))]
    return ours(given, horizon, todo) if todo else iter(())


def days_of(given: Ground, folder: Path, side: str, horizon: int) -> list[Daily]:
    """Days of every kept model of a side, one per seed."""
    found = []
    for path in sorted(folder.glob(f"{side}_{horizon}_*.np?"), key=lambda path: int(path.stem.rsplit("_", 1)[1])):
        if path.suffix == ".npz":
            with np.load(path) as kept:
                found.append(Daily(kept["ic"], kept["net"], kept["traded"]))
        else:
            found.append(daily(np.load(path), outcome(given, horizon), horizon, COST))
    return found


HEADS = ("horizon", "what", "side", "n seeds", "mean [95 %]", "seeds, lowest to highest", "HAC t", "share of shuffles below")
SCALE = {"ic": (1.0, "rank IC", "{:.4f}"), "net": (1e4, "net decile spread, bps a day", "{:.2f}")}


def compare(given: Ground, folder: Path, horizon: int) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of the table of sides and of the table of differences."""
    sides = {side: days_of(given, folder, side, horizon) for side in ("ours", "qlib", "shuffle")}
    rows: list[list[str]] = []
    differences: list[list[str]] = []
    for field, (scale, words, form) in SCALE.items() if sides["ours"] or sides["qlib"] else ():
        series = {side: [scale * getattr(one, field) for one in found] for side, found in sides.items() if found}
        usable = np.all([np.isfinite(one) for found in series.values() for one in found], axis=0)
        mean = {side: np.mean([one[usable] for one in found], axis=0) for side, found in series.items() if side != "shuffle"}
        null = np.sort([float(one[usable].mean()) for one in series.get("shuffle", [])])
        means = resampled_means(np.column_stack(list(mean.values())))
        for column, (side, values) in enumerate(mean.items()):
            each = sorted(float(one[usable].mean()) for one in series[side])
            low, high = interval(means[:, column])
            below = f"{np.mean(null < values.mean()):.0%} of {null.size}" if null.size else "none run"
            text = [form.format(number) for number in (values.mean(), low, high, each[0], each[-1])]
            line = [f"{text[0]} [{text[1]}, {text[2]}]", f"{text[3]} to {text[4]}", f"{hac_t(values, _lags(horizon, values)):.2f}", below]
            rows.append([f"{horizon} d", words, side, str(len(each)), *line])
        if null.size:
            text = [form.format(number) for number in (null.mean(), *np.quantile(null, [0.025, 0.975]), np.quantile(null, 0.95))]
            line = [f"{text[0]} [{text[1]}, {text[2]}]", f"95th percentile {text[3]}", "", ""]
            rows.append([f"{horizon} d", words, "shuffled labels", str(null.size), *line])
        if len(mean) == 2:
            low, high = interval(means[:, 0] - means[:, 1])
            apart = float(mean["ours"].mean() - mean["qlib"].mean())
            text = [form.format(number) for number in (apart, low, high)]
            differences.append(
                [f"{horizon} d", words, f"{text[0]} [{text[1]}, {text[2]}]", str(int(usable.sum())), report.verdict(high >= 0.0)]
            )
    return rows, differences


def _lags(horizon: int, values: NDArray[np.float64]) -> int:
    return max(horizon, int(4 * (values.size / 100) ** (2 / 9)))


def turnovers(given: Ground, folder: Path) -> str:
    """One line: what each side's decile book trades a day."""
    said = []
    for horizon in HORIZONS:
        for side in ("ours", "qlib"):
            found = days_of(given, folder, side, horizon)
            if found:
                said.append(f"{side} {horizon} d {np.nanmean([np.nanmean(one.traded) for one in found]):.2f}")
    return ", ".join(said)


def trees(folder: Path) -> str:
    """How many trees Qlib's early stopping left, by horizon."""
    log = folder / "qlib_fits.jsonl"
    fits = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    kept = {h: sorted(fit["trees"] for fit in fits if fit.get("horizon") == h) for h in HORIZONS}
    return ", ".join(f"{h} d {found[0]} to {found[-1]} trees, median {found[len(found) // 2]}" for h, found in kept.items() if found)


def unfinished(folder: Path, seeds: int, shuffles: int) -> list[str]:
    """A line that says which models are still to be trained; none where all are there."""
    wanted = {"ours": seeds, "qlib": seeds, "shuffle": shuffles}
    found = {(side, h): len(list(folder.glob(f"{side}_{h}_*.np?"))) for side in wanted for h in HORIZONS}
    missing = [f"{side} {h} d {have} of {wanted[side]}" for (side, h), have in found.items() if have < wanted[side]]
    return [f"**Unfinished**, models there: {', '.join(missing)}. Run it again: it goes on where it was.", ""] if missing else []


def page(given: Ground, folder: Path, absent: str) -> list[str]:
    """The result in words and two tables."""
    day = [np.datetime64(int(value), "D") for value in given.panel.session]
    rows, differences = [], []
    for horizon in HORIZONS:
        some, more = compare(given, folder, horizon)
        rows, differences = rows + some, differences + more
    tests = given.folds[HORIZONS[0]]
    spans = "; ".join(f"{day[test[0]]} to {day[test[-1]]}" for _, test in tests)
    text = [
        f"{given.panel.shape[1]} names, bars of {day[0]} to {day[-1]} and none later (T34). SURVIVORSHIP BIASED: the index of 2021.",
        f"{FOLDS} refits: {TRAIN} training rows each, then purge and embargo of {EMBARGO:.0%}; tests {spans}. "
        f"{int(given.cells.sum()):,} cells are used, by everybody: those where all of our {len(given.names)} features are defined.",
        "Outcome: total return from the next day's attainable price to the one `horizon` days later (T7), as every label of this project.",
        "",
        f"- ours: {' + '.join(SETS)}, label demeaned per day, `research.models.lightgbm` with its defaults (150 trees of 31 leaves).",
        f"- qlib: pyqlib 0.9.7's own Alpha158, CSZScoreNorm of the label, LGBModel with the published parameters (learning rate 0.2, 210 "
        f"leaves, L1 205.7, L2 581), stopped early on the newest {VALID:.0%} of the training rows: {trees(folder)}.",
        "- shuffled labels: ours, each day's labels dealt anew among its names before training; one model per shuffle.",
        f"- net decile spread: highest less lowest tenth, equal weights, 1/horizon of it renewed a day, {COST * 1e4:g} bps for each "
        f"unit traded. Units traded a day, both legs, both sides (all of it: 4 / horizon): {turnovers(given, folder)}.",
        f"- intervals: circular block bootstrap, blocks of {BLOCK} days, {DRAWS} draws, the same days for both sides; a side is the mean",
        "  over its seeds, day by day.",
        "",
        *([f"**Not measured**: {absent}."] if absent else []),
        *report.table(HEADS, rows),
        "",
        "Required: ours less Qlib's is not entirely below zero.",
        "",
        *report.table(("horizon", "what", "ours less qlib's [95 %]", "days", ""), differences),
    ]
    return text


def main() -> int:
    """Train what is missing, print the page."""
    parser = report.parser(__doc__)
    parser.add_argument("--shuffles", type=int, default=None, help=f"shuffled-label models per horizon, default {SHUFFLES}")
    parser.add_argument("--page", action="store_true", help="train nothing: the page of the models that are there")
    arguments = parser.parse_args()
    started = report.machine()
    given = ground(arguments.quick)
    folder = ROOT / "build" / "qlib_models" / given.key
    folder.mkdir(parents=True, exist_ok=True)
    seeds = SEEDS[:2] if arguments.quick else SEEDS
    shuffles = arguments.shuffles if arguments.shuffles is not None else 5 if arguments.quick else SHUFFLES
    absent = "" if arguments.page else theirs(given, folder, seeds)
    if not arguments.page:
        train_ours(given, folder, seeds, shuffles)
    lines = unfinished(folder, len(seeds), shuffles) + page(given, folder, absent)
    report.publish("Forecasts beside Qlib's", "qlib_models", lines, arguments, started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
