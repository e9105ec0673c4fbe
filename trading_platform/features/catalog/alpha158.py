"""Alpha158 of Microsoft's Qlib (qlib/contrib/data/loader.py): 158 features of daily bars, with its names and its formulas.

Each line's meaning is Qlib's own expression. Ours equal Qlib's values once 61 bars have been seen; before that Qlib computes over windows
that are not full, and ours are undefined.
"""

from __future__ import annotations

from collections.abc import Callable

from trading_platform.features.catalog.listing import Feature, Listing
from trading_platform.features.expression import (
    Expression,
    abs_,
    adj,
    corr,
    lag,
    log,
    max_,
    maximum,
    mean,
    min_,
    minimum,
    quantile,
    rank,
    resid,
    rsquare,
    slope,
    std,
    sum_,
    where,
)

WINDOWS = (5, 10, 20, 30, 60)
EPSILON = 1e-12  # Qlib's, so that a bar without range or volume divides by something
NOTE = """Daily bars. The 158 features of Qlib's Alpha158 handler; the meaning is Qlib's own expression, on our adjusted fields.

Differences of definition:

- A window that is not full is undefined; Qlib computes over what there is (`min_periods=1`). They agree from the 61st bar on.
- A window with an undefined value (the volume ratio after one without volume) is undefined until it has left; Qlib skips it.
- CORR, CORD and RSQR are undefined where a series does not move at all; Qlib's are where its deviation is below 2e-5.
- Prices and volumes are forward-adjusted (T1), Qlib's are adjusted backwards. Only CORR can tell: it reads `log(volume + 1)`.
- Features that divide by the bar's own volume (VMA, VSTD) are of the order of 1e18 on a bar without volume, as Qlib's are."""


def _first_extreme(x: Expression, n: int, better: Callable[[Expression, Expression], Expression]) -> Expression:
    """Bars since the window's extreme, the oldest of equals: the age in two halves, doubled until they cover n bars.

    `better(a, b)` is 1 where the older a is as extreme as b. Of two blocks the older's extreme counts unless the newer's is stronger, so
    that they may overlap. argmax and argmin count the newest of equals, Qlib's IdxMax and IdxMin the oldest.
    """
    extreme, age, size = x, 0.0 * x, 1
    while size < n:
        shift = min(size, n - size)
        before, keep = lag(extreme, shift), better(lag(extreme, shift), extreme)
        extreme, age = where(keep, before, extreme), where(keep, lag(age, shift) + float(shift), age)
        size += shift
    return age


def _bars() -> dict[str, Feature]:
    open_, high, low, close, vwap = adj("open"), adj("high"), adj("low"), adj("close"), adj("vwap")
    span = high - low + EPSILON
    top, bottom = high - maximum(open_, close), minimum(open_, close) - low
    shift = 2.0 * close - high - low
    return {
        "KMID": Feature((close - open_) / open_, "($close-$open)/$open"),
        "KLEN": Feature((high - low) / open_, "($high-$low)/$open"),
        "KMID2": Feature((close - open_) / span, "($close-$open)/($high-$low+1e-12)"),
        "KUP": Feature(top / open_, "($high-Greater($open, $close))/$open"),
        "KUP2": Feature(top / span, "($high-Greater($open, $close))/($high-$low+1e-12)"),
        "KLOW": Feature(bottom / open_, "(Less($open, $close)-$low)/$open"),
        "KLOW2": Feature(bottom / span, "(Less($open, $close)-$low)/($high-$low+1e-12)"),
        "KSFT": Feature(shift / open_, "(2*$close-$high-$low)/$open"),
        "KSFT2": Feature(shift / span, "(2*$close-$high-$low)/($high-$low+1e-12)"),
        "OPEN0": Feature(open_ / close, "$open/$close"),
        "HIGH0": Feature(high / close, "$high/$close"),
        "LOW0": Feature(low / close, "$low/$close"),
        "VWAP0": Feature(vwap / close, "$vwap/$close"),
    }


