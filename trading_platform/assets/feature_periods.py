"""What features are a function of, period by period (a year of daily bars, a month of minute bars), and what an earlier run left to reuse.

A period's `key` is a content hash of everything its features can depend on: bars, corporate actions, membership, market-wide fields and
session closes of this period and, through the key before it, of every earlier one. Two periods of one key have the same bytes. Nothing
is decided by time stamps of files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.bars import period_files
from trading_platform.assets.inputs import Materialization, Recipe
from trading_platform.assets.panels import OPTIONAL_FIELDS, actions_of, market_fields
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.reading import Reader
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.manifest import OutputFile
from trading_platform.contracts.panel import BAR_FIELDS, TIMEFRAME_NS, Panel

if TYPE_CHECKING:
    import polars as pl

    from trading_platform.features.program import FeatureSet
    from trading_platform.market_data.corporate_actions import FactorState

STATE_ASSET = "feature-state"
STATE_FILES = ("program", "factors")
# Cells (rows x instruments) computed and written at once: with 60 features 126 MB of float32, several times that while a table is made.
PART_CELLS = 2**19
BEFORE_EVERYTHING = -(2**62)


@dataclass(frozen=True, slots=True)
class Period:
    """One period of the bars.

    name: lake name, such as `year=2012`. bars: sha256 of its bars. joined: ids whose first bar lies in it, ascending. sessions: (session
    day, rows) of each session, ascending. known_at: when its last row may be used, UTC ns. key: see above.
    """

    name: str
    bars: str
    joined: tuple[str, ...]
    sessions: tuple[tuple[int, int], ...]
    known_at: int
    key: str = ""

    @property
    def first_session(self) -> int:
        """Day of its first session."""
        return self.sessions[0][0]

    @property
    def last_session(self) -> int:
        """Day of its last session."""
        return self.sessions[-1][0]

    @property
    def rows(self) -> int:
        """Rows of the panel."""
        return sum(rows for _, rows in self.sessions)

    def parts(self, width: int) -> tuple[tuple[int, ...], ...]:
        """Its sessions (days) in groups that are computed and written at once: as many as fit PART_CELLS with `width` columns."""
        groups: list[list[int]] = []
        held = 0
        for day, rows in self.sessions:
            if not groups or held + rows * width > PART_CELLS:
                groups.append([])
                held = 0
            groups[-1].append(day)
            held += rows * width
        return tuple(tuple(group) for group in groups)


def axes_of(periods: Sequence[Period]) -> list[tuple[str, ...]]:
    """The instruments of each period's panel: every one with a bar in it or before, so that no period depends on who joins later."""
    seen = accumulate((set(period.joined) for period in periods), lambda before, joined: before | joined)
    return [tuple(sorted(ids)) for ids in seen]


def session_axis(periods: Sequence[Period]) -> NDArray[np.int64]:
    """(T,) int64: the session day of every row of all periods."""
    days = np.array([day for period in periods for day, _ in period.sessions], np.int64)
    return np.repeat(days, [rows for period in periods for _, rows in period.sessions])


def kept_ends(count: int) -> tuple[int, ...]:
    """Numbers of the periods, of `count`, whose end state is published: the newest four, then two of each doubling of age.

    So states grow with the logarithm of the span, and after a change in the past at most 5/3 of the periods from it on are computed again.
    An end that is dropped never comes back: a longer series keeps only ends that a shorter one kept, plus its newest.
    """
    spacing = (1 << max((count - 1 - number).bit_length() - 2, 0) for number in range(count))
    return tuple(number for number, apart in enumerate(spacing) if (number + 1) % apart == 0)


