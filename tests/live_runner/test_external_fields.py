"""VIX in live rows: each cell is the one the training panel has, whatever is late, absent, missed or restarted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from market import CALENDAR, PROFILE, Exchange, World, make_world

from live_runner.clock import Inbox, LockstepClock
from live_runner.control import CommandFolder, new_command
from live_runner.external_fields import ExternalFields
from live_runner.replay import replay
from live_runner.rows import RowAssembler, bar_of
from live_runner.runner import Runner
from live_runner.simulator.faults import Rule
from live_runner.wire_time import instant_text
from trading_platform.calendar import day_of
from trading_platform.contracts.canonical import canonical_bytes, decode_array
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.session_inputs import ExternalField, pointer_path
from trading_platform.market_data.corporate_actions import ActionTable, FactorState
from trading_platform.market_data.panel import join_fields

FEATURES = {"returns_15": 1.0, "returns_5": 0.5, "vix_change_20": 0.1}
MINUTES = 40
MINUTE = 60 * 10**9
FRIDAY = day_of(date(2019, 2, 15))
OPEN = CALENDAR.open_ns(FRIDAY)


def external(max_age: int = 3) -> ExternalFields:
    return ExternalFields((ExternalField("vix", "VIX", max_age),), "1Min", CALENDAR)


def index_bar(at: int, close: float) -> dict[str, Any]:
    return {"T": "b", "S": "VIX", "t": instant_text(at), "c": close}


def assembler(fields: ExternalFields) -> RowAssembler:
    ids = ("us:AA", "us:BB")
    return RowAssembler("1Min", ids, (), FactorState(ActionTable(()), ids), fields)


def print_share(rows: RowAssembler, name: str, at: int) -> None:
    prices = {"o": 10.0, "h": 10.0, "l": 10.0, "c": 10.0, "v": 100.0, "t": instant_text(at)}
    rows.add(bar_of(name, prices, "stream"), -1)


def closed(rows: RowAssembler, at: int, session: int = FRIDAY) -> list[float]:
    panel = rows.close(at, at + MINUTE, session, np.ones(2, np.bool_))
    return list(panel.fields["vix"][0].tolist())


def test_a_row_waits_for_an_index_as_for_a_share_but_only_once_it_has_printed() -> None:
    rows = assembler(external())
    rows.external.add("vix", index_bar(OPEN - 20 * 60 * MINUTE, 15.0))  # yesterday's: nobody waits for it today
    for name in ("us:AA", "us:BB"):
        print_share(rows, name, OPEN)
    assert rows.complete(OPEN)
    rows.external.add("vix", index_bar(OPEN, 16.0))
    for name in ("us:AA", "us:BB"):
        print_share(rows, name, OPEN + MINUTE)
    assert not rows.complete(OPEN + MINUTE)
    rows.external.add("vix", index_bar(OPEN + MINUTE, 16.5))
    assert rows.complete(OPEN + MINUTE)


def test_a_late_index_bar_leaves_the_closed_row_alone_and_is_in_force_from_the_next() -> None:
    rows = assembler(external())
    rows.external.add("vix", index_bar(OPEN, 16.0))
    for minute in range(3):
        print_share(rows, "us:AA", OPEN + minute * MINUTE)
    first, second = closed(rows, OPEN), closed(rows, OPEN + MINUTE)
    assert rows.external.add("vix", index_bar(OPEN + MINUTE, 17.0)) == OPEN + MINUTE
    assert rows.external.repeats("vix", index_bar(OPEN + MINUTE, 17.0)) and not rows.external.repeats("vix", index_bar(OPEN, 99.0))
    assert rows.external.add("vix", index_bar(OPEN + MINUTE, 99.0)) == -1  # the first version counts
    rows.external.add("vix", index_bar(OPEN + 3 * MINUTE, 18.0))  # not known yet when the row is
    third = closed(rows, OPEN + 2 * MINUTE)
    assert [first[0], second[0], third[0]] == [16.0, 16.0, 17.0]
    assert np.isnan([first[1], second[1], third[1]]).all(), "an absent share has no field either"


def test_a_bar_that_comes_twice_is_no_late_one_and_another_version_is() -> None:
    rows = assembler(external())
    prices = {"o": 10.0, "h": 10.0, "l": 10.0, "c": 10.0, "v": 100.0}
    one, other = (bar_of("us:AA", {**prices, "v": volume, "t": instant_text(OPEN)}, "stream") for volume in (100.0, 101.0))
    rows.add(one, -1)
    assert rows.repeats(one) and not rows.repeats(other)
    closed(rows, OPEN)
    assert rows.repeats(one) and not rows.repeats(other)
    print_share(rows, "us:AA", OPEN + MINUTE)
    closed(rows, OPEN + MINUTE)
    assert not rows.repeats(one), "nobody asks a venue for a row before the last one"


@pytest.mark.parametrize(("sessions", "value"), [(1, 16.0), (3, 16.0), (4, float("nan"))])
def test_an_old_value_is_no_value(sessions: int, value: float) -> None:
    rows, session = assembler(external()), FRIDAY
    rows.external.add("vix", index_bar(CALENDAR.close_ns(FRIDAY) - MINUTE, 16.0))
    for _ in range(sessions):
        session = CALENDAR.next_session(session)
    at = CALENDAR.open_ns(session)
    assert rows.external.oldest_usable(session) <= OPEN or sessions > 3
    print_share(rows, "us:AA", at)
    assert closed(rows, at, session)[0] == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("seed", range(20))
def test_bars_in_any_order_and_with_any_gap_say_what_the_panel_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    days = [int(day) for day in CALENDAR.sessions(date(2019, 2, 11), date(2019, 2, 22))]
    stamps = np.concatenate([CALENDAR.bar_starts(day, "1Min")[:6] for day in days])
    session = CALENDAR.sessions_of(stamps)
    printed = np.array([int(day) not in days[3:7] and rng.random() < 0.6 for day in session])  # silent for four sessions
    closes = rng.uniform(10.0, 40.0, len(stamps))
    times = pl.Series("timestamp", stamps[printed]).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC")
    known = pl.Series("known_at", stamps[printed] + MINUTE).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC")
    series = pl.DataFrame({"field": ["vix"] * int(printed.sum()), "timestamp": times, "known_at": known, "value": closes[printed]})
    expected = join_fields(series, stamps + MINUTE, session, CALENDAR)["vix"]
    fields, arrivals = external(), list(np.flatnonzero(printed))
    live = []
    for row, at in enumerate(stamps):
        near = [one for one in arrivals if one <= row or one - row <= rng.integers(0, 4)]  # on time, or early
        for one in rng.permutation(near):
            fields.add("vix", index_bar(int(stamps[one]), float(closes[one])))
            arrivals.remove(one)
        live.append(fields.values(int(at) + MINUTE, int(session[row]))["vix"])
    assert np.array(live).tobytes() == expected.tobytes()
    assert np.isnan(expected[session == days[6]]).all() and np.isfinite(expected[session == days[5]]).all()


def test_no_bar_of_the_index_is_taken_that_is_none() -> None:
    fields = external()
    assert [fields.add("vix", bar) for bar in ({"t": instant_text(OPEN)}, index_bar(OPEN, float("nan")))] == [-1, -1]
    assert fields.add("vix", index_bar(OPEN + 24 * 60 * MINUTE, 16.0)) == -1, "a Saturday"


def test_session_rows_have_no_index() -> None:
    with pytest.raises(InputError, match="vix is fed by an index"):
        ExternalFields((ExternalField("vix", "VIX", 3),), "1Day", CALENDAR)


# ------------------------------------------------------------------ the runner


@pytest.fixture
def world(tmp_path: Path) -> World:
    """VIX is silent at the open (yesterday's value holds), where a life ends, and where the next one begins."""
    profile = replace(PROFILE, execution=replace(PROFILE.execution, limit_offset_bps=1.0))
    return make_world(tmp_path / "home", "1Min", MINUTES, profile=profile, vix=(0, 5, 10, 11, 12, 18, 19, 20, 21))


def vix_of(world: World, runner: Runner) -> tuple[list[bytes], list[bytes]]:
    """(live, panel): the field's cells of every journaled row."""
    with JournalReader(runner.settings.journal) as reader:
        rows = [record.body for record in reader.records(Kind.ROW)]
        assert [record.body for record in reader.records(Kind.LATE_BAR)] == []
    panel = world.panel.fields["vix"][world.first_row :]
    return [decode_array(body["fields"]["vix"]).tobytes() for body in rows], [row.tobytes() for row in panel]


def test_a_session_with_vix_is_what_the_backtest_concludes_and_replays_to_the_same_bytes(
    world: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    label, bundle_id = world.bundle("minutes", "1", FEATURES)
    world.stage(redis_url, label, bundle_id)
    venue = exchange(world)
    runner = play(world, venue.url, redis_url=redis_url)
    live, panel = vix_of(world, runner)
    assert live == panel and not np.isnan(world.panel.fields["vix"][world.first_row :, 0]).any()
    with JournalReader(runner.settings.journal) as reader:
        decisions = [canonical_bytes(record.body["decision"]) for record in reader.records(Kind.DECISION)]
        assert len(list(reader.records(Kind.FILL))) > 5
    assert decisions == [decision.to_bytes() for decision in world.concluded([(0, label, bundle_id)]).decisions]
    assert runner.fold.positions() == venue.positions() and "us:VIX" not in runner.fold.instruments
    again = replay(runner.settings.journal, world.root / "lake", "intraday", str(world.root / "bundles"), world.profile)
    assert (again.decisions, again.different, again.same_code) == (MINUTES, (), True)


class StopsAfterTen(Runner):
    """An operator stops it behind the tenth row."""

    rows = 0

    async def _between_rows(self, session: int) -> None:
        await super()._between_rows(session)
        self.rows += 1
        if self.rows == 10:
            CommandFolder(self.settings.journal).submit(new_command("stop", "anna", "lunch", self.clock.now_ns()))


def pass_minutes(url: str, minutes: int) -> None:
    """Let the market go on without the runner: another client says done until so many minutes have been published, then leaves."""

    async def watch() -> None:
        clock, seen = LockstepClock(url.replace("http", "ws") + "/control", "watcher-key", "watcher"), 0
        await clock.start()
        while seen < minutes:
            seen += (await clock.next([], Inbox())).kind == "bars"
        await clock.close()

    thread = threading.Thread(target=lambda: asyncio.run(watch()))
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("away", [0, 8])
def test_a_restart_knows_the_index_again_and_backfills_what_it_missed(
    away: int, world: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    world.stage(redis_url, *world.bundle("minutes", "1", FEATURES))
    venue = exchange(world)
    play(world, venue.url, StopsAfterTen, redis_url=redis_url)
    if away:
        pass_minutes(venue.url, away)
    runner = play(world, venue.url, redis_url=redis_url)
    live, panel = vix_of(world, runner)
    assert live == panel
    with JournalReader(runner.settings.journal) as reader:
        rows = [(record.body["timestamp"], record.body["provenance"]) for record in reader.records(Kind.ROW)]
        decided = [record.body["decision"]["timestamp"] for record in reader.records(Kind.DECISION)]
    missed = [at for at, provenance in rows if provenance == "backfilled"]
    assert max(away - 3, 0) <= len(missed) <= away
    assert decided == [at for at, _ in rows if at not in missed], "a backfilled row moves the state and decides nothing"
    assert runner.fold.positions() == venue.positions()


@pytest.mark.parametrize("nth", [41, 100])
def test_a_socket_that_drops_within_a_minute_costs_no_bar(
    nth: int, world: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    world.stage(redis_url, *world.bundle("minutes", "1", FEATURES))
    venue = exchange(world, rules=(Rule("bar", "disconnect", nth),))
    runner = play(world, venue.url, redis_url=redis_url)
    live, panel = vix_of(world, runner)
    assert live == panel
    with JournalReader(runner.settings.journal) as reader:
        present = [decode_array(record.body["present"]).tobytes() for record in reader.records(Kind.ROW)]
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    assert present == [row.tobytes() for row in world.panel.present[world.first_row :]]
    assert runner.fold.positions() == venue.positions()


def test_without_the_index_at_the_venue_the_start_says_what_needs_it(
    world: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    venue = exchange(replace(world, indexes=None))
    with pytest.raises(InputError) as refused:
        play(world, venue.url, redis_url=redis_url)
    assert refused.value.what == "the field vix of feature set intraday_vix needs the index VIX, and the venue has none"
    assert refused.value.fix.endswith(": intraday")
    share = replace(world.inputs, external=(ExternalField("vix", "AA", 3),))
    pointer_path(world.root / "lake", "intraday").write_bytes(share.to_bytes())
    with pytest.raises(InputError, match="to the venue that is a share"):
        play(world, venue.url, redis_url=redis_url)
