"""What two feeds made of the same market: the report of `research.feed_skew`, its gate, and where stored ones lie (T4, T5).

The platform writes reports below `lake/feed-skew`, named by the sha256 of their bytes; a runner that meets a bundle of another feed reads
them and judges their numbers itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from trading_platform.contracts.canonical import canonical_bytes, content_hash, parse, sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError

# The gate (T5). A decision is a name whose alpha is defined on either side, in one row.
MIN_SESSIONS = 5
MOST_FLIPPED = 0.02  # share of decisions that would hold another position
LEAST_RANK_CORRELATION = 0.95  # of a row's alphas, averaged
MOST_ONE_SIDED = 0.05  # share of feature cells that only one feed defines
SHOWN = 20  # flips listed
SUBJECT = ("left", "right", "timeframe", "feature_set", "feature_hash", "alpha", "tolerance", "rank_move")


@dataclass(frozen=True, slots=True)
class FeatureSkew:
    """One feature. cells: defined on either side; differing: in any bit; beyond: by more than the tolerance, or one_sided (undefined on the
    other). largest: the greatest relative difference among cells defined on both sides, at instrument_id and timestamp (UTC ns), where the
    values are left and right; absent where there is none.
    """

    name: str
    cells: int
    differing: int
    beyond: int
    one_sided: int
    largest: float = 0.0
    instrument_id: str | None = None
    timestamp: int | None = None
    left: float | None = None
    right: float | None = None

    def joined(self, other: FeatureSkew) -> FeatureSkew:
        """Both spans as one."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in ("cells", "differing", "beyond", "one_sided")}
        return replace(self if self.largest >= other.largest else other, **counts)


@dataclass(frozen=True, slots=True)
class Flip:
    """A position that one feed's decision would hold and the other's would not."""

    timestamp: int
    instrument_id: str
    left: bool
    right: bool


