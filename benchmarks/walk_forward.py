"""The walk-forward of LightGBM over the whole real daily set, timed: from the Parquet files to the last prediction, cold and unchanged.

usage: python -m benchmarks.walk_forward [--quick] [--markdown FILE]
Core features, default parameters, two workers. This is a timing run (T34): no metric of it is shown or kept, and the folds lie in a
temporary folder that is gone at its end. The table of exports reads rows up to 2014 alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.workload import test_data
from trading_platform.assets.models import FoldFiles
from trading_platform.assets.pipelines import DAILY
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.model import ModelConfig
from trading_platform.contracts.panel import Panel
from trading_platform.engine.inference import Inference
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.program import Program
from trading_platform.market_data.panel import action_table, build_panel
from trading_platform.market_data.sources.select import open_source
from trading_platform.research import export, walk_forward
from trading_platform.research.labels import Labels, forward_return
from trading_platform.research.models import catalog, lightgbm
from trading_platform.research.models.folds import Cells, usable_cells
from trading_platform.research.splits import Fold, warm_folds
from trading_platform.research.splits import walk_forward as folds_of

COLD_S, AGAIN_S = 600.0, 20.0
WORKERS = 2
DEVELOPMENT = date(2014, 12, 31)
PROBED = 10_000
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Market:
    """What the walk-forward reads."""

    panel: Panel
    features: NDArray[np.float32]
    names: tuple[str, ...]
    labels: Labels
    folds: list[Fold]


class Laps:
    """Wall and CPU seconds of named steps, in order."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float]] = []

    def lap(self, name: str, step: Callable[[], Made]) -> Made:
        """Run the step and remember how long it took."""
        wall, busy = time.perf_counter(), time.process_time()
        made = step()
        self.rows.append((name, time.perf_counter() - wall, time.process_time() - busy))
        return made

    def total(self) -> tuple[float, float]:
        """Wall and CPU seconds of all steps."""
        return sum(row[1] for row in self.rows), sum(row[2] for row in self.rows)


def read(laps: Laps, last: date | None, folds: int | None) -> Market:
    """From files to folds: bars, panel, core features, labels. last: session to stop at; folds: keep the last so many."""
    calendar = MarketCalendar()
    source = laps.lap("open the files", lambda: open_source(test_data(), calendar))
    bars = laps.lap("read bars", lambda: source.bars("1Day", date(2005, 1, 1), last or date(2017, 12, 31)))
    panel = laps.lap("panel", lambda: build_panel(bars, action_table(source.corporate_actions()), "1Day", calendar))
    chosen = feature_set(DAILY.feature_set)
    values = laps.lap("features", lambda: Program(chosen, panel.instrument_ids, WORKERS).step(panel))
    kept = [index for index, name in enumerate(chosen.names) if name not in chosen.level]
    features = np.ascontiguousarray(values[..., kept])
    labels = laps.lap("labels", lambda: forward_return(panel, DAILY.horizon, demean=True))
    made = folds_of(labels.t0, labels.t1, DAILY.train, DAILY.test, DAILY.step, DAILY.embargo)
    made = warm_folds(made, usable_cells(panel, features).any(axis=1))
    return Market(panel, features, tuple(chosen.names[index] for index in kept), labels, made[-(folds or 0) :])


def walk(market: Market, store: FoldFiles) -> tuple[int, str]:
    """(folds that came from the store, the chain's last link): all that leaves a timing run."""
    found = walk_forward.run(market.panel, market.features, market.names, market.labels, market.folds, store=store, workers=WORKERS)
    return found.reused, found.chain[-1].link


def timed(quick: bool) -> list[str]:
    """The walk-forward cold, then once more from the files with nothing changed."""
    rows: list[Sequence[object]] = []
    links, told = [], ""
    with tempfile.TemporaryDirectory() as folder:
        for name, must in (("cold", COLD_S), ("nothing changed", AGAIN_S)):
            laps = Laps()
            market = read(laps, DEVELOPMENT if quick else None, 6 if quick else None)
            reused, link = laps.lap("walk-forward", lambda market=market: walk(market, FoldFiles(Path(folder))))  # type: ignore[misc]
            links.append(link)
            rows += [(name, step, f"{wall:.2f} ({busy:.2f})", "", "") for step, wall, busy in laps.rows]
            wall, busy = laps.total()
            limits = ("", "") if quick else (f"{must:.0f} s", report.verdict(wall <= must))
            rows.append((name, f"**all, {reused} of {len(market.folds)} folds from the store**", f"**{wall:.1f}** ({busy:.1f})", *limits))
            sessions, names = market.panel.shape
            windows = f"{len(market.folds)} folds of {DAILY.train}/{DAILY.test}/{DAILY.step}"
            told = f"{names} names x {sessions} sessions x {len(market.names)} features, {windows}."
    if links[0] != links[1]:
        raise SystemExit("the second run is another walk-forward: its chain ends in another link")
    heads = ("run", "step", "s wall (CPU)", "must", "")
    return [told, "Both runs end in the same link of the hash chain, so they are the same walk-forward.", "", *report.table(heads, rows)]