class FeatureSource:
    """The inputs of one pipeline's features as a reader sees them; no more than one period of bars is in memory at a time."""

    def __init__(self, out: Reader, pipeline: Pipeline, chosen: FeatureSet) -> None:
        import polars as pl

        self.files = period_files(out, pipeline.bars, pipeline)
        self.actions = actions_of(out, pipeline)
        self._out = out
        self._pipeline = pipeline
        self._calendar = out.place.calendar
        self._universe = out.read(pipeline.asset("universe"), "members", columns=["instrument_id", "session", "member"]).filter("member")
        self._optional = tuple(name for name in chosen.fields if name in OPTIONAL_FIELDS)
        self._fields = out.read(pipeline.bars, "fields").filter(pl.col("field").is_in(market_fields(chosen))).sort("field", "known_at")
        self._delay_ns = int(out.place.profile(pipeline).vendor_delay_s * 1e9)

    def bars(self, name: str) -> pl.DataFrame:
        """The bars of one period, the columns a panel needs."""
        columns = ["instrument_id", "timestamp", "session", *BAR_FIELDS, *self._optional]
        return self._out.read(self._pipeline.bars, name, columns=columns)

    def panel(self, bars: pl.DataFrame, ids: tuple[str, ...], factors: FactorState) -> Panel:
        """Some consecutive bars as a panel on the axis `ids`; `factors` is advanced over them."""
        from trading_platform.market_data.panel import build_panel

        return build_panel(
            bars,
            self.actions,
            self._pipeline.timeframe,
            self._calendar,
            self._universe,
            fields=self._optional,
            field_series=self._fields if self._fields.height else None,
            instrument_ids=ids,
            vendor_delay_ns=self._delay_ns,
            factor_state=factors,
        )

    def describe(self, known: Sequence[Period], seed: str) -> list[Period]:
        """Every period with its key, ascending. Of the periods an earlier run described, those with the same bars are not read again.

        seed: hash of what all periods depend on. InputError where a period begins before the one before it ends.
        """
        found: list[Period] = []
        ids: set[str] = set()
        as_known = True
        for number, (name, file) in enumerate(self.files.items()):
            as_known = as_known and number < len(known) and (known[number].name, known[number].bars) == (name, file.sha256)
            period = self._again(known[number]) if as_known else self._described(name, file.sha256, ids)
            if found and period.first_session <= found[-1].last_session:
                what = f"{name} begins before {found[-1].name} ends"
                raise InputError(what, self._pipeline.bars, f"materialize {self._pipeline.bars} again")
            ids |= set(period.joined)
            found.append(self._keyed(period, found[-1] if found else None, tuple(sorted(ids)), seed))
        return found

    def _described(self, name: str, sha256: str, before: set[str]) -> Period:
        frame = self._out.read(self._pipeline.bars, name, columns=["instrument_id", "timestamp"])
        stamps = np.unique(frame["timestamp"].to_physical().to_numpy())
        days, rows = np.unique(self._calendar.sessions_of(stamps), return_counts=True)
        if not len(days) or days[0] < 0:
            raise InputError(f"{name} holds no bars, or bars on no session", self._pipeline.bars, "see the checks of the bars")
        joined = tuple(sorted(set(frame["instrument_id"].unique().to_list()) - before))
        end = int(stamps[-1]) + TIMEFRAME_NS[self._pipeline.timeframe]
        return self._again(Period(name, sha256, joined, tuple(zip(days.tolist(), rows.tolist(), strict=True)), end))

    def _again(self, period: Period) -> Period:
        """With known_at as calendar and vendor's delay have it now."""
        if self._pipeline.timeframe != "1Day":
            return period
        return replace(period, known_at=self._calendar.close_ns(period.last_session) + self._delay_ns)

    def _keyed(self, period: Period, before: Period | None, ids: tuple[str, ...], seed: str) -> Period:
        """With the key: what came with this period, and the key of what came before."""
        from trading_platform.market_data.panel import membership

        days = np.array([day for day, _ in period.sessions], np.int64)
        after = BEFORE_EVERYTHING if before is None else before.last_session
        events = self.actions.between(after, period.last_session)
        known = self._fields["known_at"].to_physical().to_numpy()
        told = self._fields.filter((known > (BEFORE_EVERYTHING if before is None else before.known_at)) & (known <= period.known_at))
        key = content_hash(
            {
                "before": seed if before is None else before.key,
                "name": period.name,
                "bars": period.bars,
                "actions": [[a.ex_date, a.instrument_id, a.split_ratio, a.cash_dividend] for a in events if a.instrument_id in set(ids)],
                "members": hashlib.sha256(membership(self._universe, days, ids).tobytes()).hexdigest(),
                "fields": told["field"].to_list(),
                "said": [told[name].to_physical().to_numpy() for name in ("timestamp", "known_at", "value")],
                "closes": self._calendar.closes_ns(days),
            }
        )
        return replace(period, key=key)


