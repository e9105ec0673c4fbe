"""Live against batch on the world's own rows: equal bits, and what a difference needs to be explained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from journals import JournalBook
from world import World

from trading_platform.assets.live_parity import before_state, era_of, judge_parity, parity_fold
from trading_platform.assets.panels import panel_of
from trading_platform.assets.parity import SessionParity, compare
from trading_platform.assets.pipelines import DAILY
from trading_platform.assets.reading import Reader, reader
from trading_platform.config import load_profile
from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.journal import JournalReader, Kind, Record, packed
from trading_platform.contracts.panel import Panel
from trading_platform.engine.signals import Signals
from trading_platform.features.catalog.registry import feature_set
from trading_platform.registry.bundle import load_bundle

ROWS = 12
SESSION = "default/paper/stretch/1"


def open_reader(world: World) -> Reader:
    return reader(world.instance, world.place, DAILY.bars, "universe", DAILY.features)


def row(panel: Panel, at: int) -> dict:
    one = panel.rows(at, at + 1)
    head = {"timeframe": "1Day", "instrument_ids": list(one.instrument_ids), "timestamp": int(one.timestamp[0])}
    times = {"known_at": int(one.known_at[0]), "session": int(one.session[0])}
    cells = {"fields": {name: values[0] for name, values in one.fields.items()}, "present": one.present[0], "member": one.member[0]}
    return {**head, **times, **cells}


def records(bodies: Iterable[tuple[Kind, str, dict]]) -> list[Record]:
    made = []
    for number, (kind, key, body) in enumerate(bodies, start=1):
        made.append(Record(number, SESSION, number, kind, key, parse(canonical_bytes(body)), "", ""))
    return made


def traded(
    world: World,
    change: dict[tuple[int, int], float] | None = None,
    late: bool = False,
    lost: tuple[int, int] | None = None,
    command: bool = False,
    before: Callable[[list[tuple[Kind, str, dict]], Panel, int], None] = lambda bodies, live, start: None,
) -> SessionParity:
    """Compare the first rows of the stretch as a runner would have seen them.

    change: (row, column) -> factor on that cell's close. lost: the cell whose bar never came. command: an operator gave one.
    before: changes what the journal holds.
    """
    seen = open_reader(world)
    panel = panel_of(seen, DAILY)
    cutoff, start = next(iter(sorted(world.manifest("features_daily").facts["cutoffs"].items())))
    close = panel.fields["close"].copy()
    for (at, column), factor in (change or {}).items():
        close[start + at, column] *= factor
    live = dataclasses.replace(panel, fields={**panel.fields, "close": close})
    if lost is not None:
        live = without(live, start + lost[0], lost[1])
    facts = world.manifest("model_bundle", cutoff).facts
    model = load_bundle(world.place.store, str(facts["label"]), str(facts["bundle_id"]))
    bodies: list[tuple[Kind, str, dict]] = [(Kind.SNAPSHOT, "signals", state_of(live, start))]
    for at in range(start, start + ROWS):
        decision = {"timestamp": int(panel.timestamp[at]), "bundle_ids": [model.bundle_id], "alpha": alphas(world, model, live, start, at)}
        bodies += [(Kind.ROW, str(at), row(live, at)), (Kind.DECISION, str(at), {"decision": decision})]
    if late:
        for at, column in change or {}:
            bodies.insert(0, (Kind.LATE_BAR, panel.instrument_ids[column], {"t": int(panel.timestamp[start + at])}))
    before(bodies, live, start)
    if command:
        bodies.insert(0, (Kind.COMMAND, "c1", {"name": "halt"}))
    journal = records(bodies)
    sessions = sorted({int(day) for day in panel.session[start : start + ROWS]})
    found = compare(lambda: journal, parity_fold(seen, DAILY, sessions, world.place.store))
    return found.get(SESSION, SessionParity(SESSION))


def state_of(live: Panel, start: int) -> dict:
    """What a runner journals of its signals before its first row."""
    chosen = feature_set(DAILY.feature_set)
    signals = Signals(load_profile("demo", DAILY.strategy_class), chosen, None, live.instrument_ids)
    signals.program.step(live.rows(0, start))
    return {"signals": packed(signals.state_bytes()), "features": chosen.hash}


def without(panel: Panel, at: int, column: int) -> Panel:
    """The panel without one bar."""
    present = panel.present.copy()
    present[at, column] = False
    fields = {name: np.where(present, values, np.nan) for name, values in panel.fields.items()}
    return dataclasses.replace(panel, fields=fields, present=present)


def alphas(world: World, model: object, live: Panel, start: int, at: int) -> np.ndarray:
    """What the bundle said live: features from the panel's beginning, the row's cross-section."""
    from trading_platform.engine.inference import Inference
    from trading_platform.features.program import Program

    chosen = feature_set(DAILY.feature_set)
    features = Program(chosen, live.instrument_ids).step(live.rows(0, at + 1))[-1]
    columns = [chosen.names.index(name) for name in model.config.features]  # type: ignore[attr-defined]
    inputs = np.ascontiguousarray(features[:, columns])
    return Inference(model).alphas(inputs, live.present[at] & np.isfinite(inputs).all(axis=1))  # type: ignore[arg-type]


def test_a_runner_that_saw_the_same_bars_computed_the_same_bits(shared_world: World) -> None:
    found = traded(shared_world)
    assert found.rows == ROWS and found.cells > 10_000 and len(found.alphas) > 400
    assert (found.differing, found.flipped, found.unexplained, found.rank_correlation) == (0, [], 0, 1.0)


def test_a_bar_that_was_another_one_live_is_unexplained_and_named(shared_world: World) -> None:
    found = traded(shared_world, {(3, 5): 1.05})
    assert found.differing > 0 and found.unexplained > 0
    assert {worst.instrument_id for worst in found.worst} and found.worst[0].cause == "unexplained"
    assert found.rank_correlation < 1.0


def test_a_late_bar_in_the_journal_explains_its_own_instrument(shared_world: World) -> None:
    panel = panel_of(open_reader(shared_world), DAILY)
    found = traded(shared_world, {(3, 5): 1.05}, late=True)
    own = [worst for worst in found.worst if worst.instrument_id == panel.instrument_ids[5]]
    assert own and {worst.cause for worst in own} == {"late bar"}
    assert found.causes["late bar"] > 0


def test_a_bar_that_never_came_explains_its_instrument_and_the_ranks_of_others_and_no_more(shared_world: World) -> None:
    found = traded(shared_world, lost=(3, 5))
    assert found.differing > 0 and found.unexplained == 0 and set(found.causes) == {"coverage"}
    also = traded(shared_world, {(3, 2): 1.05}, lost=(3, 5))
    assert also.unexplained > 0 and also.causes["coverage"] > 0


def test_the_state_that_the_runner_started_from_is_compared_not_the_one_it_should_have_had(shared_world: World) -> None:
    def stale(bodies: list[tuple[Kind, str, dict]], live: Panel, start: int) -> None:
        bodies[0] = (Kind.SNAPSHOT, "signals", state_of(live, start - 3))

    assert traded(shared_world, before=stale).unexplained > 0


def test_rows_of_another_feature_version_are_not_compared(shared_world: World) -> None:
    def other(bodies: list[tuple[Kind, str, dict]], live: Panel, start: int) -> None:
        bodies[0][2]["features"] = "0" * 64

    journal = traded(shared_world, before=other)
    assert (journal.rows, journal.unexplained) == (0, 0)


def test_an_operators_command_explains_no_feature(shared_world: World) -> None:
    assert traded(shared_world, {(3, 5): 1.05}, command=True).unexplained > 0


def test_an_era_is_read_from_the_state_that_was_journaled_before_it(tmp_path: Path) -> None:
    book = JournalBook(tmp_path / "desk-paper.sqlite")
    for state, name, day in (("s1", "desk/paper/2015-01-01/1", 16436), ("s2", "desk/paper/2015-01-01/2", 16436)):
        book.add(name, Kind.SNAPSHOT, "signals", {"signals": state})
        book.add(name, Kind.STATE, "runner", {"state": "READY"})
        book.opened(name, day)
        book.add(name, Kind.SNAPSHOT, "fold", {})
    with JournalReader(tmp_path / "desk-paper.sqlite") as reader:
        opened = list(reader.records(Kind.SESSION_OPENED))
        firsts = [next(reader.records(after=before_state(reader, era_of(opened, each.session_id)))).body for each in opened]
    assert firsts == [{"signals": "s1"}, {"signals": "s2"}]


def test_a_repeated_day_begins_a_new_era_and_a_restart_does_not() -> None:
    opened = [
        dataclasses.replace(record, session_id=name, body={"session": day})
        for record, (name, day) in zip(
            records([(Kind.SESSION_OPENED, "", {})] * 5), [("a", 10), ("b", 11), ("b", 11), ("c", 11), ("d", 12)], strict=True
        )
    ]
    assert [era_of(opened, name) for name in "abcd"] == [0, 0, 3, 3]


@pytest.mark.parametrize(("unexplained", "passed"), [(0, True), (3, False)])
def test_unexplained_differences_fail_the_check(world: World, unexplained: int, passed: bool) -> None:
    session = "default/paper/2014-12-31/1"
    world.instance.add_dynamic_partitions("sessions", [session])
    before = world.manifest("universe")
    world.publish("live_parity", session, before, (), {"unexplained": unexplained})
    assert judge_parity(world.instance, world.place).passed is passed