def one_fold(market: Market) -> list[str]:
    """Where a fold's time goes, and what sharing its bins saves."""
    laps, fold = Laps(), market.folds[len(market.folds) // 2]
    cells, learner = Cells(market.panel, market.features, market.names, market.labels), lightgbm.Trees()
    rows = laps.lap("cells", lambda: cells.training(fold.train))
    prepared = laps.lap("bins (once per fold)", lambda: learner.prepare(rows))
    model = laps.lap("150 trees (per seed and parameter set)", lambda: learner.train(prepared, 7))
    tested = cells.spoken(fold.test)
    laps.lap(f"predict {len(tested):,} cells", lambda: lightgbm.predict(model, tested))
    laps.lap("Shapley values of 256 cells", lambda: lightgbm.contributions(model, tested[:256]))
    table = report.table(("step", "s wall (CPU)"), [(name, f"{wall:.3f} ({busy:.3f})") for name, wall, busy in laps.rows])
    return [f"One fold, one thread, {len(rows.target):,} training cells:", "", *table]


def exports(market: Market) -> list[str]:
    """Every learner on one fold of real rows up to 2014: native against ONNX, and the library's own conversion beside ours."""
    fold, rows = market.folds[len(market.folds) // 2], []
    cells = Cells(market.panel, market.features, market.names, market.labels)
    training = cells.training(fold.train)
    usable = cells.usable[fold.test]
    probes, sizes = cells.spoken(fold.test), [int(size) for size in usable.sum(axis=1) if size]
    if len(probes) < PROBED:
        raise SystemExit(f"{len(probes)} test cells are fewer than {PROBED}")
    config = ModelConfig("alpha", "1", "daily", "1Day", "core", "0" * 64, market.names, "v", "w", DAILY.horizon, "label", 0, 0, {})
    for name in catalog.LEARNERS:
        try:
            learner = catalog.learner(name)
            model = learner.train(learner.prepare(training), 7)
        except InputError as error:
            rows.append((name, f"**not measured**: {error.what}", *[""] * 7))
            continue
        onnx = export.to_onnx(model, len(market.names))
        found = export.parity(model, Inference(export.as_model(config, onnx)), probes, sizes)
        same = "yes" if found.batch_invariant else "**no**"
        good = found.differing == 0.0 and found.batch_invariant
        numbers = (f"{found.rows:,}", f"{found.max_abs:.1e}", f"{found.differing:.2%}", f"{found.spearman:.6f}", f"{found.sign_flips:.2%}")
        rows.append((name, *numbers, f"{found.top_overlap:.3f}", same, report.verdict(good)))
    heads = ("learner", "real rows", "max abs difference", "rows that differ", "Spearman", "sign flips", "top tenth", "any batch", "")
    told = "Native model against its ONNX form, asked as the runner asks it (top tenth: overlap; any batch: the same bits for every size):"
    return [told, "", *report.table(heads, rows), "", *unguarded(market, training, probes)]


def unguarded(market: Market, training: object, probes: NDArray[np.float32]) -> list[str]:
    """What the same LightGBM model loses when it is converted as trained, without `exact`."""
    import lightgbm as library

    learner = lightgbm.Trees()
    prepared = learner.prepare(training)  # type: ignore[arg-type]
    raw = library.train(learner.parameters.options(7, prepared.rows), prepared.data, learner.parameters.rounds)
    text = raw.model_to_string(num_iteration=-1).encode()
    config = ModelConfig("alpha", "1", "daily", "1Day", "core", "0" * 64, market.names, "v", "w", DAILY.horizon, "label", 0, 0, {})
    served = Inference(export.as_model(config, lightgbm.to_onnx(text, len(market.names))))
    alphas = served.alphas(probes, np.ones(len(probes), np.bool_))
    native, made = raw.predict(probes, num_threads=1), lightgbm.exact(text)
    flipped = float((lightgbm.leaves(text, probes) != lightgbm.leaves(made, probes)).mean())
    moved = float(np.abs(lightgbm.predict(made, probes) - native).max())
    return [
        f"Converted as trained, the same LightGBM differs from its ONNX form in {np.mean(alphas != native):.1%} of the rows, by up to "
        f"{np.abs(alphas - native).max():.1e}. Made exact first, it differs in none. Making it exact sent {flipped:.2%} of the (row, tree) "
        f"pairs to another leaf, and moved no prediction by more than {moved / native.std():.1e} standard deviations of the predictions.",
    ]


def main() -> None:
    """Print the tables; optionally write them."""
    given = report.parser(__doc__).parse_args()
    started = report.machine()
    if not (test_data() / "us_daily_sp500").is_dir():
        lines = ["**Not measured**: the data are absent (TRADING_TEST_DATA)."]
    else:
        developed = read(Laps(), DEVELOPMENT, None)
        lines = [*timed(given.quick), "", *one_fold(developed), "", *exports(developed)]
    intro = [
        "Core features, default parameters, 5-day label, two workers. A timing run: no metric is shown or kept (T34). "
        f"LightGBM {version('lightgbm')}, onnxruntime {version('onnxruntime')}.",
        "",
    ]
    report.publish("The daily walk-forward, timed", "walk_forward", [*intro, *lines], given, started)


if __name__ == "__main__":
    main()
