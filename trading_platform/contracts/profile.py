"""Profile: every number a decision depends on, as one immutable value. Read from YAML by `config.load_profile`, nowhere else.

Defaults are the strictest value that the specification names, so a silent profile is a careful one. Fractions are of equity unless the
name says otherwise; `_bps` are basis points.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trading_platform.contracts.canonical import content_hash


@dataclass(frozen=True, slots=True)
class Limits:
    """Account limits (SPEC RISK-01..16, TRADING T13-T21)."""

    max_position: float = 0.05
    max_gross: float = 1.0
    max_short_of_gross: float = 0.0
    max_positions: int = 30
    max_sector: float = 0.5
    max_leverage: float = 1.0
    max_daily_drawdown: float = 0.02
    max_consecutive_losses: int = 3
    pause_rows: int = 5
    max_trades_per_session: int = 100
    max_orders_per_row: int = 100
    max_risk_per_trade: float = 0.004
    max_participation: float = 0.01
    price_collar_bps: float = 500.0
    reduce_price_collar_bps: float = 1000.0
    max_quote_age_s: float = 900.0
    min_coverage: float = 0.95
    min_maintenance_excess: float = 0.20
    max_naked: float = 0.05
    max_naked_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Strategy:
    """The cross-sectional long/flat sleeve: hold the best alphas, equal risk each.

    A name enters when its alpha's cross-sectional rank (0 worst, 1 best) reaches `entry_rank` and leaves when it falls below `exit_rank`.
    """

    strategy_class: str = "swing"
    capital: float = 1.0
    entry_rank: float = 0.90
    exit_rank: float = 0.60
    target_gross: float = 0.90
    annual_volatility_target: float = 0.10
    no_trade_band: float = 0.20
    entry_cutoff_minutes: int = 0
    flat_at_end_of_day: bool = False


@dataclass(frozen=True, slots=True)
class Execution:
    """How a wish becomes an order (SPEC EXEC-02..16, T9, T16)."""

    limit_offset_bps: float = 5.0
    order_timeout_s: float = 60.0
    opening_toxic_minutes: int = 5
    closing_toxic_minutes: int = 5
    catastrophe_stop_atr: float = 3.0
    requests_per_minute: int = 200


@dataclass(frozen=True, slots=True)
class Costs:
    """What a fill costs beyond the bar's price, in backtest and simulator alike (T7)."""

    half_spread_bps: float = 2.0
    impact_bps: float = 10.0
    participation: float = 0.05
    fee_per_share: float = 0.0


@dataclass(frozen=True, slots=True)
class UniverseRules:
    """Point-in-time membership (SPEC UNIV-07..10). Prices in quote currency, dollar volume per session, averaged over 20 sessions."""

    min_price: float = 5.0
    max_price: float = 500.0
    min_dollar_volume: float = 5_000_000.0
    min_sessions: int = 60
    core_size: int = 200
    extended_size: int = 1000


@dataclass(frozen=True, slots=True)
class ModelRules:
    """Bundles in use (T23, T25, T27)."""

    shadow_rows: int = 20
    max_age_sessions: int = 21
    hard_max_age_sessions: int = 63
    inference_timeout_ms: float = 100.0
    max_inference_failures: int = 3
    max_transition_turnover: float = 0.10
    no_swap_minutes: int = 15


@dataclass(frozen=True, slots=True)
class DriftRules:
    """When features count as drifted (SPEC FEAT-16). psi_*: against the deciles of the training span. missing_drift: growth of a share.

    A refit is asked for when at least `least_share` of a model's features drift in each of the last `windows` complete windows.
    """

    psi_watch: float = 0.10
    psi_drift: float = 0.25
    missing_drift: float = 0.05
    least_share: float = 0.10
    windows: int = 2


@dataclass(frozen=True, slots=True)
class MonitorRules:
    """How a model in use is watched (T32). shift: standard deviations a session that are to be found fastest. false_alarms_per_year: of all
    detectors together.

    The others are degradation triggers on short Sharpes by name (X-30): `notify`, or `refit`, which is refused below 60 sessions.
    """

    shift: float = 0.5
    false_alarms_per_year: float = 1.0
    week_over_week_20: str = "notify"
    five_days_30: str = "notify"
    half_of_backtest: str = "notify"
    half_of_backtest_60: str = "notify"


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of all numbers. `swing` trades session bars, `intraday` minute bars; each has its own limits and execution."""

    name: str
    limits: Limits = field(default_factory=Limits)
    strategy: Strategy = field(default_factory=Strategy)
    execution: Execution = field(default_factory=Execution)
    costs: Costs = field(default_factory=Costs)
    universe: UniverseRules = field(default_factory=UniverseRules)
    models: ModelRules = field(default_factory=ModelRules)
    drift: DriftRules = field(default_factory=DriftRules)
    monitor: MonitorRules = field(default_factory=MonitorRules)
    grace_s: float = 2.0
    vendor_delay_s: float = 900.0
    starting_cash: float = 1_000_000.0

    @property
    def hash(self) -> str:
        """Content hash of every number."""
        return content_hash(self)

    @property
    def limits_hash(self) -> str:
        """Content hash of the limits alone (T37)."""
        return content_hash(self.limits)
