"""The report a person reads: which findings stand in which order, in which words. `tear_sheet` makes the HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from trading_platform.research import metrics
from trading_platform.research.report import breakdown, charts
from trading_platform.research.report.findings import Findings
from trading_platform.research.report.page import Card, Cell, Chart, Section, Table, render

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FORMATS = {"percent": "{:.2%}", "ratio": "{:.2f}", "small": "{:.4f}", "bps": "{:.2f} bps", "count": "{:,.0f}"}
HEADLINES = ("annual return", "annual volatility", "annual Sharpe ratio", "largest drawdown", "mean rank IC", "daily turnover", "capacity")
Rows = Sequence[tuple[str, metrics.Performance]]
NOTHING = "–"  # a dash, where a number is undefined


def shown(value: float, unit: str) -> str:
    """A number as people write it in its unit."""
    if not math.isfinite(value):
        return NOTHING
    return _money(value) if unit == "money" else FORMATS[unit].format(value)


def _money(value: float) -> str:
    for size, letter in ((1e9, " bn"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"${value / size:.1f}{letter}"
    return f"${value:.0f}"


def day(session: int) -> str:
    """ISO date of a session day."""
    return str(np.datetime64(session, "D"))


def _shade(value: float, full: float) -> str:
    """Green above zero, red below, deeper with size."""
    if not math.isfinite(value) or value == 0.0:
        return ""
    depth = min(abs(value) / full, 1.0) * 0.55
    return f"rgba(47,133,90,{depth:.2f})" if value > 0.0 else f"rgba(178,58,72,{depth:.2f})"


def _months(found: Findings) -> Table:
    rows = []
    table = zip(found.months.years, found.months.months, found.months.total, found.market_years, strict=True)
    for year, months, total, market in table:
        cells: list[str | Cell] = [str(int(year))]
        cells += [Cell(f"{value:.1%}" if math.isfinite(value) else "", _shade(value, 0.06)) for value in months]
        rows.append([*cells, Cell(f"{total:.1%}", _shade(total, 0.25)), f"{market:.1%}"])
    note = "Compounded net return per calendar month and year; the first and last may be partial. The market is gross."
    return Table(("net", *MONTHS, "year", "market"), rows, note)


def _performance_table(rows: Rows, extra: Sequence[Sequence[str]] = (), head: Sequence[str] = ()) -> Table:
    body = []
    for number, (name, p) in enumerate(rows):
        cells = [name, "net" if p.net else "gross", shown(p.annual_return, "percent"), shown(p.annual_volatility, "percent")]
        cells += [f"{shown(p.annual_sharpe, 'ratio')} ± {shown(breakdown.sharpe_error(p), 'ratio')}", shown(p.mean_t_hac, "ratio")]
        cells += [shown(p.max_drawdown, "percent"), shown(p.mean_turnover, "percent"), str(p.n_obs)]
        body.append([*cells, *(extra[number] if extra else ())])
    columns = ("", "basis", "annual return", "annual volatility", "annual Sharpe ± s.e.", "HAC t", "drawdown", "turnover", "n", *head)
    return Table(columns, body, "Per session, 252 a year; drawdown as run, not at a fixed volatility.")


def _cards(found: Findings) -> list[Card]:
    by_name = {number.name: number for number in found.numbers}
    gates = {gate.name: gate for gate in found.judgement.gates}
    cards = []
    for name in HEADLINES:
        number = by_name[name]
        tone = "bad" if name in ("annual return", "annual Sharpe ratio", "mean rank IC") and number.value < 0.0 else ""
        small = f"{number.basis} · " if number.basis else ""
        cards.append(Card(name, shown(number.value, number.unit), f"{small}n = {number.n} · {number.note}", tone))
    if "dsr" in gates and gates["dsr"].value is not None:
        gate, n = gates["dsr"], found.judgement.trials.get("trials", 0)
        tone = "good" if gate.passed else "bad"
        cards.append(
            Card("deflated Sharpe (DSR)", f"{gate.value:.3f}", f"gate {gate.threshold} · {n} trial{'s' * (n != 1)} in scope", tone)
        )
    passed, judged = sum(g.passed is True for g in gates.values()), len(gates)
    cards.append(Card("gates passed", f"{passed} of {judged}", "not judged counts as not passed", "good" if passed == judged else "bad"))
    return cards


def _headline(found: Findings) -> Section:
    rows = [[n.name, shown(n.value, n.unit), n.basis, str(n.n), n.note] for n in found.numbers]
    table = Table(
        ("number", "value", "basis", "n", "what it is"), rows, "n: observations behind the number; 252 sessions a year.", numeric=False
    )
    text = "Out of sample: every prediction is that of the newest model trained before its day. Net of modelled spread, impact and fees."
    return Section("Numbers", text, (table,))


def _equity(found: Findings) -> Section:
    rows = [(f"{found.identity.model}", found.net.performance), *((rival.name, rival.performance) for rival in found.rivals)]
    extra = [
        ("", "", ""),
        *((shown(r.correlation, "ratio"), shown(r.annual_intercept, "percent"), shown(r.intercept_t, "ratio")) for r in found.rivals),
    ]
    table = _performance_table(rows, extra, ("correlation", "model beyond it, a year", "its t"))
    depths = [
        [shown(f.depth, "percent"), day(f.high), day(f.bottom), day(f.recovered) if f.recovered is not None else "not yet", str(f.sessions)]
        for f in found.falls
    ]
    parts = (
        Chart(charts.equity(found), "Growth of 1. Drag to zoom: all charts over time follow; double click to see all.", shared=True),
        Chart(charts.drawdown(found), "Fall from the last high of compounded net wealth.", shared=True),
        table,
        _nulls(found),
        _months(found),
        Table(("deepest falls", "high", "bottom", "recovered", "sessions"), depths),
        Chart(charts.rolling(found), "One year is short: the band is two standard errors wide on each side.", shared=True),
    )
    text = "The model beside what it must beat, in the same arena: same profile, same limits, same fills. The market is gross and untraded."
    return Section("Equity and nulls", text, parts)


def _nulls(found: Findings) -> Table:
    """Mean rank ICs of the model and of signals that know nothing, on the same rows (T29)."""
    seen = found.nulls
    rows = [["model", NOTHING if seen is None else shown(seen.model_ic, "small"), "1", ""]]
    if seen is not None:
        rows.append(["random signals of the model's turnover", shown(seen.random_95, "small"), str(seen.random_runs), "95th percentile"])
        shuffled = "not run" if seen.shuffled_95 is None else shown(seen.shuffled_95, "small")
        rows.append(["refits on shuffled labels", shuffled, str(seen.shuffled_runs), "95th percentile, 100 runs needed"])
        rows.append(["momentum 12-1", shown(seen.momentum_ic, "small"), "1", ""])
    return Table(("mean rank IC, gross", "value", "runs", "which"), rows, "A model that does not beat all of them has shown nothing.")


def _signal(found: Findings) -> Section:
    decay = found.decay
    table = zip(decay.horizon, decay.ic, decay.t, decay.rows, strict=True)
    rows = [[str(h), shown(ic, "small"), shown(t, "ratio"), str(n)] for h, ic, t, n in table]
    parts = (
        Chart(charts.ic_over_time(found), "Rank correlation of alpha and outcome across the members, per row, gross.", shared=True),
        Chart(
            charts.ic_decay(found), f"Trained for {found.horizon} rows. Bars are two HAC standard errors; outcomes enter at the next bar."
        ),
        Table(("horizon, rows", "mean rank IC", "HAC t", "rows"), rows),
        Chart(charts.age_curve(found), "Rank IC against the model's age: where it falls, the model must be refitted (T31)."),
        Chart(charts.quantiles(found), "Mean return less the cross-section's mean, per quantile of the alpha; two HAC standard errors."),
    )
    spread = found.quantiles
    text = (
        f"Before any order: what the alpha knows. Best less worst quantile {spread.spread * 1e4:.1f} bps over {found.horizon} rows, gross, "
        f"HAC t {spread.spread_t:.2f}; quantile and outcome rank-correlate by {spread.monotone:.2f}."
    )
    return Section("Alpha", text, parts)


def _book(found: Findings) -> Section:
    rows = [("engine, long or flat", found.net.performance), *((f"paper: {name}", p) for name, _, _, p in found.paper)]
    sectors = charts.sectors(found)
    parts: list[Table | Chart] = [
        Chart(
            charts.paper(found), "Paper portfolios pay half the spread and, short, 50 bps a year; no limit, stop or impact.", shared=True
        ),
        _performance_table(rows),
        Chart(
            charts.exposures(found), "Fractions of equity at each session's end; beta over 126 sessions to the equal-weighted market.", True
        ),
    ]
    if sectors is not None:
        parts.append(Chart(sectors, "Net weight per sector.", shared=True))
    parts += [
        Chart(charts.breadth(found), "Effective names: 1 / sum of squared shares of gross.", shared=True),
        Chart(charts.turnover(found), "Both sides, as a share of equity.", shared=True),
    ]
    text = (
        "There is no historical borrow data, so long-only stands beside long/short and only the first may count (T11). "
        f"Capacity at 1 % of average daily dollar volume: {shown(found.capacity, 'money')}."
    )
    return Section("Book, exposure, capacity", text, parts)


def _robust(found: Findings) -> Section:
    rows = [
        [
            f"{r.family}: {r.name}",
            str(r.sessions),
            *(shown(value, "percent") for value in (r.annual_return, r.annual_volatility)),
            *(shown(value, "ratio") for value in (r.annual_sharpe, r.t)),
            shown(r.market_annual_return, "percent"),
        ]
        for r in found.regimes
    ]
    head = ("regime", "n", "annual return, net", "volatility", "Sharpe", "HAC t", "market, gross")
    parts: list[Table | Chart] = [Chart(charts.stress(found), "Two standard errors."), _performance_table(found.stress)]
    if rows:
        note = "Terciles are those of the whole span: a description, not a rule. `market that day` is known only afterwards."
        drawn = charts.regimes(found)
        parts += [Chart(drawn, "Two standard errors of n sessions."), Table(head, rows, note)] if drawn else [Table(head, rows, note)]
    return Section("Stress and regimes", "Dearer, later, and in other markets.", parts)


def _model(found: Findings) -> Section | None:
    seen = found.attribution
    if seen is None:
        return None
    order = np.argsort(-seen.share, kind="stable")[: charts.TOP_FEATURES]
    rows = [
        [
            seen.names[i],
            shown(float(seen.mean_absolute[i]) * 1e4, "bps"),
            *(shown(float(values[i]), "percent") for values in (seen.share, found.walk_forward.importance)),
            shown(float(seen.direction[i]), "ratio"),
        ]
        for i in order
    ]
    parts = (
        Chart(
            charts.importance(found, seen), f"Exact TreeSHAP over {len(seen.values):,} out-of-sample cells; diamonds: share of split gain."
        ),
        Chart(charts.beeswarm(found, seen), "Each dot is one cell: how far this feature moved its prediction."),
        Table(("feature", "mean |SHAP|", "share", "share of gain", "direction"), rows),
    )
    return Section(
        "What moves it", "Contributions add up to each prediction; they say what the model uses, not what causes returns.", parts
    )


def _gates(found: Findings) -> Section:
    judged = found.judgement
    colors = {True: "rgba(47,133,90,0.18)", False: "rgba(178,58,72,0.18)", None: ""}
    rows: list[list[str | Cell]] = [
        [g.name, g.kind, Cell(g.verdict, colors[g.passed]), _gate_number(g.value), _gate_number(g.threshold), g.text] for g in judged.gates
    ]
    gates = Table(("gate", "kind", "verdict", "value", "threshold", "in words"), rows, numeric=False)
    scope = Table(("trial registry", "value"), [[name, _fact(value)] for name, value in judged.trials.items()], numeric=False)
    parts: list[Table | Chart] = [gates, scope]
    if judged.power:
        names = charts.gates_of(judged.power)
        percents = [[f"{row.annual_sharpe:g}", *(f"{getattr(row, name):.0%}" for name in names)] for row in judged.power]
        n = found.net.performance.n_obs
        head = ("true annual net Sharpe", *(name.replace("_", " ") for name in names))
        parts += [
            Chart(charts.power(found), f"Simulated: one strategy of this true Sharpe, the best of the trials in scope, {n} sessions."),
            Table(head, percents, "A gate that a good strategy rarely passes says little when it is not passed."),
        ]
    return Section(
        "Gates, trials and their power", "What was asked, what was answered, and how often these gates would see a real skill.", parts
    )


def _gate_number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"


def _fact(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def verdict(found: Findings) -> str:
    """What the report comes to in plain words: the result with its error, the gates that did not pass, what the gates could have seen."""
    p, judged = found.net.performance, found.judgement
    said = [
        f"Net annual Sharpe ratio {shown(p.annual_sharpe, 'ratio')} with a standard error of {shown(breakdown.sharpe_error(p), 'ratio')}"
    ]
    said[0] += f" over {p.n_obs} sessions."
    open_ = [f"{gate.name.replace('_', ' ')} ({gate.verdict})" for gate in judged.gates if gate.passed is not True]
    said.append(f"Not passed: {', '.join(open_)}." if open_ else "Every gate passed.")
    better = [rival.name for rival in found.rivals if not rival.intercept_t >= 2.0]
    if better:
        said.append(f"Beyond the returns of {', '.join(better)} the model has shown nothing: each intercept's t is below 2.")
    for row in judged.power:
        if row.annual_sharpe == 1.0:
            said.append(f"A strategy with a true Sharpe ratio of 1 would pass the simulated gates in {row.all:.0%} of such spans.")
    if judged.warning:
        said.append(f"{judged.warning}.")
    return " ".join(said)


def tear_sheet(found: Findings) -> bytes:
    """The report as one HTML page; the same findings give the same bytes."""
    identity, span = found.identity, (day(int(found.session[0])), day(int(found.session[-1])))
    sections = [_equity(found), _headline(found), _signal(found), _book(found), _robust(found), _model(found), _gates(found)]
    made_of = Table(("made of", ""), [[name, value] for name, value in identity.hashes.items()], numeric=False)
    sections.append(Section("Made of", "Hashes of what this report was computed from; the same hashes give the same page.", (made_of,)))
    title = f"{identity.model}: walk-forward report"
    sessions = found.net.performance.n_obs
    of = f"{identity.pipeline} pipeline, {identity.timeframe} bars, label {identity.label}"
    subtitle = f"{of}; {sessions} sessions out of sample, {span[0]} to {span[1]}"
    return render(
        title,
        subtitle,
        found.judgement.warning,
        verdict(found),
        _cards(found),
        [s for s in sections if s is not None],
        "Not investment advice.",
    )
