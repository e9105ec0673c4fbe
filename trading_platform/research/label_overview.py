"""What a set of labels looks like, period by period: how they are distributed, how many cells have one, how much they overlap."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.panel import Panel
from trading_platform.research.label_rules import ForwardReturn
from trading_platform.research.labels import Labels
from trading_platform.research.sample_weights import SampleWeights

Array = NDArray[np.float64]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
INK, MUTED, ACCENT = "#1f2933", "#9aa5b1", "#2266aa"
SHADES = ("#b23a48", "#c9ced6", "#2266aa")  # of the classes, lowest first; of two, the outer ones
UNIT = {"1Day": "Y"}  # of a period; a session for intraday bars


@dataclass(frozen=True, slots=True)
class Overview:
    """Labels by period (P,): years of daily rows, sessions of intraday rows.

    period: names. cells: int64, members with a bar. labelled: int64, of them with a label. spread: float64 (P, 5), QUANTILES of the values,
    or shares: float64 (P, C), of each class; the other is empty. concurrency: float64, labels that hold a held row, averaged over
    instruments and rows. independent: float64, sum of their uniqueness. NaN where a period has no label.
    """

    period: tuple[str, ...]
    cells: NDArray[np.int64]
    labelled: NDArray[np.int64]
    spread: Array
    shares: Array
    concurrency: Array
    independent: Array


def overview(panel: Panel, labels: Labels, weights: SampleWeights) -> Overview:
    """Count the labels of a panel by period, members with a bar only."""
    days = panel.session.astype("datetime64[D]").astype(f"datetime64[{UNIT.get(panel.timeframe, 'D')}]")
    periods, place = np.unique(days, return_inverse=True)
    classes = () if labels.rule is None else labels.rule.classes
    said = []
    for number in range(periods.size):
        rows = place == number
        member = panel.member[rows] & panel.present[rows]
        values = labels.values[rows][member & np.isfinite(labels.values[rows])]
        held = weights.concurrency[rows]
        said.append(
            (
                int(member.sum()),
                values.size,
                np.full(5, np.nan) if classes or not values.size else np.quantile(values, QUANTILES),
                np.array([np.mean(values == value) if values.size else np.nan for value in classes]),
                held[held > 0].mean() if (held > 0).any() else np.nan,
                np.nansum(weights.uniqueness[rows][member]),
            )
        )
    columns = [np.array(column) for column in zip(*said, strict=True)]
    return Overview(tuple(str(period) for period in periods), *columns)


def markdown(found: Overview, labels: Labels) -> str:
    """One line per period."""
    classes = () if labels.rule is None else labels.rule.classes
    head = [f"{value:g}" for value in classes] or [f"{quantile:.0%}" for quantile in QUANTILES]
    lines = [
        "| period | member cells | labelled | " + " | ".join(head) + " | concurrency | independent |",
        "|---" * (5 + len(head)) + "|",
    ]
    for number, period in enumerate(found.period):
        numbers = [f"{x:.1%}" for x in found.shares[number]] if classes else [f"{x:.4f}" for x in found.spread[number]]
        share = found.labelled[number] / max(int(found.cells[number]), 1)
        rest = f"{found.concurrency[number]:.2f} | {found.independent[number]:,.0f}"
        lines.append(f"| {period} | {found.cells[number]:,} | {share:.1%} | {' | '.join(numbers)} | {rest} |")
    return "\n".join(lines)


def plot(found: Overview, labels: Labels) -> bytes:
    """PNG: the distribution per period, the share of member cells with a label, and how many labels hold a row at a time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[2.4, 1.0, 1.0])
    for axis in (top, middle, bottom):
        axis.set_axisbelow(True)
        axis.grid(True, axis="y", color="#e4e7eb", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(colors=INK, labelsize=8)
    place = np.arange(len(found.period))
    count = int(found.labelled.sum())
    top.set_title(
        f"{labels.name}: {count:,} labels of members, {found.independent.sum():,.0f} independent", loc="left", fontsize=10, color=INK
    )
    _distribution(top, place, found, labels)
    middle.bar(place, found.labelled / np.maximum(found.cells, 1), width=0.7, color=ACCENT)
    middle.set_ylim(0.0, 1.0)
    middle.set_ylabel("labelled,\nshare of cells", fontsize=8)
    bottom.plot(place, found.concurrency, color=INK, marker="o", markersize=3.5, linewidth=1.2)
    bottom.set_ylim(0.0, 1.15 * float(np.nanmax(found.concurrency)))
    bottom.set_ylabel("labels per\nheld row", fontsize=8)
    bottom.set_xticks(place, found.period, rotation=0 if place.size <= 16 else 60)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    return buffer.getvalue()


def _unit(labels: Labels) -> str:
    return "volatilities" if isinstance(labels.rule, ForwardReturn) and labels.rule.volatility_rows else "fraction"


def _distribution(axis: Any, place: NDArray[np.int64], found: Overview, labels: Labels) -> None:
    classes = () if labels.rule is None else labels.rule.classes
    if not classes:
        low, quarter, middle, upper, high = found.spread.T
        axis.bar(place, high - low, 0.5, bottom=low, color="#dbe6f2", label="5 % to 95 %")
        axis.bar(place, upper - quarter, 0.5, bottom=quarter, color="#8fb3d9", label="25 % to 75 %")
        axis.hlines(middle, place - 0.25, place + 0.25, color=INK, linewidth=1.4, label="median")
        axis.use_sticky_edges = False
        axis.margins(y=0.08)
        axis.set_ylabel(f"label, {_unit(labels)}", fontsize=8)
    else:
        base = np.zeros(place.size)
        shades = SHADES if len(classes) == 3 else (SHADES[0], SHADES[2])
        for number, value in enumerate(classes):
            axis.bar(place, found.shares[:, number], 0.7, bottom=base, color=shades[number], label=f"{value:g}")
            base = base + np.nan_to_num(found.shares[:, number])
        axis.set_ylabel("share of labels", fontsize=8)
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
