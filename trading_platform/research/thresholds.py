"""Where each gate closes: one frozen value with one hash. The defaults stand in docs/gates.md; any other value needs a ledger entry.

A judgement names the hash of the thresholds it used (`gates.evaluate`), so a threshold moved after the result was seen shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace

from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.ledger import LedgerEntry

ACTION = "thresholds"  # LedgerEntry.action of a change, and the name of the hash it is bound to


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Defaults: SPEC's seed gates where they mean something, quant.md section 3 where they do not; `seed_*` are the seed's own, as given.

    Fractions, annual Sharpe ratios, counts; `delayed_share` of the undelayed Sharpe ratio; `capacity_share` of the capital to be run.
    """

    parity_rows: int = 10_000
    parity_max_abs: float = 1e-6
    parity_spearman: float = 0.9999
    parity_sign_flips: float = 1e-3
    parity_top_overlap: float = 0.99
    golden_max_abs: float = 0.0
    latency_p99_ms: float = 100.0
    min_observations: int = 252
    dsr: float = 0.95
    annual_sharpe: float = 1.0
    suspicious_sharpe: float = 3.0
    suspicious_confidence: float = 0.95
    expectancy_t: float = 2.0
    fixed_volatility: float = 0.06
    max_drawdown: float = 0.10
    effective_bets: float = 100.0
    delayed_share: float = 0.5
    pbo: float = 0.2
    pbo_configurations: int = 30
    pbo_blocks: int = 16
    capacity_share: float = 1.0
    null_runs: int = 100
    null_intercept_t: float = 2.0
    survivor_years: float = 2.0
    seed_max_drawdown: float = 0.10
    seed_trades: int = 100
    seed_win_rate: float = 0.45
    seed_accuracy: float = 0.55

    @property
    def hash(self) -> str:
        """sha256 of the canonical JSON of all thresholds."""
        return content_hash(asdict(self))


def changed(before: Thresholds, words: Iterable[str]) -> Thresholds:
    """`before` with some values replaced, written NAME=VALUE. InputError for words that do not say that."""
    given: dict[str, float] = asdict(before)
    for word in words:
        name, _, value = word.partition("=")
        try:
            given[name] = float(value)
        except ValueError:
            raise InputError(f"{word!r} gives no number", "research.thresholds", "write NAME=VALUE, such as dsr=0.97") from None
    return thresholds_of(given)


def thresholds_of(given: Mapping[str, float]) -> Thresholds:
    """The defaults with some of them replaced. InputError for a name that is no threshold or a value that is no number of its kind."""
    kinds = {field.name: type(getattr(Thresholds(), field.name)) for field in fields(Thresholds)}
    for name, value in given.items():
        if name not in kinds:
            raise InputError(f"there is no threshold {name!r}", "research.thresholds", f"use one of {', '.join(kinds)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (kinds[name] is int and value != int(value)):
            raise InputError(f"{name} is {value!r}", "research.thresholds", f"give one {kinds[name].__name__}")
        if not 0 <= value < float("inf"):
            raise InputError(f"{name} is {value!r}", "research.thresholds", "thresholds are finite and not negative")
    return replace(Thresholds(), **{name: kinds[name](value) for name, value in given.items()})


def in_force(entries: Iterable[LedgerEntry]) -> Thresholds:
    """The thresholds of the ledger's newest change (`registry.approvals.record_thresholds`), the defaults before the first one.

    CorruptionError where an entry's values do not have the hash that the entry is bound to.
    """
    newest = None
    for entry in entries:
        newest = entry if entry.action == ACTION else newest
    if newest is None:
        return Thresholds()
    found, named = thresholds_of(newest.document or {}), (newest.bound or {}).get(ACTION, "")
    if found.hash != named:
        what = f"thresholds {found.hash[:12]} under the name {named[:12]}"
        fix = "this code has other thresholds than the entry knew: put them in force anew, with two people and a reason"
        raise CorruptionError(what, f"ledger entry {newest.seq}", fix)
    return found
