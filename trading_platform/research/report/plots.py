"""Plots for Dagster's metadata, as PNG bytes below 80 KB each: the report at a glance. The page (tear_sheet) has the rest."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.research.report.alpha import Decay, Quantiles
from trading_platform.research.report.attribution import Attribution
from trading_platform.research.report.breakdown import Months
from trading_platform.research.report.holdings import Exposures
from trading_platform.research.walk_forward import AgeCurve

Array = NDArray[np.float64]
INK, MUTED, ACCENT, LOSS = "#1f2933", "#9aa5b1", "#2266aa", "#b23a48"
SERIES = ((ACCENT, "-"), (ACCENT, ":"), ("#c77d0a", "-"), ("#5a8f69", "-"), (MUTED, "-"))  # the model, then what it is compared with


def _figure(title: str, warning: str, rows: int = 1, heights: Sequence[float] = (1.0,)) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.6 if rows == 1 else 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, sharex=True, height_ratios=list(heights), squeeze=False)[:, 0]
    for axis in axes:
        axis.set_axisbelow(True)
        axis.grid(True, color="#e4e7eb", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(colors=INK, labelsize=8)
    axes[0].set_title(title, loc="left", fontsize=10, color=INK)
    if warning:
        figure.text(0.5, 0.55, warning, ha="center", va="center", rotation=15, fontsize=22, color=LOSS, alpha=0.25)
    return figure, axes


def _png(figure: Any) -> bytes:
    """The figure in a palette of 64 colours, a third of the size of full colour: a plot sits in the event log."""
    from PIL import Image

    figure.set_dpi(90)
    figure.canvas.draw()
    drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    buffer = io.BytesIO()
    drawn.quantize(64, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _days(timestamp: NDArray[np.int64]) -> NDArray[np.datetime64]:
    return timestamp.astype("datetime64[ns]")


def equity_curve(timestamp: NDArray[np.int64], returns: Mapping[str, Array], title: str, warning: str = "") -> bytes:
    """Compounded growth of 1 per series with the drawdown of the first below. timestamp: int64 (T,) ns; returns: name -> (T,) net."""
    figure, (top, bottom) = _figure(title, warning, 2, (3.0, 1.0))
    when = _days(timestamp)
    for number, (name, series) in enumerate(returns.items()):
        wealth = np.cumprod(1.0 + np.nan_to_num(series))
        top.plot(
            when,
            wealth,
            label=name,
            linewidth=1.4 if number == 0 else 1.0,
            color=SERIES[min(number, len(SERIES) - 1)][0],
            linestyle=SERIES[min(number, len(SERIES) - 1)][1],
        )
        if number == 0:
            fall = wealth / np.maximum.accumulate(np.maximum(wealth, 1.0)) - 1.0
            bottom.fill_between(when, fall, 0.0, color=LOSS, alpha=0.5, linewidth=0)
    top.set_ylabel("growth of 1, net", fontsize=8)
    bottom.set_ylabel("drawdown", fontsize=8)
    top.legend(fontsize=8, frameon=False, loc="upper left")
    return _png(figure)


def ic_over_time(timestamp: NDArray[np.int64], ic: Array, title: str, warning: str = "", window: int = 63) -> bytes:
    """Rank IC per row, its rolling mean over `window` rows and its cumulative sum."""
    figure, (top, bottom) = _figure(title, warning, 2, (1.0, 1.0))
    defined = np.isfinite(ic)
    when, values = _days(timestamp)[defined], ic[defined]
    top.vlines(when, 0.0, values, color=MUTED, linewidth=0.4)
    if values.size >= window:
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        top.plot(when[window - 1 :], smooth, color=ACCENT, linewidth=1.4, label=f"mean of {window} rows")
        top.legend(fontsize=8, frameon=False)
    bottom.plot(when, np.cumsum(values), color=INK, linewidth=1.2)
    top.set_ylabel("rank IC", fontsize=8)
    bottom.set_ylabel("cumulative", fontsize=8)
    return _png(figure)


def feature_importance(names: Sequence[str], share: Array, title: str, warning: str = "", top: int = 20) -> bytes:
    """The `top` features by mean share of split gain."""
    figure, (axis,) = _figure(title, warning)
    figure.set_size_inches(8.0, 4.8)
    order = np.argsort(-share, kind="stable")[:top][::-1]
    axis.barh([names[i] for i in order], share[order], color=ACCENT)
    axis.set_xlabel("share of gain", fontsize=8)
    axis.tick_params(axis="y", labelsize=7)
    return _png(figure)


def age_curve(curve: AgeCurve, title: str, warning: str = "") -> bytes:
    """Mean rank IC against the model's age in rows, with two standard errors (T31)."""
    figure, (axis,) = _figure(title, warning)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(curve.t != 0.0, 2.0 * np.abs(curve.ic / curve.t), np.nan)
    axis.errorbar(curve.age, curve.ic, yerr=np.nan_to_num(error), color=ACCENT, marker="o", capsize=3)
    axis.axhline(0.0, color=MUTED, linewidth=0.8)
    axis.set_xlabel("rows since the model was trained", fontsize=8)
    axis.set_ylabel("mean rank IC", fontsize=8)
    return _png(figure)


def _bars(axis: Any, names: Sequence[str], values: Array, error: Array, scale: float = 1.0) -> None:
    place = np.arange(len(names))
    colors = [ACCENT if value >= 0.0 else LOSS for value in values]
    axis.bar(place, values * scale, yerr=np.nan_to_num(error) * scale, color=colors, capsize=3, width=0.65, ecolor=INK)
    axis.set_xticks(place, names)
    axis.axhline(0.0, color=MUTED, linewidth=0.8)