def steps_of(days: Sequence[int], stops: Mapping[int, Any]) -> Iterator[tuple[int, int]]:
    """(first, last) session day of runs of `days` that end wherever a day is in `stops`, and at the end."""
    ends = [number + 1 for number, day in enumerate(days) if day in stops or number == len(days) - 1]
    for start, stop in pairwise([0, *ends]):
        yield days[start], days[stop - 1]


@dataclass(frozen=True, slots=True)
class Counts:
    """What a period's features were. cells: rows of its table. infinite: values made undefined. defined: finite cells of each feature."""

    cells: int
    infinite: int
    defined: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A published state: known_at of its last row, files in the order of STATE_FILES."""

    known_at: int
    files: tuple[OutputFile, ...]


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the newest materialization holds: its periods, their counts and tables, and the states by the session day they follow."""

    periods: tuple[Period, ...] = ()
    counts: tuple[Counts, ...] = ()
    tables: Mapping[str, tuple[OutputFile, ...]] = field(default_factory=dict)
    states: Mapping[int, Held] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """What `earlier` reads back from a manifest's facts."""
        return {
            "periods": [asdict(period) | {"counts": asdict(counts)} for period, counts in zip(self.periods, self.counts, strict=True)],
            "states": [state.known_at for state in self.states.values()],
            "state_sessions": list(self.states),
        }


def earlier(place: Workplace, recipe: Recipe, last: Materialization | None, feature_hash: str) -> Earlier:
    """What can be reused of a materialization: nothing of another code or feature version, nor of one that held no rows.

    A state whose files are gone or damaged is left out; of the tables the same is said by `reusable`.
    """
    if last is None or last.manifest.code_version != recipe.code_version or last.manifest.facts.get("feature_hash") != feature_hash:
        return Earlier()
    facts, outputs = last.manifest.facts, last.manifest.outputs
    periods, counts = [], []
    for told in facts["periods"]:
        plain = dict(told)
        counted = plain.pop("counts")
        counts.append(Counts(counted["cells"], counted["infinite"], tuple(counted["defined"])))
        periods.append(Period(**{**plain, "joined": tuple(plain["joined"]), "sessions": tuple((d, n) for d, n in plain["sessions"])}))
    tables = {p.name: tuple(o for o in outputs if o.partition == p.name or o.partition.startswith(f"{p.name}/")) for p in periods}
    named = {output.partition: output for output in outputs}
    held = {}
    for session, known_at in zip(facts["state_sessions"], facts["states"], strict=True):
        files = tuple(named[f"{state_name(feature_hash, known_at)}/{kind}"] for kind in STATE_FILES)
        if all(is_intact(place, file) for file in files):
            held[session] = Held(known_at, files)
    return Earlier(tuple(periods), tuple(counts), tables, held)


def state_name(feature_hash: str, known_at: int) -> str:
    """Lake name of the folder of a state's files."""
    return f"{STATE_ASSET}/{feature_hash[:16]}/{known_at}"


def reusable(place: Workplace, before: Earlier, periods: Sequence[Period]) -> int:
    """How many leading periods are as they were, to the last byte of their tables."""
    for number, period in enumerate(periods):
        same = number < len(before.periods) and before.periods[number].key == period.key
        tables = before.tables[period.name] if same else ()
        if not tables or not all(is_intact(place, table) for table in tables):
            return number
    return len(periods)


def is_intact(place: Workplace, output: OutputFile) -> bool:
    """Whether a published file is there with its sha256."""
    path = place.lake.root / output.uri
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == output.sha256
