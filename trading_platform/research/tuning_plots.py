"""Pictures of a study, as PNG bytes: how its trials went, and which parameters made the difference."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from trading_platform.research.tuning import Gain, Study

INK, MUTED, ACCENT, LOSS = "#1f2933", "#9aa5b1", "#2266aa", "#b23a48"


def _figure(title: str, warning: str, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, height), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.grid(True, color="#e4e7eb", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=INK, labelsize=8)
    axis.set_title(title, loc="left", fontsize=10, color=INK)
    if warning:
        figure.text(0.5, 0.5, warning, ha="center", va="center", rotation=15, fontsize=22, color=LOSS, alpha=0.25)
    return figure, axis


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    return buffer.getvalue()


def history(study: Study, found: Gain, warning: str = "") -> bytes:
    """Mean rank IC of each trial with the best so far, beside trial 0 and the level that searching alone reaches from there."""
    figure, axis = _figure(f"{len(study.trials)} trials: mean rank IC on {study.plan.folds} inner purged folds", warning, 3.8)
    done = [trial for trial in study.trials if trial.state == "complete"]
    cut = [trial for trial in study.trials if trial.state == "pruned"]
    failed = [trial.number for trial in study.trials if trial.state == "failed"]
    axis.scatter([t.number for t in done], [t.value for t in done], s=18, color=ACCENT, label=f"completed ({len(done)})")
    axis.scatter([t.number for t in cut], [t.value for t in cut], s=14, color=MUTED, marker="x", label=f"pruned ({len(cut)})")
    axis.step(
        [t.number for t in done],
        np.maximum.accumulate([t.value for t in done]),
        where="post",
        color=INK,
        linewidth=1.2,
        label="best so far",
    )
    if failed:
        axis.vlines(failed, *axis.get_ylim(), color=LOSS, linewidth=0.8, alpha=0.6, label=f"failed ({len(failed)})")
    start = study.trials[0].value
    if math.isfinite(start):
        axis.axhline(start, color="#c77d0a", linewidth=1.0, label="trial 0: without tuning")
    if math.isfinite(found.t) and found.t != 0.0:
        level = start + abs(found.difference / found.t) * found.t_of_noise
        axis.axhline(level, color=LOSS, linewidth=1.0, linestyle="--", label="what searching alone reaches")
    axis.set_xlabel("trial", fontsize=8)
    axis.set_ylabel("mean rank IC", fontsize=8)
    axis.legend(fontsize=7, frameon=False, loc="lower right", ncols=2)
    return _png(figure)


def shares(found: Mapping[str, float], warning: str = "") -> bytes:
    """Importance of each parameter, as `tuning.importance` gives it; says so where too few trials completed for one."""
    figure, axis = _figure("Which parameters separate good from middling trials (PED-ANOVA)", warning, 0.9 + 0.32 * max(len(found), 4))
    names = list(found)[::-1]
    axis.barh(names, [found[name] for name in names], color=ACCENT)
    if not found:
        axis.text(0.5, 0.5, "too few completed trials", ha="center", va="center", color=MUTED, transform=axis.transAxes)
    axis.set_xlabel("share", fontsize=8)
    return _png(figure)
