"""Sealed holdouts: data that research cannot read, opened a counted number of times, each opening on record with its reason (T34, I11).

A seal closes everything from its first session on. Whoever wants to read on opens it for one recipe: the opening is a record of a hash
chain, written before a row is handed out, and the next one beyond the allowed number is refused. What is not sealed is not touched here:
`cut` is called where research gets its panel, so labels made of the cut panel end before the seal as at any end of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.calendar import date_of, day_of
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.panel import Panel
from trading_platform.research.hash_chain import HashChain, Record

FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Seal:
    """One holdout: session days (since 1970-01-01) of its first and last session (None: to the data's end), how often it may be opened."""

    name: str
    first: int
    last: int | None
    openings: int


T34_SEALS = (
    Seal("validation_2015_2016", day_of(date(2015, 1, 1)), day_of(date(2016, 12, 31)), 3),
    Seal("final_2017", day_of(date(2017, 1, 1)), None, 1),
)


@dataclass(frozen=True, slots=True)
class Opening:
    """The `number`-th opening of a holdout, for one recipe (content hash). run: who computes (a Dagster run id). at: UTC ns."""

    name: str
    number: int
    recipe: str
    run: str
    by: str
    reason: str
    at: int
    hash: str


class Holdouts:
    """The seals of one data set and the file of their openings. Seals bind from their first record on: they never change afterwards."""

    def __init__(self, path: Path, seals: Sequence[Seal]) -> None:
        self.path = Path(path)
        self.seals = tuple(seals)
        self._chain = HashChain(self.path)
        ends = [FOREVER if seal.last is None else seal.last for seal in self.seals]
        names = {seal.name for seal in self.seals}
        ordered = all(end < after.first for end, after in zip(ends, self.seals[1:], strict=False))
        if not self.seals or len(names) < len(self.seals) or not ordered:
            raise InputError(f"seals {names or 'absent'}", str(self.path), "give seals with different names, one after the other in time")
        for seal, end in zip(self.seals, ends, strict=True):
            if not seal.name or end < seal.first or seal.openings < 0:
                raise InputError(f"{seal}", str(self.path), "a seal has a name, ends after it begins, and allows 0 openings or more")

    def declare(self, by: str, at: int) -> None:
        """Put the seals on record; those that are there already must be the same. Raises InputError for one that was changed or dropped."""
        for seal in self.seals:
            recorded = any(record["kind"] == "seal" and record["name"] == seal.name for record in self._records())
            if not recorded:
                self._chain.append({"kind": "seal", **asdict(seal), "by": by, "at": at}, allowed=self._check)

    def openings(self) -> tuple[Opening, ...]:
        """All openings in order. Raises CorruptionError where the file was edited, InputError where seals on record are not these."""
        return tuple(_opening(record) for record in self._records() if record["kind"] == "opening")

    def head(self) -> str:
        """Hash of the newest record; a report that pins it shows that no opening was forgotten."""
        return self._chain.head()

    def open(self, name: str, *, recipe: str, run: str, by: str, reason: str, at: int) -> Opening:
        """Open a holdout for one recipe and return the opening, durable.

        Raises InputError when it was opened as often as allowed, when an earlier holdout was never opened (its rows would be seen as well),
        or when recipe, run, person or reason is missing; nothing is written then.
        """
        seal = self._seal(name)
        missing = [what for what, value in (("recipe", recipe), ("run", run), ("by", by), ("reason", reason)) if not value.strip()]
        if missing:
            raise InputError(f"holdout {name} is opened without {', '.join(missing)}", str(self.path), "say which recipe, who, and why")
        self.declare(by, at)

        def allowed(records: Sequence[Record]) -> None:
            self._check(records)
            opened = [record for record in records if record["kind"] == "opening"]
            self._check_order(seal, opened)
            fields["number"] = 1 + sum(record["name"] == name for record in opened)

        fields: dict[str, Any] = {"kind": "opening", "name": name, "recipe": recipe, "run": run, "by": by, "reason": reason, "at": at}
        return _opening(self._chain.append(fields, allowed=allowed))

    def readable(self, session: NDArray[np.int64], opening: Opening | None = None, recipe: str = "") -> int:
        """How many of the leading rows may be read: all before the first seal; with an opening all up to its holdout's end.

        session: int64 (T,), not descending, days since 1970-01-01. recipe: of the run that asks; an opening serves no other. Raises
        InputError for an opening that is not on record or belongs to another recipe.
        """
        records = self._records()
        limit = self.seals[0].first - 1
        if opening is not None:
            seal = self._seal(opening.name)
            if opening not in [_opening(record) for record in records if record["kind"] == "opening"]:
                raise InputError(f"an opening of {opening.name} that is not on record", str(self.path), "open the holdout with `open`")
            if opening.recipe != recipe:
                what = f"holdout {opening.name} was opened for recipe {opening.recipe[:12]}, not for {recipe[:12] or 'none'}"
                raise InputError(what, str(self.path), "an opening serves one recipe: each further look is an opening of its own")
            limit = FOREVER if seal.last is None else seal.last
        return int(np.searchsorted(session, limit, side="right"))

    def cut(self, panel: Panel, opening: Opening | None = None, recipe: str = "") -> Panel:
        """The rows of a panel that `readable` allows. Raises InputError where none is left."""
        stop = self.readable(panel.session, opening, recipe)
        if stop == 0:
            first = date_of(self.seals[0].first)
            raise InputError(f"every row lies behind the seal of {first}", str(self.path), "read earlier data, or open the holdout")
        return panel.rows(0, stop)

    def _seal(self, name: str) -> Seal:
        for seal in self.seals:
            if seal.name == name:
                return seal
        raise InputError(f"no holdout {name!r}", str(self.path), f"use one of {', '.join(seal.name for seal in self.seals)}")

    def _records(self) -> tuple[Record, ...]:
        records = self._chain.records()
        self._check(records)
        return records

    def _check(self, records: Sequence[Record]) -> None:
        """The seals on record are these seals."""
        given = {seal.name: {k: v for k, v in asdict(seal).items() if v is not None} for seal in self.seals}
        for record in records:
            if record.get("kind") not in ("seal", "opening") or "name" not in record:
                raise CorruptionError(f"record {record['seq']} is neither a seal nor an opening", str(self.path), "restore the file")
            if record["kind"] == "seal":
                stored = {k: record[k] for k in ("name", "first", "last", "openings") if k in record}
                if stored != given.get(record["name"]):
                    what = f"the seal {record['name']} is on record as {stored}, given is {given.get(record['name'], 'none')}"
                    raise InputError(what, str(self.path), "a seal never changes: give it as it was recorded")

    def _check_order(self, seal: Seal, opened: Sequence[Record]) -> None:
        """Not opened as often as allowed, and nothing before it unopened."""
        mine = [record for record in opened if record["name"] == seal.name]
        if len(mine) >= seal.openings:
            told = "; ".join(f"{record['by']} for {record['recipe'][:12]}: {record['reason']}" for record in mine) or "never to be opened"
            what = f"holdout {seal.name} was opened {len(mine)} of {seal.openings} times ({told})"
            raise InputError(what, str(self.path), "there is no further look: judge by new data")
        for before in self.seals[: self.seals.index(seal)]:
            if all(record["name"] != before.name for record in opened):
                what = f"holdout {before.name} lies before {seal.name} and was never opened"
                raise InputError(what, str(self.path), "open them in the order of time")


def _opening(record: Record) -> Opening:
    try:
        return Opening(**{name: record[name] for name in Opening.__dataclass_fields__})
    except KeyError as error:
        raise CorruptionError(f"record {record['seq']} is no opening: {error}", "research.holdout", "restore the file") from error
