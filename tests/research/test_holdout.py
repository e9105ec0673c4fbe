"""A sealed holdout cannot be read, is opened a counted number of times, and every opening stays on record."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panels import panel_of

from trading_platform.calendar import day_of
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.research.hash_chain import HashChain
from trading_platform.research.holdout import T34_SEALS, Holdouts, Opening, Seal
from trading_platform.research.labels import NEVER, forward_return

SEALS = (Seal("validation", 14_060, 14_079, 3), Seal("final", 14_080, None, 1))
PANEL = panel_of(50.0 + np.random.default_rng(0).standard_normal((100, 3)))  # sessions 14000 to 14099


def holdouts(folder: Path, seals: tuple[Seal, ...] = SEALS) -> Holdouts:
    return Holdouts(folder / "holdouts.jsonl", seals)


def opened(place: Holdouts, name: str = "validation", **changes: Any) -> Opening:
    return place.open(name, **{"recipe": "r1", "run": "run-1", "by": "ann", "reason": "final check", "at": 1, **changes})


def test_without_an_opening_nothing_behind_the_first_seal_is_readable(tmp_path: Path) -> None:
    seen = holdouts(tmp_path).cut(PANEL)
    assert seen.shape == (60, 3) and seen.session.max() == 14_059
    for horizon in (1, 5):
        labels = forward_return(seen, horizon)
        assert np.isnan(labels.values[-horizon - 1 :]).all() and (labels.t1[-horizon - 1 :] == NEVER).all()
        assert labels.t1[: -horizon - 1].max() <= seen.known_at[-1] < PANEL.timestamp[60]


def test_an_opening_reads_its_holdout_and_not_the_next(tmp_path: Path) -> None:
    place = holdouts(tmp_path)
    first = opened(place)
    assert place.cut(PANEL, first, "r1").session.max() == 14_079 and place.cut(PANEL).session.max() == 14_059
    last = opened(place, "final", recipe="r2")
    assert place.cut(PANEL, last, "r2").shape == (100, 3)
    assert (first.number, last.number, place.openings()) == (1, 1, (first, last))


def test_a_holdout_is_opened_as_often_as_allowed_and_never_again(tmp_path: Path) -> None:
    place = holdouts(tmp_path)
    assert [opened(place, recipe=f"r{n}", at=n).number for n in range(3)] == [1, 2, 3]
    before = place.path.read_bytes()
    for recipe in ("r0", "r9"):  # not even for a recipe that has seen it
        with pytest.raises(InputError, match="opened 3 of 3 times"):
            opened(place, recipe=recipe)
    opened(place, "final")
    with pytest.raises(InputError, match=r"opened 1 of 1 times \(ann for r1: final check"):
        opened(holdouts(tmp_path), "final")
    assert place.path.read_bytes().startswith(before) and len(place.openings()) == 4


def test_two_who_open_at_the_same_time_do_not_both_get_in(tmp_path: Path) -> None:
    opened(holdouts(tmp_path))

    def attempt(number: int) -> int:
        try:
            return opened(holdouts(tmp_path), "final", recipe=f"r{number}").number
        except InputError:
            return 0

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(attempt, range(12))) == [0] * 11 + [1]


def test_one_who_opens_between_anothers_question_and_record_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(holdouts(tmp_path))
    append = HashChain.append

    def overtaken(self: HashChain, *arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(HashChain, "append", append)
        opened(holdouts(tmp_path), "final", recipe="faster")
        return append(self, *arguments, **named)

    monkeypatch.setattr(HashChain, "append", overtaken)
    with pytest.raises(InputError, match="opened 1 of 1 times"):
        opened(holdouts(tmp_path), "final", recipe="slower")
    assert [opening.recipe for opening in holdouts(tmp_path).openings()] == ["r1", "faster"]


def test_holdouts_are_opened_in_the_order_of_time(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="validation lies before final"):
        opened(holdouts(tmp_path), "final")


@pytest.mark.parametrize("missing", ["recipe", "run", "by", "reason"])
def test_an_opening_without_a_reason_or_a_name_is_refused_and_not_recorded(tmp_path: Path, missing: str) -> None:
    with pytest.raises(InputError, match=missing):
        opened(holdouts(tmp_path), **{missing: "  "})
    assert not (tmp_path / "holdouts.jsonl").exists()


def test_an_opening_serves_its_recipe_alone_and_cannot_be_made_by_hand(tmp_path: Path) -> None:
    place = holdouts(tmp_path)
    first = opened(place)
    with pytest.raises(InputError, match="opened for recipe r1, not for r2"):
        place.cut(PANEL, first, "r2")
    for forged in (replace(first, number=2), replace(first, recipe="r2"), replace(first, name="final")):
        with pytest.raises(InputError, match="not on record"):
            place.cut(PANEL, forged, forged.recipe)
    with pytest.raises(InputError, match="no holdout 'test'"):
        opened(place, "test")


@pytest.mark.parametrize(
    "changed",
    [replace(SEALS[0], openings=4), replace(SEALS[0], first=14_070), replace(SEALS[0], last=14_078), replace(SEALS[0], name="other")],
)
def test_a_seal_on_record_never_changes(tmp_path: Path, changed: Seal) -> None:
    place = holdouts(tmp_path)
    place.declare("ann", 1)
    place.declare("ann", 2)
    assert len(place.path.read_bytes().splitlines()) == 2 and place.openings() == ()
    for use in (lambda other: other.cut(PANEL), lambda other: other.declare("eve", 3), opened):
        with pytest.raises(InputError, match=r"validation is on record as|no holdout 'validation'"):
            use(holdouts(tmp_path, (changed, SEALS[1])))


def test_an_edited_record_closes_everything(tmp_path: Path) -> None:
    place = holdouts(tmp_path)
    opened(place)
    place.path.write_bytes(place.path.read_bytes().replace(b"final check", b"final cheek"))
    with pytest.raises(CorruptionError):
        place.cut(PANEL)
    with pytest.raises(CorruptionError):
        opened(place)


def test_a_forgotten_opening_changes_the_head_that_a_report_pins(tmp_path: Path) -> None:
    place = holdouts(tmp_path)
    opened(place)
    head = place.head()
    place.path.write_bytes(b"".join(place.path.read_bytes().splitlines(keepends=True)[:-1]))
    assert place.openings() == () and place.head() != head


def test_a_panel_that_lies_wholly_behind_the_seal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every row lies behind the seal of 2008-06-30"):
        holdouts(tmp_path).cut(PANEL.rows(60, 100))


@pytest.mark.parametrize(
    "seals",
    [
        (),
        (SEALS[1], SEALS[0]),
        (SEALS[0], replace(SEALS[1], first=14_079)),
        (SEALS[0], replace(SEALS[1], name="validation")),
        (replace(SEALS[0], last=14_000),),
        (replace(SEALS[0], openings=-1),),
        (replace(SEALS[0], name=""),),
    ],
)
def test_seals_that_make_no_sense_are_refused(tmp_path: Path, seals: tuple[Seal, ...]) -> None:
    with pytest.raises(InputError):
        holdouts(tmp_path, seals)


def test_the_rulings_seals_are_those_of_t34() -> None:
    days = [(seal.first, seal.last, seal.openings) for seal in T34_SEALS]
    assert days == [(day_of(date(2015, 1, 1)), day_of(date(2016, 12, 31)), 3), (day_of(date(2017, 1, 1)), None, 1)]
