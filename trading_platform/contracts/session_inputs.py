"""What a runner is given for a pipeline: one small pointer file, and content-addressed files that it names by path and sha256.

The platform publishes them below `lake/` (`lake/session/<pipeline>.json` is the pointer), the runner reads and verifies them. Both sides
use the functions here, so neither needs the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import canonical_bytes, content_hash, parse, sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.instruments import Instrument


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file below the lake: `path` relative to it with forward slashes, `sha256` of its bytes."""

    path: str
    sha256: str

    @classmethod
    def of(cls, path: str, data: bytes) -> FileRef:
        """The reference of a file with these bytes."""
        return cls(path, sha256_hex(data))

    def read(self, lake: Path) -> bytes:
        """The verified bytes. InputError when absent or outside the lake, CorruptionError when they hash to something else."""
        if PurePosixPath(self.path).is_absolute() or ".." in PurePosixPath(self.path).parts:
            raise InputError(f"{self.path!r} leaves the lake", str(lake), "publish the session's inputs again")
        file = lake / self.path
        if not file.is_file():
            raise InputError(f"no file {self.path}", str(lake), "materialize the assets that publish the session's inputs")
        data = file.read_bytes()
        if sha256_hex(data) != self.sha256:
            what = f"{self.path} hashes to {sha256_hex(data)[:12]}, expected {self.sha256[:12]}"
            raise CorruptionError(what, str(lake), "publish it again")
        return data


@dataclass(frozen=True, slots=True)
class StateRef:
    """State of the features after the row with this known_at (UTC ns).

    program: Program.state_bytes; factors: FactorState.state_bytes.
    """

    known_at: int
    program: FileRef
    factors: FileRef


@dataclass(frozen=True, slots=True)
class ExternalField:
    """A market-wide field of the rows: the close of the newest bar of an index that was known when the row was.

    name: the panel's field (`vix`). symbol: the index in the feed (`VIX`); it is no instrument. max_age_sessions: an older value is NaN.
    """

    name: str
    symbol: str
    max_age_sessions: int


@dataclass(frozen=True, slots=True)
class SessionInputs:
    """The pointer: everything outside bundles, profile and broker that a session depends on.

    slot: of the models it trades. feature_set: a name of the features' catalogue whose hash must be feature_hash. fields: optional bar
    fields its rows carry beside OHLCV and factors (`vwap`). external: market-wide fields its rows carry as well. feed: the T5 identity of
    the live bars. calendar: exchange code, calendar_hash over its default span. universe: a `Universe`; corporate_actions:
    `encode_actions`. states: ascending by known_at; may be empty, then every instrument starts cold.
    """

    pipeline: str
    slot: str
    timeframe: str
    feature_set: str
    feature_hash: str
    feed: Mapping[str, str]
    calendar: str
    calendar_hash: str
    instruments: tuple[Instrument, ...]
    universe: FileRef
    corporate_actions: FileRef
    fields: tuple[str, ...] = ()
    external: tuple[ExternalField, ...] = ()
    states: tuple[StateRef, ...] = ()

    def to_bytes(self) -> bytes:
        """Canonical JSON, the content of the pointer file."""
        return canonical_bytes(self)

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "session inputs") -> SessionInputs:
        """Read a pointer file. CorruptionError where it is not one."""
        stored = parse(data)
        try:
            plain = dict(stored)
            plain["instruments"] = tuple(Instrument(**item) for item in stored["instruments"])
            plain["universe"], plain["corporate_actions"] = FileRef(**stored["universe"]), FileRef(**stored["corporate_actions"])
            plain["fields"] = tuple(stored["fields"])
            plain["external"] = tuple(ExternalField(**item) for item in stored["external"])
            plain["states"] = tuple(StateRef(s["known_at"], FileRef(**s["program"]), FileRef(**s["factors"])) for s in stored["states"])
            return cls(**plain)
        except (KeyError, TypeError) as error:
            raise CorruptionError(f"not a session's inputs: {error}", where, "publish them again with this version") from error

    @classmethod
    def load(cls, lake: Path, pipeline: str) -> SessionInputs:
        """The pointer of a pipeline. InputError when it was never published."""
        file = pointer_path(lake, pipeline)
        if not file.is_file():
            raise InputError(f"no inputs for pipeline {pipeline!r}", str(file), "materialize the universe and the features first")
        return cls.from_bytes(file.read_bytes(), str(file))

    def state_before(self, instant_ns: int) -> StateRef | None:
        """The newest state known at `instant_ns`, or None."""
        usable = [state for state in self.states if state.known_at <= instant_ns]
        return max(usable, key=lambda state: state.known_at, default=None)


