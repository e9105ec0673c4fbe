"""Interactive charts as plain plotly figures (data and layout): what to draw, no arithmetic beyond rounding for the wire."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.research.gates import Power
from trading_platform.research.report import breakdown
from trading_platform.research.report.attribution import Attribution
from trading_platform.research.report.findings import Findings

Figure = dict[str, Any]
Array = NDArray[np.float64]
INK, MUTED, GRID, BLUE, RED, GREEN = "#1f2933", "#9aa5b1", "#e4e7eb", "#2266aa", "#b23a48", "#2f855a"
BAND = "rgba(34,102,170,0.14)"
COLORS = (BLUE, "#c77d0a", "#5a8f69", "#7b5ea7", "#d1495b", "#3a9ea5", "#8d6e63", "#607d8b", "#aab030", "#e07a9a", "#4f6d7a")
BEESWARM_FEATURES, BEESWARM_CELLS, TOP_FEATURES = 12, 400, 20


def rounded(values: Iterable[float]) -> list[float | None]:
    """Six significant digits, None where undefined: what a screen can show."""
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in values]


def dates(session: NDArray[np.int64]) -> list[str]:
    """ISO dates of session days."""
    return [str(day) for day in session.astype("datetime64[D]")]


def figure(data: Sequence[Figure], warning: str, y: str, x: str = "", height: int = 340, **layout: Any) -> Figure:
    """A figure in the house's look; `warning` stands across it."""
    notes = list(layout.pop("annotations", ()))
    if warning:
        font = {"size": 30, "color": RED}
        mark = {
            "text": warning,
            "xref": "paper",
            "yref": "paper",
            "x": 0.5,
            "y": 0.5,
            "showarrow": False,
            "textangle": -14,
            "opacity": 0.22,
        }
        notes.append({**mark, "font": font})
    axis = {"gridcolor": GRID, "zerolinecolor": MUTED, "linecolor": MUTED, "automargin": True}
    base = {
        "height": height,
        "margin": {"l": 60, "r": 20, "t": 28, "b": 40},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 12, "color": INK},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0.0},
        "hovermode": "x unified",
        "annotations": notes,
        "xaxis": {**axis, "title": {"text": x}, **layout.pop("xaxis", {})},
        "yaxis": {**axis, "title": {"text": y}, **layout.pop("yaxis", {})},
    }
    return {"data": list(data), "layout": {**base, **layout}}


def two_storeys(data: Sequence[Figure], warning: str, upper: str, lower: str, height: int, **below: Any) -> Figure:
    """A figure with two y axes above one another; traces with yaxis "y2" are in the lower one. below: settings of the lower axis."""
    second = {"domain": [0.0, 0.36], "title": {"text": lower}, "gridcolor": GRID, "zerolinecolor": MUTED, "automargin": True, **below}
    return figure(data, warning, upper, height=height, xaxis={"anchor": "y2"}, yaxis={"domain": [0.44, 1.0]}, yaxis2=second)


def line(x: Sequence[Any], y: Iterable[float], name: str, color: str, **more: Any) -> Figure:
    """A line."""
    mode = more.pop("mode", "lines")
    style = {"color": color, "width": more.pop("width", 1.6), "dash": more.pop("dash", "solid")}
    return {"type": "scatter", "mode": mode, "x": list(x), "y": rounded(y), "name": name, "line": style, **more}


def bars(x: Sequence[Any], y: Iterable[float], color: Any = BLUE, error: Iterable[float] | None = None, **more: Any) -> Figure:
    """Bars, with error bars where given."""
    bound = {} if error is None else {"error_y": {"type": "data", "array": rounded(error), "color": INK, "thickness": 1.2}}
    return {"type": "bar", "x": list(x), "y": rounded(y), "marker": {"color": color}, **bound, **more}