def _prices(d: int) -> dict[str, Feature]:
    high, low, close = adj("high"), adj("low"), adj("close")
    top, bottom = max_(high, d), min_(low, d)
    since_top = d - _first_extreme(high, d, lambda a, b: a >= b)
    since_bottom = d - _first_extreme(low, d, lambda a, b: a <= b)
    return {
        f"ROC{d}": Feature(lag(close, d) / close, f"Ref($close, {d})/$close"),
        f"MA{d}": Feature(mean(close, d) / close, f"Mean($close, {d})/$close"),
        f"STD{d}": Feature(std(close, d) / close, f"Std($close, {d})/$close"),
        f"BETA{d}": Feature(slope(close, d) / close, f"Slope($close, {d})/$close"),
        f"RSQR{d}": Feature(rsquare(close, d), f"Rsquare($close, {d})"),
        f"RESI{d}": Feature(resid(close, d) / close, f"Resi($close, {d})/$close"),
        f"MAX{d}": Feature(top / close, f"Max($high, {d})/$close"),
        f"MIN{d}": Feature(bottom / close, f"Min($low, {d})/$close"),
        f"QTLU{d}": Feature(quantile(close, d, 0.8) / close, f"Quantile($close, {d}, 0.8)/$close"),
        f"QTLD{d}": Feature(quantile(close, d, 0.2) / close, f"Quantile($close, {d}, 0.2)/$close"),
        f"RANK{d}": Feature(rank(close, d), f"Rank($close, {d})"),
        f"RSV{d}": Feature((close - bottom) / (top - bottom + EPSILON), f"($close-Min($low, {d}))/(Max($high, {d})-Min($low, {d})+1e-12)"),
        f"IMAX{d}": Feature(since_top / d, f"IdxMax($high, {d})/{d}"),
        f"IMIN{d}": Feature(since_bottom / d, f"IdxMin($low, {d})/{d}"),
        f"IMXD{d}": Feature((since_top - since_bottom) / d, f"(IdxMax($high, {d})-IdxMin($low, {d}))/{d}"),
    }


def _pairs(d: int) -> dict[str, Feature]:
    close, volume = adj("close"), adj("volume")
    before = lag(close)
    up, down = mean(close > before, d), mean(close < before, d)
    turned = log(volume / lag(volume) + 1.0)
    moved = abs_(close / before - 1.0) * volume
    return {
        f"CORR{d}": Feature(corr(close, log(volume + 1.0), d), f"Corr($close, Log($volume+1), {d})"),
        f"CORD{d}": Feature(corr(close / before, turned, d), f"Corr($close/Ref($close,1), Log($volume/Ref($volume, 1)+1), {d})"),
        f"CNTP{d}": Feature(up, f"Mean($close>Ref($close, 1), {d})"),
        f"CNTN{d}": Feature(down, f"Mean($close<Ref($close, 1), {d})"),
        f"CNTD{d}": Feature(up - down, f"Mean($close>Ref($close, 1), {d})-Mean($close<Ref($close, 1), {d})"),
        f"VMA{d}": Feature(mean(volume, d) / (volume + EPSILON), f"Mean($volume, {d})/($volume+1e-12)"),
        f"VSTD{d}": Feature(std(volume, d) / (volume + EPSILON), f"Std($volume, {d})/($volume+1e-12)"),
        f"WVMA{d}": Feature(
            std(moved, d) / (mean(moved, d) + EPSILON),
            f"Std(Abs($close/Ref($close, 1)-1)*$volume, {d})/(Mean(Abs($close/Ref($close, 1)-1)*$volume, {d})+1e-12)",
        ),
        **_gains("SUM", close, "$close", d),
        **_gains("VSUM", volume, "$volume", d),
    }


def _gains(name: str, x: Expression, theirs: str, d: int) -> dict[str, Feature]:
    before, ref = lag(x), f"Ref({theirs}, 1)"
    gain, loss, all_ = sum_(maximum(x - before, 0.0), d), sum_(maximum(before - x, 0.0), d), sum_(abs_(x - before), d) + EPSILON
    up, down = f"Sum(Greater({theirs}-{ref}, 0), {d})", f"Sum(Greater({ref}-{theirs}, 0), {d})"
    whole = f"(Sum(Abs({theirs}-{ref}), {d})+1e-12)"
    return {
        f"{name}P{d}": Feature(gain / all_, f"{up}/{whole}"),
        f"{name}N{d}": Feature(loss / all_, f"{down}/{whole}"),
        f"{name}D{d}": Feature((gain - loss) / all_, f"({up}-{down})/{whole}"),
    }


def listing() -> Listing:
    """The set `alpha158` for daily bars; reads open, high, low, close, vwap, volume and both factors."""
    features = _bars()
    for d in WINDOWS:
        features |= _prices(d) | _pairs(d)
    return Listing("alpha158", "v1.0", NOTE, features)
