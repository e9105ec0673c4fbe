"""The picture of a null comparison: where the model stands among the runs of each population, by rank IC and by net Sharpe ratio."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np

from trading_platform.research.evaluate import NetResult
from trading_platform.research.null_models import BUY_AND_HOLD, POPULATIONS, RULES, NullRun

INK, MUTED, MODEL = "#1f2933", "#9aa5b1", "#b23a48"
COLOURS = dict(zip(POPULATIONS, ("#2266aa", "#c77d0a"), strict=True))
MARKS = dict(zip((*RULES, BUY_AND_HOLD), ("v", "^", "D"), strict=True))


def null_distribution(net: NetResult, ic: float, runs: Sequence[NullRun], warning: str = "") -> bytes:
    """PNG of two panels: histograms of the populations, the single rules as marks, the model as a line; dashes are 95th percentiles."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, measure, label, own in zip(
        figure.subplots(1, 2),
        ("ic", "sharpe"),
        ("mean rank IC", "annual net Sharpe ratio"),
        (ic, net.performance.annual_sharpe),
        strict=True,
    ):
        values = {name: np.array([getattr(run, measure) for run in runs if run.null == name]) for name in POPULATIONS}
        drawn = {name: found[np.isfinite(found)] for name, found in values.items()}
        everything = np.concatenate([*drawn.values(), [own] if math.isfinite(own) else []])
        edges = np.linspace(everything.min(), everything.max(), 31) if everything.size > 1 else np.linspace(-1.0, 1.0, 3)
        for name, found in drawn.items():
            if found.size:
                axis.hist(found, edges, color=COLOURS[name], alpha=0.55, label=f"{name} ({found.size})")
                axis.axvline(float(np.quantile(found, 0.95)), color=COLOURS[name], linestyle="--", linewidth=1.0)
        for run in runs:
            if run.null in MARKS and math.isfinite(getattr(run, measure)):
                axis.plot([getattr(run, measure)], [0.0], MARKS[run.null], color=INK, clip_on=False, markersize=6, label=run.null)
        if math.isfinite(own):
            axis.axvline(own, color=MODEL, linewidth=2.0, label="the model")
        axis.set_xlabel(label, fontsize=8)
        axis.tick_params(colors=INK, labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("runs", fontsize=8)
    figure.axes[1].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(
        f"The model among its nulls{': ' + warning if warning else ''}", fontsize=10, color=MODEL if warning else INK, x=0.01, ha="left"
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    return buffer.getvalue()