def equity(found: Findings) -> Figure:
    """Growth of 1: the model net, at twice the costs, its rivals, the market."""
    when, warning = dates(found.session), found.judgement.warning
    named = [(f"{r.name}, {'net' if r.performance.net else 'gross'}", r.returns) for r in found.rivals]
    shown = [line(when, breakdown.wealth(found.net.returns), found.identity.model + ", net", BLUE, width=2.4)]
    for color, (name, returns) in zip(COLORS[1:], named, strict=False):
        shown.append(line(when, breakdown.wealth(returns), name, color, width=1.3))
    same = [rounded(breakdown.wealth(breakdown.at_volatility_of(returns, found.net.returns))) for _, returns in named]
    scaled = {"label": "same volatility", "method": "restyle", "args": [{"y": [shown[0]["y"], *same]}]}
    as_run = {"label": "as run", "method": "restyle", "args": [{"y": [trace["y"] for trace in shown]}]}
    axes = [{"label": kind, "method": "relayout", "args": [{"yaxis.type": kind}]} for kind in ("linear", "log")]
    look = {"type": "buttons", "direction": "right", "xanchor": "left", "yanchor": "top", "y": 0.99, "showactive": True}
    menus = [{**look, "x": 0.01, "buttons": [as_run, scaled]}, {**look, "x": 0.01, "y": 0.89, "buttons": axes}]
    return figure(shown, warning, "growth of 1", height=430, updatemenus=menus)


def drawdown(found: Findings) -> Figure:
    """The model's fall from its last high."""
    fill = {"fill": "tozeroy", "fillcolor": "rgba(178,58,72,0.25)"}
    shown = line(dates(found.session), breakdown.drawdown(found.net.returns), "drawdown, net", RED, **fill)
    return figure([shown], found.judgement.warning, "of the last high", height=230, yaxis={"tickformat": ".0%"}, showlegend=False)


def rolling(found: Findings) -> Figure:
    """Rolling annual Sharpe ratio with two standard errors."""
    seen, when = found.rolling, dates(found.session)
    low = line(when, seen.sharpe - 2.0 * seen.error, "2 standard errors", BLUE, width=0, showlegend=False)
    high = line(
        when, seen.sharpe + 2.0 * seen.error, "± 2 standard errors", BLUE, width=0, fill="tonexty", fillcolor="rgba(34,102,170,0.14)"
    )
    middle = line(when, seen.sharpe, f"Sharpe of {seen.window} sessions, net", BLUE)
    return figure([low, high, middle], found.judgement.warning, "annual Sharpe ratio")


def ic_over_time(found: Findings, window: int = 63) -> Figure:
    """Cumulative rank IC and its mean over a window of rows."""
    defined = np.isfinite(found.ic)
    when, values = dates(found.row_session[defined]), found.ic[defined]
    shown = [line(when, np.cumsum(values), "cumulative", INK, yaxis="y2", width=1.3, showlegend=False)]
    if values.size >= window:
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        shown.append(line(when[window - 1 :], smooth, f"mean of {window} rows", BLUE))
    return two_storeys(shown, found.judgement.warning, "rank IC", "cumulative", 400)


def ic_decay(found: Findings) -> Figure:
    """Mean rank IC by horizon with two standard errors."""
    seen = found.decay
    shown = bars([str(h) for h in seen.horizon], seen.ic, BLUE, 2.0 * seen.error, customdata=rounded(seen.t), name="mean rank IC")
    shown["hovertemplate"] = "%{y:.4f}, HAC t %{customdata:.2f}<extra></extra>"
    return figure([shown], found.judgement.warning, "mean rank IC", "horizon, rows", 300, xaxis={"type": "category"}, showlegend=False)


def age_curve(found: Findings) -> Figure:
    """Mean rank IC by the model's age (T31), with two standard errors."""
    curve = found.walk_forward.age_curve
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(curve.t != 0.0, 2.0 * np.abs(curve.ic / curve.t), np.nan)
    step = int(curve.age[1] - curve.age[0]) if curve.age.size > 1 else 0
    names = [f"{int(a)} to {int(a) + step - 1}" if step else f"from {int(a)}" for a in curve.age]
    shown = bars(names, curve.ic, BLUE, error, name="mean rank IC", customdata=[int(n) for n in curve.count])
    shown["hovertemplate"] = "%{y:.4f} over %{customdata} rows<extra></extra>"
    return figure([shown], found.judgement.warning, "mean rank IC", "rows since the model's test began", 300, showlegend=False)


def quantiles(found: Findings) -> Figure:
    """Mean return relative to the cross-section by quantile of the alpha."""
    seen = found.quantiles
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(seen.t != 0.0, 2.0 * np.abs(seen.mean / seen.t), np.nan) * 1e4
    colors = [GREEN if value > 0 else RED for value in seen.mean]
    shown = bars([f"Q{n + 1}" for n in range(seen.mean.size)], seen.mean * 1e4, colors, error, customdata=rounded(seen.t))
    shown["hovertemplate"] = "%{y:.2f} bps, HAC t %{customdata:.2f}<extra></extra>"
    x = f"quantile of the alpha, lowest first; {seen.rows} rows"
    return figure([shown], found.judgement.warning, f"bps over {found.horizon} rows, gross", x, 300, showlegend=False)


