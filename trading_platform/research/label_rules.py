"""Label rules: what a label is, as plain values with a canonical text and a hash. `research.labels` makes labels of them.

Horizons are rows of the panel. Distances of barriers are in units of volatility or of average true range, costs in basis points.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar

from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import InputError

NEUTRAL = {"none": "", "market": "_demeaned", "sector": "_sector"}  # and what it adds to a name
PRIMARIES = ("given", "mean_reversion", "trend_continuation")
_TEXT = re.compile(r"^(\w+)\((.*)\)$")
_WHERE = "research.label_rules"


def _refuse_unless(right: bool, what: str, fix: str) -> None:
    if not right:
        raise InputError(what, _WHERE, fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """What every rule says.

    horizon: rows >= 1 between the entry and the latest exit. delisting_return: fraction >= -1 by which the settlement of a name that left
    the market differs from its last close (T33; Shumway 1997 finds -0.30 for delistings for cause on the NYSE).
    """

    kind: ClassVar[str]
    classes: ClassVar[tuple[float, ...]] = ()  # the values of a label that is a class; none: a number

    horizon: int
    delisting_return: float = 0.0

    def __post_init__(self) -> None:
        _refuse_unless(self.horizon >= 1, f"horizon {self.horizon} is below one row", "give the rows between entry and exit")
        _refuse_unless(self.delisting_return >= -1.0, f"delisting_return {self.delisting_return} is below -1", "a share cannot lose more")

    @property
    def text(self) -> str:
        """Every number of the rule in one line: `forward_return(horizon=5, delisting_return=0.0, neutral=market, volatility_rows=0)`."""
        return f"{self.kind}({', '.join(f'{name}={value}' for name, value in asdict(self).items())})"

    @property
    def hash(self) -> str:
        """64 hex digits over kind and numbers: the identity of the label in a recipe (T25)."""
        return content_hash({"kind": self.kind, **asdict(self)})

    @property
    def name(self) -> str:
        """Short name for people and for a bundle's `target`."""
        return f"{self.kind}_{self.horizon}"

    @property
    def earliest(self) -> int:
        """Rows after the decision in which an outcome can be known: the second at a barrier, one to enter and one to leave."""
        return 2

    @property
    def reads_features(self) -> bool:
        """Whether the rule computes volatilities or signals with the feature algebra."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardReturn(LabelRule):
    """Total return over the horizon.

    neutral: less the mean of the row's members (`market`) or of those in the same sector (`sector`). volatility_rows: where above 0, the
    return is divided by the volatility of that many rows up to the decision times sqrt(horizon), before it is made neutral.
    """

    kind = "forward_return"

    neutral: str = "none"
    volatility_rows: int = 0

    def __post_init__(self) -> None:
        LabelRule.__post_init__(self)
        _refuse_unless(self.neutral in NEUTRAL, f"unknown neutral {self.neutral!r}", f"use one of {', '.join(NEUTRAL)}")
        fix = "use 0 for none, or at least 2 rows"
        _refuse_unless(self.volatility_rows == 0 or self.volatility_rows >= 2, f"volatility_rows {self.volatility_rows}", fix)

    @property
    def name(self) -> str:
        """`forward_return_5`, with what was done to it: `_scaled`, then `_demeaned` or `_sector`."""
        scaled = "_scaled" if self.volatility_rows else ""
        return f"{self.kind}_{self.horizon}{scaled}{NEUTRAL[self.neutral]}"

    @property
    def earliest(self) -> int:
        """The whole horizon."""
        return self.horizon + 1

    @property
    def reads_features(self) -> bool:
        """Only where it is scaled."""
        return self.volatility_rows > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TripleBarrier(LabelRule):
    """Which of three barriers a long position meets first: 1 the upper, -1 the lower, 0 neither within the horizon.

    profit, stop: distances > 0 of the upper and lower barrier from the entry, in volatilities of volatility_rows rows times sqrt(horizon).
    tick: quote currency by which the bar must go through the upper barrier (a resting limit order, T7). Source: Lopez de Prado, AFML 3.4.
    """

    kind = "triple_barrier"
    classes = (-1.0, 0.0, 1.0)

    profit: float = 1.0
    stop: float = 1.0
    volatility_rows: int = 60
    tick: float = 0.01

    def __post_init__(self) -> None:
        LabelRule.__post_init__(self)
        _refuse_unless(self.profit > 0.0 and self.stop > 0.0, f"barriers at {self.profit} and {self.stop}", "give distances above 0")
        _refuse_unless(self.volatility_rows >= 2, f"volatility_rows {self.volatility_rows}", "use at least 2 rows")
        _refuse_unless(self.tick >= 0.0, f"tick {self.tick} is negative", "give the price grid's step")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaLabel(TripleBarrier):
    """Did the side of a primary signal pay: 1 where its return at the first barrier is above cost_bps (both ways together), else 0.

    primary: `mean_reversion` or `trend_continuation`, the entries of those rules with their default numbers, or `given`, a side handed to
    `labels.make`. Only cells where the primary signal speaks have a label. Source: Lopez de Prado, AFML 3.6.
    """

    kind = "meta_label"
    classes = (0.0, 1.0)

    primary: str = "given"
    cost_bps: float = 10.0

    def __post_init__(self) -> None:
        TripleBarrier.__post_init__(self)
        _refuse_unless(self.primary in PRIMARIES, f"unknown primary {self.primary!r}", f"use one of {', '.join(PRIMARIES)}")
        _refuse_unless(self.cost_bps >= 0.0, f"cost_bps {self.cost_bps} is negative", "give what entry and exit cost together")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanReversion(LabelRule):
    """Where the mean-reversion strategy would enter: 1 where the price came back before stop, end of day or horizon, else 0 (MODL-15).

    Entry against a z-score beyond entry_z with an RSI of 14 bars below `rsi` (above 100 - rsi for shorts); exit when |z| < exit_z, or at
    stop_atr average true ranges of 14 bars (STRA-04..06). z: intraday the close's distance from the session's volume-weighted price, in
    root mean squares of `window` bars; for session bars the log close in deviations from the mean of `window` bars.
    """

    kind = "mean_reversion"
    classes = (0.0, 1.0)

    entry_z: float = 2.0
    exit_z: float = 0.5
    rsi: float = 30.0
    stop_atr: float = 1.5
    window: int = 20

    def __post_init__(self) -> None:
        LabelRule.__post_init__(self)
        right = self.entry_z > self.exit_z > 0.0 and self.stop_atr > 0.0 and 0.0 < self.rsi <= 50.0 and self.window >= 2
        _refuse_unless(right, self.text, "entry_z > exit_z > 0, stop_atr > 0, 0 < rsi <= 50, window >= 2")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendContinuation(LabelRule):
    """Where the trend strategy would enter: 1 where the trade, left by its own exits, made more than cost_bps, else 0 (MODL-15).

    Entry with the exponential mean of `fast` bars above that of `slow`, an ADX of 14 bars above `adx`, and a pullback: the bar reaches
    the fast mean and closes beyond the slow one (mirrored for shorts). Exit at a stop trailing by trail_atr average true ranges of 14
    bars, after the opposite cross, or at the horizon (STRA-08..10).
    """

    kind = "trend_continuation"
    classes = (0.0, 1.0)

    fast: int = 20
    slow: int = 50
    adx: float = 20.0
    trail_atr: float = 3.0
    cost_bps: float = 10.0

    def __post_init__(self) -> None:
        LabelRule.__post_init__(self)
        right = 1 <= self.fast < self.slow and 0.0 <= self.adx < 100.0 and self.trail_atr > 0.0 and self.cost_bps >= 0.0
        _refuse_unless(right, self.text, "1 <= fast < slow, 0 <= adx < 100, trail_atr > 0, cost_bps >= 0")


KINDS: dict[str, type[LabelRule]] = {
    rule.kind: rule for rule in (ForwardReturn, TripleBarrier, MetaLabel, MeanReversion, TrendContinuation)
}


def parse(text: str) -> LabelRule:
    """The rule that a canonical text states; names left out take their defaults. InputError for anything else."""
    match = _TEXT.match(text.strip())
    kind = KINDS.get(match.group(1)) if match else None
    if match is None or kind is None:
        raise InputError(f"{text!r} is no label rule", _WHERE, f"write one of {', '.join(KINDS)} like forward_return(horizon=5)")
    stated = [part.partition("=") for part in match.group(2).split(",") if part.strip()]
    types = {field.name: str(field.type) for field in fields(kind)}
    given: dict[str, Any] = {}
    for raw_name, _, raw_value in stated:
        name, value = raw_name.strip(), raw_value.strip()
        _refuse_unless(name in types and name not in given, f"{name!r} in {text!r}", f"{kind.kind} has, once each: {', '.join(types)}")
        try:
            given[name] = {"int": int, "float": float, "str": str}[types[name]](value)
        except ValueError as error:
            raise InputError(f"{name}={value!r} in {text!r}", _WHERE, f"give a number ({types[name]})") from error
    missing = [field.name for field in fields(kind) if field.default is MISSING and field.name not in given]
    _refuse_unless(not missing, f"{text!r} states no {', '.join(missing)}", "state it")
    return kind(**given)
