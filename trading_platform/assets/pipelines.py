"""The two pipelines: the same assets over two timeframes. They share the code and do not join."""

from __future__ import annotations

from dataclasses import dataclass

from trading_platform.contracts.errors import InputError
from trading_platform.research.label_rules import ForwardReturn, LabelRule


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What differs between the pipelines.

    feature_set: what is computed and traded; plain_set: where the bars lack a market-wide field that it reads. suffix: of asset names
    beside the two that carry their own (bars_*, features_*, labels_*). train, test, step: rows of a walk-forward fold; horizon: rows ahead
    that the label looks; label: what it says, by default the forward return less the members' mean. cutoffs_apart: rows between the
    training cutoffs of two bundles. statistical_power: False where the span is too short for the statistical gates to say anything, which
    the report then states as "no power". learner: what is trained, by its name in `research.models.catalog`.
    """

    name: str
    suffix: str
    bars: str
    timeframe: str
    feature_set: str
    plain_set: str
    strategy_class: str
    slot: str
    model: str
    horizon: int
    train: int
    test: int
    step: int
    embargo: float
    cutoffs_apart: int
    periods_per_year: float
    statistical_power: bool
    learner: str = "lightgbm_regression"
    label: LabelRule | None = None

    def __post_init__(self) -> None:
        if self.label is not None and self.label.horizon != self.horizon:
            what = f"the label looks {self.label.horizon} rows ahead, the pipeline {self.horizon}"
            raise InputError(what, f"pipeline {self.name}", "give both the same horizon: purge, trials and bundles count in it")

    @property
    def label_rule(self) -> LabelRule:
        """What a model of this pipeline learns."""
        return self.label or ForwardReturn(horizon=self.horizon, neutral="market")

    def asset(self, base: str) -> str:
        """Name of this pipeline's asset: walk_forward_report -> walk_forward_report_intraday."""
        return f"{base}{self.suffix}"

    def account(self, base: str) -> str:
        """The account this pipeline trades: one engine per account, so the second pipeline has one of its own (T6)."""
        return f"{base}{self.suffix.replace('_', '-')}"

    @property
    def features(self) -> str:
        """Name of the features asset."""
        return f"features_{self.name}"

    @property
    def labels(self) -> str:
        """Name of the labels asset."""
        return f"labels_{self.name}"

    @property
    def cutoffs(self) -> str:
        """Name of the dynamic partitions of the bundles: training cutoff dates."""
        return f"{self.name}_cutoffs"


DAILY = Pipeline(
    name="daily",
    suffix="",
    bars="bars_daily",
    timeframe="1Day",
    feature_set="core",
    plain_set="core",
    strategy_class="swing",
    slot="daily",
    model="alpha_lightgbm",
    horizon=5,
    train=252,
    test=63,
    step=21,
    embargo=0.01,
    cutoffs_apart=60,
    periods_per_year=252.0,
    statistical_power=True,
)
# Rows of one week: Monday to Wednesday are 1170 minutes, 1142 after the purge of a 16-minute label and the embargo, so that the first fold
# is tested on exactly Thursday; Friday is traded.
INTRADAY = Pipeline(
    name="intraday",
    suffix="_intraday",
    bars="bars_minute",
    timeframe="1Min",
    feature_set="intraday_vix",
    plain_set="intraday",
    strategy_class="intraday",
    slot="intraday",
    model="alpha_lightgbm_intraday",
    horizon=15,
    train=1142,
    test=390,
    step=390,
    embargo=0.01,
    cutoffs_apart=0,
    periods_per_year=252.0 * 390.0,
    statistical_power=False,
)
PIPELINES = (DAILY, INTRADAY)