def paper(found: Findings) -> Figure:
    """Paper portfolios of the best and worst quantile beside what the engine made of the same alpha."""
    shown = [line(dates(found.session), breakdown.wealth(found.net.returns), "engine, long or flat, net", BLUE, width=2.2)]
    for color, (name, session, returns, _) in zip(COLORS[1:], found.paper, strict=False):
        shown.append(line(dates(session), breakdown.wealth(returns), f"paper: {name}", color, width=1.4))
    return figure(shown, found.judgement.warning, "growth of 1", height=360)


def exposures(found: Findings) -> Figure:
    """Gross, net, beta per session; gross and net are one line where nothing was ever short."""
    seen, when = found.exposures, dates(found.session)
    short = bool(np.any(seen.short > 0.0))
    weights = [("gross", seen.gross, BLUE), ("net", seen.net, "#5a8f69")] if short else [("gross = net, never short", seen.gross, BLUE)]
    lines = [*weights, ("beta to the market", seen.beta, "#c77d0a")]
    return figure([line(when, v, name, color, width=1.3) for name, v, color in lines], found.judgement.warning, "of equity", height=300)


def sectors(found: Findings) -> Figure | None:
    """Net weight per sector, stacked; None where no sector is known."""
    when = dates(found.session)
    ordered = sorted(found.exposures.sectors.items(), key=lambda item: (-float(np.abs(item[1]).mean()), item[0]))
    colors = [COLORS[n % len(COLORS)] for n in range(len(ordered))]
    shown = [line(when, v, name, c, width=0.5, stackgroup="all") for (name, v), c in zip(ordered, colors, strict=True)]
    return figure(shown, found.judgement.warning, "of equity", height=340, hovermode="closest") if shown else None


def breadth(found: Findings) -> Figure:
    """Names held, effective names, largest weight."""
    seen, when = found.exposures, dates(found.session)
    shown = [
        line(when, seen.names, "names held", BLUE, width=1.3),
        line(when, seen.effective_names, "effective names", "#5a8f69", width=1.3),
        line(when, seen.largest, "largest weight", RED, width=1.0, yaxis="y2"),
    ]
    return two_storeys(shown, found.judgement.warning, "names", "largest", 340, tickformat=".0%", rangemode="tozero")


def turnover(found: Findings, window: int = 21) -> Figure:
    """Traded value over equity, mean of a window."""
    values, when = found.net.turnover, dates(found.session)
    if values.size < window:
        return figure([bars(when, values, MUTED)], found.judgement.warning, "of equity per session", height=260, showlegend=False)
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    shown = line(when[window - 1 :], smooth, f"mean of {window} sessions", BLUE, width=1.3)
    return figure([shown], found.judgement.warning, "of equity per session", height=260, yaxis={"tickformat": ".0%"}, showlegend=False)


def sharpe_bars(names: Sequence[str], values: Iterable[float], errors: Iterable[float], warning: str, colors: Any = BLUE) -> Figure:
    """Annual Sharpe ratios with two standard errors."""
    doubled = [2.0 * error for error in errors]
    shown = bars(names, values, colors, doubled, hovertemplate="%{y:.2f}<extra></extra>")
    return figure([shown], warning, "annual Sharpe ratio, net", height=300, xaxis={"type": "category"}, showlegend=False)


def stress(found: Findings) -> Figure:
    """Sharpe ratio at dearer costs and later execution."""
    colors = [BLUE if name == "as modelled" else "#c77d0a" if "cost" in name else "#7b5ea7" for name, _ in found.stress]
    errors = [breakdown.sharpe_error(p) for _, p in found.stress]
    values = [p.annual_sharpe for _, p in found.stress]
    return sharpe_bars([name for name, _ in found.stress], values, errors, found.judgement.warning, colors)


