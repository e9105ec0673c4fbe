"""The picture of a model's watch: each detector's sum against its limit, session by session, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trading_platform.research.monitoring import Detector, Watched

INK, LINE, LIMIT = "#1f2933", "#2266aa", "#b23a48"


def cusum_chart(session: NDArray[np.int64], found: Sequence[tuple[Detector, Watched]], title: str) -> bytes:
    """One panel per detector over sessions (days since 1970): the sum, its limit, and a mark at each alarm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 1.0 + 1.5 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    days = session.astype("datetime64[D]")
    for axis, (detector, watched) in zip(figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0], found, strict=True):
        axis.step(days, watched.sums, where="post", color=LINE, linewidth=1.2)
        axis.plot(days, watched.sums, ".", color=LINE, markersize=3)
        axis.axhline(detector.limit, color=LIMIT, linewidth=1.0, linestyle="--")
        axis.plot(days[watched.alarms], np.full(watched.alarms.size, detector.limit), "v", color=LIMIT, markersize=8)
        axis.set_ylim(0.0, detector.limit * 1.25)
        axis.set_ylabel(detector.name.replace("_", " "), fontsize=8, color=INK)
        axis.tick_params(colors=INK, labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    figure.autofmt_xdate(rotation=30)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    return buffer.getvalue()
