from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from panels import DAY, panel_of, random_closes

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.instruments import Instrument, symbol_of
from trading_platform.contracts.profile import Costs, Limits, Profile
from trading_platform.market_data.corporate_actions import CorporateAction
from trading_platform.research import gates, metrics
from trading_platform.research.evaluate import Arena, Evaluation, Sessions, evaluate, net_result
from trading_platform.research.labels import forward_return
from trading_platform.research.models import lightgbm
from trading_platform.research.report import alpha, attribution, breakdown, charts, holdings, plots
from trading_platform.research.report.findings import Findings, Identity, Judgement, collect
from trading_platform.research.report.page import Cell, Chart, Section, Table, render
from trading_platform.research.report.tear_sheet import tear_sheet, verdict
from trading_platform.research.splits import Fold
from trading_platform.research.trials import TrialCount
from trading_platform.research.walk_forward import AgeCurve, WalkForward

ROWS, WIDTH = 420, 24
PROFILE = Profile("test", limits=Limits(max_position=0.2, max_daily_drawdown=0.5, max_consecutive_losses=1000, min_coverage=0.5))


def arena(rows: int = ROWS, splits: tuple[CorporateAction, ...] = (), minutes: int = 0, **fields: np.ndarray) -> Arena:
    close = random_closes(np.random.default_rng(0), rows, WIDTH, 0.01 if not minutes else 0.001)
    factor = np.ones(close.shape)
    timeframe, per_session = ("1Min", minutes) if minutes else ("1Day", 1)
    session = 14_000 + np.arange(rows) // per_session
    for event in splits:
        inside = session >= event.ex_date
        factor[inside, int(event.instrument_id[-3:])] *= event.split_ratio
    raw = close / factor
    bars = {"open": raw, "high": raw * 1.004, "low": raw * 0.996, "volume": 1e7 * factor, "split_factor": factor, "return_factor": factor}
    panel = panel_of(raw, timeframe, rows_per_session=per_session, **bars, **fields)
    opened = panel.session * DAY + (0 if minutes else 9 * 3_600_000_000_000)
    length = minutes * 60_000_000_000 if minutes else 7 * 3_600_000_000_000
    sessions = Sessions(opened, opened + length, opened + DAY)
    instruments = [Instrument(i, symbol_of(i)) for i in panel.instrument_ids]
    flat = np.full(panel.shape, 0.01)
    return Arena(PROFILE, panel, sessions, splits, instruments, flat, flat, 1e6, sector=np.arange(WIDTH) % 3)


def knowing(place: Arena, share: float = 2.0, first: int = 30) -> np.ndarray:
    noise = np.random.default_rng(9).standard_normal(place.panel.shape) * 0.02
    signal = share * np.nan_to_num(forward_return(place.panel, 5).values) + noise
    signal[:first] = np.nan
    return signal