def regimes(found: Findings) -> Figure | None:
    """Sharpe ratio in each kind of market that was known beforehand; None where there is none."""
    chosen = [regime for regime in found.regimes if regime.family != breakdown.MARKET_THAT_DAY][::-1]
    families = list(dict.fromkeys(regime.family for regime in chosen))
    colors = [COLORS[families.index(regime.family) % len(COLORS)] for regime in chosen]
    errors = rounded([2.0 * math.sqrt(found.net.performance.periods_per_year / regime.sessions) for regime in chosen])
    shown: Figure = {"type": "bar", "orientation": "h", "y": [f"{r.family}: {r.name}" for r in chosen], "marker": {"color": colors}}
    shown |= {"x": rounded([r.annual_sharpe for r in chosen]), "error_x": {"type": "data", "array": errors, "color": INK, "thickness": 1.2}}
    if not chosen:
        return None
    height, x = 110 + 30 * len(chosen), "annual Sharpe ratio, net"
    return figure([shown], found.judgement.warning, "", x, height, showlegend=False, hovermode="closest")


def importance(found: Findings, seen: Attribution) -> Figure:
    """The features that move predictions most: mean |SHAP|, coloured by direction; share of split gain as dots."""
    order = np.argsort(-seen.share, kind="stable")[:TOP_FEATURES][::-1]
    names = [seen.names[i] for i in order]
    marker = {
        "color": rounded(seen.direction[order]),
        "colorscale": [[0.0, RED], [0.5, "#c8ced6"], [1.0, BLUE]],
        "cmin": -1.0,
        "cmax": 1.0,
        "colorbar": {"title": {"text": "more of it:<br>+1 raises,<br>-1 lowers"}, "thickness": 12},
    }
    shap = {"type": "bar", "orientation": "h", "y": names, "x": rounded(seen.share[order]), "marker": marker, "name": "mean |SHAP|"}
    gain: Figure = {
        "type": "scatter",
        "mode": "markers",
        "y": names,
        "x": rounded(found.walk_forward.importance[order]),
        "name": "split gain",
    }
    gain |= {"marker": {"color": INK, "size": 6, "symbol": "diamond"}}
    x, percent = "share of the whole", {"tickformat": ".0%"}
    return figure([shap, gain], found.judgement.warning, "", x, 120 + 20 * len(names), xaxis=percent, hovermode="closest")


def beeswarm(found: Findings, seen: Attribution) -> Figure:
    """Contribution of the top features in single cells, coloured by the feature's rank among them."""
    order = np.argsort(-seen.share, kind="stable")[:BEESWARM_FEATURES][::-1]
    cells = np.unique(np.linspace(0, len(seen.values) - 1, min(BEESWARM_CELLS, len(seen.values))).astype(np.int64))
    x, y, color = [], [], []
    for place, feature in enumerate(order):
        values, moved = seen.values[cells, feature], seen.contributions[cells, feature]
        rank = np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(len(cells) - 1, 1)
        spread = ((np.arange(len(cells)) * 0.6180339887) % 1.0 - 0.5) * 0.7  # an even scatter without a random number
        x += rounded(moved * 1e4)
        y += rounded(place + spread)
        color += rounded(rank)
    marker = {"color": color, "colorscale": [[0.0, BLUE], [1.0, RED]], "size": 4, "opacity": 0.6, "colorbar": {"thickness": 12}}
    marker["colorbar"]["title"] = {"text": "feature:<br>low to high"}  # type: ignore[index]
    shown = {"type": "scatter", "mode": "markers", "x": x, "y": y, "marker": marker, "hoverinfo": "x"}
    ticks = {"tickvals": list(range(len(order))), "ticktext": [seen.names[i] for i in order]}
    label = "contribution to the prediction, bps"
    return figure([shown], found.judgement.warning, "", label, 460, yaxis=ticks, hovermode="closest", showlegend=False)


def gates_of(table: Sequence[Power]) -> list[str]:
    """The columns of a power table beside the true Sharpe ratio."""
    return [field.name for field in fields(table[0]) if field.name != "annual_sharpe"]


def power(found: Findings) -> Figure:
    """Chance to pass each gate against the true Sharpe ratio, at this length and this number of trials."""
    table = found.judgement.power
    x = [row.annual_sharpe for row in table]
    shown = []
    for place, name in enumerate(gates_of(table)):
        color, width = (INK, 2.6) if name == "all" else (COLORS[place % len(COLORS)], 1.4)
        chances = [getattr(row, name) for row in table]
        shown.append(line(x, chances, name.replace("_", " "), color, width=width, mode="lines+markers"))
    axis = {"tickformat": ".0%", "range": [-0.03, 1.03]}
    return figure(shown, found.judgement.warning, "chance to pass", "true annual net Sharpe ratio", 320, yaxis=axis)