@dataclass(frozen=True, slots=True)
class FeedSkew:
    """Two feeds over the same span.

    left, right: T5 identities; left is the one the bundle was trained on. alpha: what ranked the names, a bundle's recipe name or
    `feature <name>`, empty for nothing. tolerance: relative, of features. rank_move: of an alpha's rank (0 to 1) that counts.
    sessions: ISO dates. bars: cells with a bar on either side; only_left, only_right: on one; bars_differ: with another open, high, low,
    close or volume. rows_decided: rows with a decision; decisions: names in them. rows_*: rows in which at least one name's position
    flipped, alpha changed its sign, or rank moved by more than rank_move. correlation: sum of the rank correlations of rows_ranked rows.
    """

    left: Mapping[str, str]
    right: Mapping[str, str]
    timeframe: str
    feature_set: str
    feature_hash: str
    alpha: str
    tolerance: float
    rank_move: float
    sessions: tuple[str, ...]
    rows: int
    bars: int
    only_left: int
    only_right: int
    bars_differ: int
    features: tuple[FeatureSkew, ...]
    decisions: int
    flipped: int
    rows_decided: int
    rows_flipped: int
    rows_sign: int
    rows_rank: int
    rows_ranked: int
    correlation: float
    flips: tuple[Flip, ...]

    @property
    def subject(self) -> str:
        """What is compared, whatever the span: reports of one subject may be joined."""
        return content_hash({name: getattr(self, name) for name in SUBJECT})

    @property
    def cells(self) -> int:
        """Feature cells compared."""
        return sum(feature.cells for feature in self.features)

    @property
    def differing(self) -> int:
        """Feature cells with other bits."""
        return sum(feature.differing for feature in self.features)

    @property
    def beyond(self) -> int:
        """Feature cells beyond the tolerance."""
        return sum(feature.beyond for feature in self.features)

    @property
    def one_sided(self) -> int:
        """Feature cells that one side leaves undefined."""
        return sum(feature.one_sided for feature in self.features)

    @property
    def rank_correlation(self) -> float | None:
        """Mean rank correlation of a row's alphas, None where no row has two names with an alpha on both sides."""
        return self.correlation / self.rows_ranked if self.rows_ranked else None

    def worst(self, count: int = 5) -> tuple[FeatureSkew, ...]:
        """The features with the greatest share of cells beyond the tolerance, then the greatest difference."""
        ranked = sorted(self.features, key=lambda f: (-f.beyond / max(f.cells, 1), -f.largest, f.name))
        return tuple(feature for feature in ranked if feature.differing)[:count]

    def failures(self) -> tuple[str, ...]:
        """Why this report does not pass the gate of T5; empty where it does."""
        found = []
        if len(self.sessions) < MIN_SESSIONS:
            found.append(f"{len(self.sessions)} sessions, {MIN_SESSIONS} are needed")
        if not self.decisions:
            found.append("no decision was compared")
        elif self.flipped / self.decisions > MOST_FLIPPED:
            found.append(f"{self.flipped / self.decisions:.2%} of the decisions flip, {MOST_FLIPPED:.0%} may")
        if self.decisions and (self.rank_correlation is None or self.rank_correlation < LEAST_RANK_CORRELATION):
            found.append(f"the alphas' rank correlation is {self.rank_correlation or 0.0:.3f}, {LEAST_RANK_CORRELATION} is needed")
        if self.one_sided / max(self.cells, 1) > MOST_ONE_SIDED:
            share = self.one_sided / max(self.cells, 1)
            found.append(f"{share:.1%} of the feature cells are defined by one feed only, {MOST_ONE_SIDED:.0%} may be")
        return tuple(found)

    def joined(self, other: FeedSkew) -> FeedSkew:
        """This span and another, later one, as one report. InputError where they do not compare the same things."""
        apart = [name for name in SUBJECT if getattr(self, name) != getattr(other, name)]
        if apart:
            raise InputError(f"reports with another {', '.join(apart)}", "feed skew", "join reports of the same feeds, features and recipe")
        counts = {
            each.name: getattr(self, each.name) + getattr(other, each.name)
            for each in fields(self)
            if each.type in ("int", "float") and each.name not in SUBJECT
        }
        return replace(
            self,
            **counts,
            sessions=tuple(sorted({*self.sessions, *other.sessions})),
            features=tuple(one.joined(two) for one, two in zip(self.features, other.features, strict=True)),
            flips=(*self.flips, *other.flips)[:SHOWN],
        )

    def to_bytes(self) -> bytes:
        """Canonical JSON of the stored file."""
        return canonical_bytes(self)

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "feed skew") -> FeedSkew:
        """Read a stored file. CorruptionError where it is not one."""
        stored = parse(data)
        try:
            stored["features"] = tuple(FeatureSkew(**feature) for feature in stored["features"])
            stored["flips"] = tuple(Flip(**flip) for flip in stored["flips"])
            stored["sessions"] = tuple(stored["sessions"])
            return cls(**stored)
        except (KeyError, TypeError) as error:
            raise CorruptionError(f"not a report of two feeds: {error}", where, "compare them again with this version") from error


def skew_folder(lake: Path) -> Path:
    """Where stored reports lie."""
    return lake / "feed-skew"


def stored_reports(lake: Path) -> tuple[FeedSkew, ...]:
    """Every stored report, by name. CorruptionError where one's bytes do not fit its name."""
    found = []
    for path in sorted(skew_folder(lake).glob("*.json")):
        data = path.read_bytes()
        if sha256_hex(data) != path.stem:
            raise CorruptionError("a stored feed comparison was changed", path.name, "remove it and compare the feeds again")
        found.append(FeedSkew.from_bytes(data, path.name))
    return tuple(found)


def refusals(lake: Path, left: Mapping[str, str], right: Mapping[str, str], feature_hash: str, recipe: str) -> Sequence[str]:
    """Why a bundle of this recipe, trained on feed `left`, may not trade on feed `right`; empty where it may (T5).

    The report that reaches the latest session speaks, of those the one over most sessions: what passed once is outlived by newer evidence.
    """
    if dict(left) == dict(right):
        return ()
    reports = stored_reports(lake)
    wanted = (dict(left), dict(right), feature_hash, recipe)
    mine = [report for report in reports if (dict(report.left), dict(report.right), report.feature_hash, report.alpha) == wanted]
    if not mine:
        return (f"none of {len(reports)} stored reports compares these two for {recipe}",)
    return max(mine, key=lambda report: (report.sessions[-1:], len(report.sessions), len(report.failures()))).failures()