def ic_decay(decay: Decay, title: str, warning: str = "") -> bytes:
    """Mean rank IC by horizon in rows with two HAC standard errors."""
    figure, (axis,) = _figure(title, warning)
    _bars(axis, [str(h) for h in decay.horizon], decay.ic, 2.0 * decay.error)
    axis.set_xlabel("horizon, rows", fontsize=8)
    axis.set_ylabel("mean rank IC", fontsize=8)
    return _png(figure)


def quantile_returns(seen: Quantiles, title: str, warning: str = "") -> bytes:
    """Mean return less the cross-section's, per quantile of the alpha, in basis points, with two HAC standard errors."""
    figure, (axis,) = _figure(title, warning)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(seen.t != 0.0, 2.0 * np.abs(seen.mean / seen.t), np.nan)
    _bars(axis, [f"Q{n + 1}" for n in range(seen.mean.size)], np.nan_to_num(seen.mean), error, 1e4)
    axis.set_ylabel("bps, gross", fontsize=8)
    return _png(figure)


def monthly_returns(seen: Months, title: str, warning: str = "") -> bytes:
    """Compounded net returns per month in percent, one line per year, the year's total last."""
    figure, (axis,) = _figure(title, warning)
    table = np.column_stack([seen.months, seen.total]) * 100.0
    axis.grid(False)
    axis.imshow(np.clip(np.nan_to_num(table), -8.0, 8.0), cmap="RdYlGn", vmin=-12.0, vmax=12.0, aspect="auto", alpha=0.75)
    for row, column in zip(*np.nonzero(np.isfinite(table)), strict=True):
        axis.text(column, row, f"{table[row, column]:.1f}", ha="center", va="center", fontsize=7, color=INK)
    axis.set_xticks(range(13), [*"JFMAMJJASOND", "year"])
    axis.set_yticks(range(len(seen.years)), [str(year) for year in seen.years])
    return _png(figure)


def exposures(timestamp: NDArray[np.int64], seen: Exposures, title: str, warning: str = "") -> bytes:
    """Gross, net and beta at each session's end, and the names held."""
    figure, (top, bottom) = _figure(title, warning, 2, (3.0, 1.0))
    both = [("gross", seen.gross, ACCENT), ("net", seen.net, "#5a8f69")]
    weights = both if seen.short.any() else [("gross = net, never short", seen.gross, ACCENT)]
    for name, values, color in (*weights, ("beta", seen.beta, "#c77d0a")):
        top.plot(_days(timestamp), values, label=name, color=color, linewidth=1.0)
    top.set_ylabel("of equity", fontsize=8)
    top.legend(fontsize=8, frameon=False, loc="upper left", ncols=3)
    bottom.plot(_days(timestamp), seen.names, color=INK, linewidth=0.8)
    bottom.set_ylabel("names", fontsize=8)
    return _png(figure)


def sharpe_bars(names: Sequence[str], values: Array, errors: Array, title: str, warning: str = "") -> bytes:
    """Annual net Sharpe ratios with two standard errors."""
    figure, (axis,) = _figure(title, warning)
    _bars(axis, names, values, 2.0 * errors)
    axis.set_ylabel("annual Sharpe ratio, net", fontsize=8)
    return _png(figure)


def shap_importance(seen: Attribution, title: str, warning: str = "", top: int = 20) -> bytes:
    """The `top` features by mean |SHAP|; blue where more of the feature raises the prediction, red where it lowers it."""
    figure, (axis,) = _figure(title, warning)
    figure.set_size_inches(8.0, 4.8)
    order = np.argsort(-seen.share, kind="stable")[:top][::-1]
    colors = [ACCENT if seen.direction[i] >= 0.0 else LOSS for i in order]
    axis.barh([seen.names[i] for i in order], seen.share[order], color=colors)
    axis.set_xlabel("share of mean |SHAP|; blue: more of it raises the prediction", fontsize=8)
    axis.tick_params(axis="y", labelsize=7)
    return _png(figure)


def feature_drift(windows: Sequence[str], psi: Array, names: Sequence[str], watch: float, drift: float, title: str, top: int = 20) -> bytes:
    """PSI of each feature (F,) in each window (W,), psi (W, F), the `top` by the newest window; lighter bars are older windows."""
    figure, (axis,) = _figure(title, "")
    figure.set_size_inches(8.0, 4.8)
    newest = np.nan_to_num(psi[-1])
    order = np.argsort(-newest, kind="stable")[:top][::-1]
    shown = min(len(windows), 3)
    for back in range(shown):
        place = np.arange(len(order)) + 0.27 * (back - (shown - 1) / 2.0) * -1.0
        values = np.nan_to_num(psi[len(windows) - 1 - back][order])
        axis.barh(place, values, height=0.25, color=ACCENT, alpha=1.0 - 0.35 * back, label=windows[len(windows) - 1 - back])
    axis.set_yticks(np.arange(len(order)), [names[i] for i in order])
    for limit, color in ((watch, MUTED), (drift, LOSS)):
        axis.axvline(limit, color=color, linewidth=0.9, linestyle="--")
    axis.set_xlabel("population stability index", fontsize=8)
    axis.tick_params(axis="y", labelsize=7)
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    return _png(figure)