def evaluated(place: Arena, predictions: np.ndarray, first: int = 30) -> tuple[Evaluation, WalkForward]:
    labels = forward_return(place.panel, 5)
    rows = place.panel.shape[0]
    folds = [
        Fold(np.arange(s - 30, s - 10), np.arange(s, min(s + 30, rows)), np.arange(s, min(s + 30, rows))) for s in range(first, rows, 30)
    ]
    fold = np.where(np.arange(rows) >= first, (np.arange(rows) - first) // 30, -1)
    ic = metrics.information_coefficient(predictions, labels.values)
    curve = AgeCurve(np.array([0, 10, 20]), np.array([0.03, 0.02, 0.0]), np.array([2.0, 1.0, np.nan]), np.array([60, 60, 60]))
    walked = WalkForward(predictions, fold, ic, np.zeros(len(folds)), curve, np.array([0.75, 0.25]), ("alpha", "beta"), (), 0)
    return evaluate(place, walked, folds, labels, TrialCount(3, 1, 1 / 400), runs=20), walked


def explained(seed: int = 3) -> attribution.Attribution:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((400, 2)).astype(np.float32)
    model = lightgbm.train(x, 3.0 * x[:, 0] - 0.5 * x[:, 1], ("alpha", "beta"), lightgbm.Parameters(rounds=20), 7)
    return attribution.attribute(("alpha", "beta"), [(model, x[:200]), (model, x[200:])])


def findings(place: Arena, warning: str = "", explain: bool = True, first: int = 30) -> Findings:
    evaluation, walked = evaluated(place, knowing(place, first=first), first)
    judged = gates.evaluate(gates.Technical((), None, None, None), evaluation.evidence)
    trials = {"scope": "us_equity/<test>", "trials": 3, "failed": 1, "variance": 1 / 400}
    judgement = Judgement(judged, trials, gates.power_table(evaluation.net.session.size, 252.0, 3, runs=10), warning)
    identity = Identity("alpha_test", "daily", place.panel.timeframe, "forward_return_5", {"features": "f" * 64})
    sectors = ("energy", "health", "tech")
    return collect(
        identity, judgement, place, evaluation, walked, forward_return(place.panel, 5), sectors, explained() if explain else None
    )


@pytest.fixture(scope="module")
def found() -> Findings:
    rng = np.random.default_rng(4)
    vix = np.repeat(rng.uniform(10.0, 40.0, (ROWS, 1)), WIDTH, axis=1)
    return findings(arena(vix=vix), "SURVIVORSHIP BIASED")


@pytest.fixture(scope="module")
def page(found: Findings) -> bytes:
    return tear_sheet(found)


# What was held


def test_the_fills_add_up_to_the_engines_own_account_through_a_split() -> None:
    splits = tuple(CorporateAction(14_000 + day, f"us:S{s:03d}", ratio) for day, s, ratio in ((100, 2, 3.0), (35, 5, 0.1), (150, 7, 2.0)))
    place = arena(splits=splits)
    signal = knowing(place)
    signal[30:, [2, 5]] += 1.0  # always wanted, so that the splits happen to something held
    net = net_result(place, signal)
    held = holdings.holdings(place, net)
    np.testing.assert_array_equal(held.lots[-1], net.backtest.account.position)
    np.testing.assert_allclose(np.abs(held.weight).sum(axis=1), net.backtest.gross, rtol=1e-12, atol=1e-15)
    assert held.lots[100 - 30, 2] > 2 * held.lots[99 - 30, 2] > 0 and held.lots[34 - 30, 5] > 5 * held.lots[35 - 30, 5] > 0


def test_an_absent_bar_keeps_its_last_price_and_a_split_of_it_changes_no_value() -> None:
    place = arena(splits=(CorporateAction(14_035, "us:S004", 4.0),))
    there = place.panel.present.copy()
    there[34:37, 4] = False
    fields = {name: np.where(there, values, np.nan) for name, values in place.panel.fields.items()}
    holed = replace(place, panel=replace(place.panel, present=there, fields=fields))
    signal = np.where(there, knowing(place), np.nan)
    signal[30:, 4] += 1.0
    net = net_result(holed, signal)
    held = holdings.holdings(holed, net)
    assert held.lots[6, 4] == 4 * held.lots[4, 4] > 0
    np.testing.assert_allclose(np.abs(held.weight).sum(axis=1), net.backtest.gross, rtol=1e-12, atol=1e-15)


def test_exposures_split_by_sector_and_side(found: Findings) -> None:
    seen = found.exposures
    np.testing.assert_allclose(sum(seen.sectors.values()), seen.net)
    np.testing.assert_allclose(seen.gross, found.net.exposure, rtol=1e-12, atol=1e-15)
    assert set(seen.sectors) == {"energy", "health", "tech"} and not seen.short.any()
    assert (seen.effective_names <= seen.names + 1e-9).all() and seen.largest.max() <= 0.21


def test_beta_by_a_slow_loop_and_without_the_future() -> None:
    rng = np.random.default_rng(1)
    market = rng.standard_normal(200) * 0.01
    change = market[:, np.newaxis] * np.array([0.5, 1.5]) + rng.standard_normal((200, 2)) * 0.002
    change[50:60, 1] = np.nan
    seen = holdings.rolling_beta(change, market, 40)
    for t, s in ((39, 0), (100, 1), (75, 1), (199, 0)):
        window = slice(t - 39, t + 1)
        there = np.isfinite(change[window, s])
        wanted = np.polyfit(market[window][there], change[window, s][there], 1)[0]
        assert seen[t, s] == pytest.approx(wanted, rel=1e-9)
    assert np.isnan(seen[:19]).all()
    np.testing.assert_array_equal(holdings.rolling_beta(change[:120], market[:120], 40), seen[:120])


def test_capacity_is_one_percent_of_the_volume_before_the_fill() -> None:
    place = arena()
    net = net_result(place, knowing(place))
    fills = net.backtest.fills
    value = fills["lots"] * fills["ticks"] / 100.0
    bounds = []
    for fill, worth in zip(fills, value, strict=True):
        row = fill["row"] + net.first
        traded = place.panel.fields["close"][row - 20 : row, fill["column"]] * place.panel.fields["volume"][row - 20 : row, fill["column"]]
        bounds.append(0.01 * traded.mean() * net.backtest.equity[fill["row"]] / worth)
    assert holdings.capacity(place, net) == pytest.approx(np.quantile(bounds, 0.05), rel=1e-9)


# The return series taken apart


def test_months_compound_to_the_year_and_partial_months_count() -> None:
    first = np.datetime64("2013-11-28", "D").astype(np.int64)
    session = first + np.array([0, 1, 4, 36, 40])
    seen = breakdown.monthly(session, np.array([0.1, -0.05, 0.02, 0.01, 0.03]))
    assert seen.years.tolist() == [2013, 2014]
    assert seen.months[0, 10] == pytest.approx(1.1 * 0.95 - 1) and seen.months[0, 11] == pytest.approx(0.02)
    assert seen.months[1, 0] == pytest.approx(1.01 * 1.03 - 1) and np.isnan(seen.months[1, 1]) and np.isnan(seen.months[0, 0])
    np.testing.assert_allclose(seen.total, [1.1 * 0.95 * 1.02 - 1, 1.01 * 1.03 - 1])


def test_falls_have_a_high_a_bottom_and_a_recovery() -> None:
    returns = np.array([0.1, -0.1, -0.1, 0.3, 0.0, -0.02, 0.01])
    first, second = breakdown.falls(np.arange(7), returns)
    assert (first.depth, first.high, first.bottom, first.recovered, first.sessions) == (pytest.approx(0.19), 0, 2, 3, 3)
    assert (second.depth, second.high, second.recovered, second.sessions) == (pytest.approx(0.02), 4, None, 2)
    assert first.depth == pytest.approx(metrics.max_drawdown(returns))
    np.testing.assert_allclose(breakdown.drawdown(returns).min(), -metrics.max_drawdown(returns))


def test_the_rolling_sharpe_is_the_sharpe_of_its_window() -> None:
    returns = np.random.default_rng(5).standard_normal(300) * 0.01
    seen = breakdown.rolling_sharpe(returns, 252.0, 100)
    assert np.isnan(seen.sharpe[:99]).all()
    assert seen.sharpe[99] == pytest.approx(metrics.annual_sharpe(returns[:100], 252.0))
    assert seen.sharpe[299] == pytest.approx(metrics.annual_sharpe(returns[200:], 252.0))
    assert seen.error[99] == pytest.approx(math.sqrt((1 + 0.5 * metrics.sharpe(returns[:100]) ** 2) / 99 * 252))


def test_no_regime_but_that_days_market_knows_its_own_session() -> None:
    rng = np.random.default_rng(6)
    market, vix = rng.standard_normal(400) * 0.01, rng.uniform(10, 40, 400)
    before = breakdown.states(market, vix)
    windows = [market[t - 63 : t] for t in range(63, 400)]
    grown, spread = np.array([np.prod(1.0 + w) > 1.0 for w in windows]), np.array([w.std(ddof=1) for w in windows])
    np.testing.assert_array_equal(before["market over 63 sessions before"]["up"][63:], grown)
    volatility = before["market volatility over 63 sessions before"]
    np.testing.assert_array_equal(volatility["stormy"][63:], spread > np.quantile(spread, 2 / 3))
    trend = before["market over 63 sessions before"]
    assert not any(mask[:63].any() for mask in (*trend.values(), *volatility.values()))
    parts = breakdown.regimes(market, market, before, 252.0)
    assert sum(p.sessions for p in parts if p.family == breakdown.MARKET_THAT_DAY) == 400
    assert {p.name for p in parts if p.family.startswith("VIX")} == {"low", "middle", "high"}
    up = next(p for p in parts if p.name == "up")
    assert up.annual_return == pytest.approx(market[market > 0].mean() * 252)


def test_the_vix_of_a_session_is_the_one_known_before_it() -> None:
    vix = np.repeat(np.arange(float(ROWS))[:, np.newaxis], WIDTH, axis=1)
    place = arena(vix=vix)
    from trading_platform.research.report.findings import _vix_before

    seen = _vix_before(place, net_result(place, knowing(place)))
    assert seen is not None and seen[0] == 29.0 and seen[-1] == ROWS - 2.0


# What the alpha knows


def test_quantiles_are_even_and_ordered() -> None:
    values = np.array([[3.0, 1.0, 2.0, np.nan, 5.0, 4.0, 6.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, np.nan]])
    assert alpha.quantile_of(values, 3).tolist() == [[1, 0, 0, -1, 2, 1, 2], [0, 0, 1, 1, 2, 2, -1]]


def test_quantile_returns_by_a_slow_loop() -> None:
    rng = np.random.default_rng(7)
    signal, outcome = rng.standard_normal((60, 15)), rng.standard_normal((60, 15)) * 0.01
    outcome[5, 3], signal[9, :10] = np.nan, np.nan
    seen = alpha.quantile_returns(signal, outcome, 5)
    rows = []
    for x, y in zip(signal, outcome, strict=True):
        there = np.isfinite(x) & np.isfinite(y)
        if there.sum() >= 9:
            relative = (y - y[there].mean())[there][np.argsort(x[there])]
            place = np.arange(there.sum()) * 3 // there.sum()
            rows.append([relative[place == q].mean() for q in range(3)])
    np.testing.assert_allclose(seen.mean, np.mean(rows, axis=0))
    assert seen.rows == 59 and seen.spread == pytest.approx(seen.mean[2] - seen.mean[0]) and np.isnan(seen.by_row[9])
    assert seen.spread_t == pytest.approx(metrics.hac_t(np.array(rows)[:, 2] - np.array(rows)[:, 0], 5))


def test_a_signal_of_one_day_decays() -> None:
    place = arena()
    perfect = forward_return(place.panel, 1).values
    seen = alpha.ic_decay(place.panel, perfect)
    assert seen.horizon.tolist() == [1, 2, 3, 5, 10, 21] and seen.ic[0] == pytest.approx(1.0)
    assert (np.diff(seen.ic) < 0.0).all() and seen.rows.tolist() == [ROWS - h - 1 for h in seen.horizon]
    short = place.panel.rows(0, 8)
    assert alpha.ic_decay(short, perfect[:8]).horizon.tolist() == [1, 2, 3, 5]


def test_paper_portfolios_by_a_slow_loop() -> None:
    place = arena(80)
    signal, costs = knowing(place)[:80], Costs(half_spread_bps=3.0)
    seen = alpha.paper_portfolios(place.panel, signal, 5, costs, 252.0)
    change, third = forward_return(place.panel, 1).values, WIDTH // 3
    tranches = []
    for t in range(78):
        order = np.argsort(signal[t], kind="stable")
        legs = np.zeros((2, WIDTH))
        if t >= 30:
            legs[0, order[-third:]], legs[1, order[:third]] = 1 / third, 1 / third
        tranches.append(legs)
    wanted, before = [], np.zeros((2, WIDTH))
    for t in range(30, 78):
        weight = sum(tranches[max(t - 4, 0) : t + 1]) / 5
        traded = np.abs(weight - before).sum(axis=1)
        earned = weight @ change[t]
        wanted.append(earned[0] - earned[1] - traded.sum() * 3e-4 - 0.005 / 252)
        before = weight
    np.testing.assert_allclose(seen.long_short, wanted, rtol=1e-9, atol=1e-12)
    assert seen.session.tolist() == place.panel.session[32:80].tolist()  # never dated before the price it was sold at


# What moved it


def test_contributions_add_up_and_say_the_direction() -> None:
    seen = explained()
    assert seen.share.sum() == pytest.approx(1.0) and seen.share[0] > 0.7
    assert seen.direction[0] > 0.9 and seen.direction[1] < -0.3 and seen.contributions.shape == (400, 2)


def test_contributions_that_do_not_add_up_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    true = lightgbm.predict
    monkeypatch.setattr(lightgbm, "predict", lambda model, cells: true(model, cells) * 1.001)
    with pytest.raises(InputError, match="contributions miss their prediction"):
        explained()


def test_sampled_cells_are_usable_and_spread_over_the_rows() -> None:
    usable = np.zeros((50, 6), bool)
    usable[10:40, 2:] = True
    row, column = attribution.sampled(np.arange(20, 50), usable, 10)
    assert usable[row, column].all() and row.min() == 20 and row.max() == 39 and row.size == 10
    assert attribution.sampled(np.arange(5), usable, 10)[0].size == 0


# The page


def figures(page: bytes) -> list[dict]:
    return [json.loads(text) for text in re.findall(r'<script type="application/json" id="data-\d+">(.*?)</script>', page.decode())]


def test_the_page_needs_no_network_and_carries_plotly_once(page: bytes) -> None:
    text = page.decode()
    own = text.split("<script>", 1)[0]  # everything before plotly's own script
    assert not re.search(r'(src|href)="(?!#)', own) and "url(" not in own and "@import" not in own
    assert text.count("plotly.js v") == 1 and len(page) < 8_000_000


def test_the_warning_stands_across_every_chart_and_on_top(page: bytes, found: Findings) -> None:
    drawn = figures(page)
    assert len(drawn) >= 16
    assert all(any(note["text"] == "SURVIVORSHIP BIASED" for note in figure["layout"]["annotations"]) for figure in drawn)
    assert '<div class="banner">SURVIVORSHIP BIASED</div>' in page.decode()
    clean = replace(found, judgement=replace(found.judgement, warning=""))
    assert not any(figure["layout"]["annotations"] for figure in figures(tear_sheet(clean)))
    assert '<div class="banner">' not in tear_sheet(clean).decode()


def test_every_number_says_n_basis_and_what_it_is(found: Findings) -> None:
    assert all(number.n > 0 and number.note and number.basis in ("net", "gross", "") for number in found.numbers)
    told = {number.name: number for number in found.numbers}
    assert told["annual Sharpe ratio"].value == found.net.performance.annual_sharpe and told["annual Sharpe ratio"].basis == "net"
    assert told["cost drag"].value > 0.0 and told["mean rank IC"].basis == "gross"


def test_the_ladder_of_costs_falls_and_the_gross_one_says_so(found: Findings) -> None:
    names = [name for name, _ in found.stress]
    assert names == ["no costs, gross", "as modelled", "2 x costs", "3 x costs", "1 row late", "2 rows late"]
    returns = [performance.annual_return for _, performance in found.stress[:4]]
    assert returns == sorted(returns, reverse=True) and returns[0] > returns[3]
    assert [performance.net for _, performance in found.stress] == [False, True, True, True, True, True]


def test_the_verdict_names_what_did_not_pass(found: Findings) -> None:
    told = verdict(found)
    open_ = [gate.name.replace("_", " ") for gate in found.judgement.gates if gate.passed is not True]
    assert open_ and all(name in told for name in open_) and "SURVIVORSHIP BIASED" in told
    assert f"standard error of {breakdown.sharpe_error(found.net.performance):.2f}" in told
    passed = [replace(gate, passed=True) for gate in found.judgement.gates]
    assert "Every gate passed" in verdict(replace(found, judgement=replace(found.judgement, gates=passed)))


def test_text_from_outside_cannot_become_markup(page: bytes) -> None:
    assert "us_equity/&lt;test&gt;" in page.decode()
    figure = charts.figure([charts.line([1], [1.0], "</script><b>", "red")], "", "y")
    parts = (Table(("<u>",), [[Cell("<s>", '"x')]]), Chart(figure, "<q>"))
    shown = render("<i>", "", "", "<u>", [], [Section("<b>", "&", parts)], "").decode()
    before = shown.split("<script>", 1)[0]
    assert not re.search(r"<(i|u|s|q|b)>", before) and before.count("</script>") == 1 and figures(shown.encode()) == [figure]


def test_undefined_numbers_are_dashes_and_gaps() -> None:
    assert charts.rounded([1.23456789, math.nan, math.inf, -0.0]) == [1.23457, None, None, -0.0]


def test_a_report_without_trees_has_no_attribution_and_one_of_minutes_is_possible() -> None:
    place = arena(rows=420, minutes=105)
    seen = findings(place, "NO POWER", explain=False)
    assert seen.session.size == 4 and "What moves it" not in tear_sheet(seen).decode()
    assert seen.exposures.gross.size == 4 and len(figures(tear_sheet(seen))) >= 12


def test_two_processes_make_the_same_bytes(tmp_path: Path, page: bytes) -> None:
    code = (
        "import hashlib, sys; sys.path[:0] = sys.argv[1:]\n"
        "import numpy as np, test_report as t\n"
        "vix = np.repeat(np.random.default_rng(4).uniform(10.0, 40.0, (t.ROWS, 1)), t.WIDTH, axis=1)\n"
        "print(hashlib.sha256(t.tear_sheet(t.findings(t.arena(vix=vix), 'SURVIVORSHIP BIASED'))).hexdigest())"
    )
    here = Path(__file__)
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-W", "ignore", "-c", code, str(here.parent), str(here.parent.parent.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    assert done.stdout.strip() == hashlib.sha256(page).hexdigest()


CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no browser here: apt-get install chromium")
def test_a_browser_draws_every_chart(tmp_path: Path, page: bytes) -> None:
    zoom = """<script>const waiting = setInterval(async () => {
      if (!document.documentElement.classList.contains("complete")) return;
      clearInterval(waiting);
      const [first, second] = document.querySelectorAll(".chart.shared.drawn");
      await Plotly.relayout(first, { "xaxis.range": ["2008-08-01", "2008-10-01"] });
      document.title = "zoomed " + second.layout.xaxis.range.map((end) => String(end).slice(0, 10)).join(" ");
    }, 50);</script></body>"""
    (tmp_path / "page.html").write_bytes(page.replace(b"</body>", zoom.encode()))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--window-size=1280,16000", "--virtual-time-budget=20000", "--dump-dom", (tmp_path / "page.html").as_uri()]
    seen = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    charts_there = len(figures(page))
    assert (
        seen.count('class="main-svg"') >= charts_there
        and len(re.findall(r'class="chart[^"]*js-plotly-plot[^"]*drawn', seen)) == charts_there
    )
    assert "<title>zoomed 2008-08-01 2008-10-01</title>" in seen  # the second chart over time followed the first


# The plots


def test_plots_are_small_pngs(found: Findings) -> None:
    when = found.session * DAY
    seen = found.attribution
    assert seen is not None
    drawn = [
        plots.equity_curve(when, {"model": found.net.returns, "null": -found.net.returns}, "Equity", "SURVIVORSHIP BIASED"),
        plots.monthly_returns(found.months, "Months"),
        plots.ic_over_time(found.row_session * DAY, found.ic, "IC"),
        plots.ic_decay(found.decay, "Decay"),
        plots.quantile_returns(found.quantiles, "Quantiles"),
        plots.age_curve(found.walk_forward.age_curve, "Age"),
        plots.exposures(when, found.exposures, "Exposure"),
        plots.sharpe_bars(["a", "b"], np.array([1.0, -1.0]), np.array([0.5, np.nan]), "Stress"),
        plots.feature_importance([f"f{i}" for i in range(40)], np.linspace(0, 1, 40), "Importance"),
        plots.shap_importance(seen, "SHAP", "SURVIVORSHIP BIASED"),
    ]
    for plot in drawn:
        assert plot[:8] == b"\x89PNG\r\n\x1a\n" and 2_000 < len(plot) < 60_000