def pointer_path(lake: Path, pipeline: str) -> Path:
    """Where the pointer of a pipeline lies."""
    return lake / "session" / f"{pipeline}.json"


@dataclass(frozen=True, slots=True)
class Universe:
    """Point-in-time membership as published: who may be held in which session (T3).

    instrument_ids: S ascending ids, the panel's columns. sectors: instrument id -> sector name (absent = unknown). members: session date
    (YYYY-MM-DD) -> member ids, ascending. A session that is not named has the members of the newest one before it. adv_lots: session date
    -> average daily volume in lots, float64 per instrument id, known before that session; absent = unknown.
    """

    instrument_ids: tuple[str, ...]
    sectors: Mapping[str, str]
    members: Mapping[str, tuple[str, ...]]
    adv_lots: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Content hash (T37)."""
        return content_hash(self)

    def to_bytes(self) -> bytes:
        """Canonical JSON of the published file."""
        return canonical_bytes(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Universe:
        """Read a published file. CorruptionError where it is not one."""
        stored = parse(data)
        try:
            members = {day: tuple(ids) for day, ids in stored["members"].items()}
            return cls(tuple(stored["instrument_ids"]), stored["sectors"], members, stored["adv_lots"])
        except (AttributeError, KeyError, TypeError) as error:
            raise CorruptionError(f"not a universe: {error}", "universe", "publish it again") from error

    def member_row(self, session_date: str) -> NDArray[np.bool_]:
        """bool (S,): members of a session. InputError before the first session named."""
        day = _newest(self.members, session_date)
        if day is None:
            raise InputError(f"no members are known for {session_date}", "universe", "publish the universe for this span")
        held = set(self.members[day])
        return np.array([name in held for name in self.instrument_ids], dtype=np.bool_)

    def adv_row(self, session_date: str) -> NDArray[np.float64]:
        """float64 (S,): average daily volume in lots, NaN where unknown."""
        day = _newest(self.adv_lots, session_date)
        known = {} if day is None else self.adv_lots[day]
        return np.array([known.get(name, np.nan) for name in self.instrument_ids], dtype=np.float64)

    def sector_codes(self) -> NDArray[np.int64]:
        """int64 (S,): a number per sector name, ascending by name; -1 where the sector is unknown."""
        order = {name: code for code, name in enumerate(sorted(set(self.sectors.values())))}
        return np.array([order[self.sectors[name]] if name in self.sectors else -1 for name in self.instrument_ids], dtype=np.int64)


def _newest(table: Mapping[str, Any], session_date: str) -> str | None:
    days = sorted(table)  # as published they are sorted already, which makes this one pass
    at = bisect_right(days, session_date)
    return days[at - 1] if at else None


def encode_actions(actions: list[tuple[int, str, float, float]]) -> bytes:
    """Canonical JSON of corporate actions (ex_date as days since 1970-01-01, instrument_id, split_ratio, cash_dividend), ascending."""
    return canonical_bytes([list(action) for action in sorted(actions)])


def decode_actions(data: bytes) -> list[tuple[int, str, float, float]]:
    """The rows of `encode_actions`."""
    try:
        return [(int(day), str(name), float(ratio), float(dividend)) for day, name, ratio, dividend in parse(data)]
    except (TypeError, ValueError) as error:
        raise CorruptionError(f"not a list of corporate actions: {error}", "corporate actions", "publish them again") from error
