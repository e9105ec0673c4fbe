"""First bars against final ones, on the world's own rows: a journal that heard of every correction says what the published bars say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from journals import JournalBook
from world import World

from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.feed_skew import PUBLISHED, TOLD, judge_flips, skew_fold
from trading_platform.assets.panels import panel_of
from trading_platform.assets.pipelines import DAILY
from trading_platform.assets.reading import Reader, reader
from trading_platform.assets.skew_fold import Table, corrections_of, joined_rows, with_bars, with_table
from trading_platform.config import load_profile
from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.feed_skew import FeedSkew, refusals, stored_reports
from trading_platform.contracts.journal import Kind, Record, packed
from trading_platform.contracts.journaled_row import BAR_KEYS, panel_body
from trading_platform.contracts.panel import Panel
from trading_platform.engine.signals import Signals
from trading_platform.features.catalog.registry import feature_set
from trading_platform.registry.bundle import load_bundle
from trading_platform.research.feed_skew import feed_skew, side_of, signals_pair

ROWS = 10
LIVE = {"vendor": "alpaca", "tape": "iex", "bar_version": "first", "session_hours": "regular", "adjustment": "raw"}
Entry = tuple[str, Kind, str, dict[str, Any]]


@dataclass
class Scene:
    """The first rows of the stretch as a runner saw them, one session each.

    changed: (row, column) -> factor on a close. lost: bars that never came. told: the journal has the corrections.
    """

    world: World
    changed: dict[tuple[int, int], float] = field(default_factory=dict)
    lost: tuple[tuple[int, int], ...] = ()
    told: bool = True
    no_model_until: int = 0
    restart_at: int = -1

    def open(self) -> Reader:
        return reader(self.world.instance, self.world.place, DAILY.bars, "universe", DAILY.features)

    def panels(self) -> tuple[Panel, Panel, int]:
        """(final, first, start of the stretch)."""
        final = panel_of(self.open(), DAILY)
        start = sorted(self.world.manifest("features_daily").facts["cutoffs"].values())[0]
        close, present = final.fields["close"].copy(), final.present.copy()
        for (t, s), factor in self.changed.items():
            close[start + t, s] *= factor
        for t, s in self.lost:
            present[start + t, s] = False
        fields = {name: np.where(present, values, np.nan) for name, values in {**final.fields, "close": close}.items()}
        return final, replace(final, fields=fields, present=present), start

    def model(self) -> Any:
        cutoff = sorted(self.world.manifest("features_daily").facts["cutoffs"])[0]
        facts = self.world.manifest("model_bundle", cutoff).facts
        return load_bundle(self.world.place.store, str(facts["label"]), str(facts["bundle_id"]))

    def entries(self) -> list[Entry]:
        """What the journal holds, with the decisions of a runner that had these bars."""
        final, first, start = self.panels()
        chosen, model = feature_set(DAILY.feature_set), self.model()
        signals = Signals(load_profile("demo", DAILY.strategy_class), chosen, None, final.instrument_ids)
        signals.program.step(final.rows(0, start))
        day = [f"desk/paper/{np.datetime64(int(d), 'D')}/1" for d in final.session[start : start + ROWS]]
        found: list[Entry] = [(day[0], Kind.RUN_STARTED, "r", {"feed": LIVE})]
        for t in range(ROWS):
            if t in (0, self.restart_at):
                found.append((day[t], Kind.SNAPSHOT, "signals", {"signals": packed(signals.state_bytes()), "features": chosen.hash}))
            if t == self.no_model_until:
                signals.swap(model)
            row = first.rows(start + t, start + t + 1)
            ids = [model.bundle_id] if signals.model else []
            alpha = signals.step(row).alpha[0]
            nothing = {name: np.zeros(len(alpha), np.int64) for name in ("exposure", "position", "target")}
            times = {"timestamp": int(row.timestamp[0]), "known_at": int(row.known_at[0]), "coverage": 1.0, "equity": 1e6}
            lists = {"orders": [], "checks": [], "check_counts": {}, "instrument_ids": list(row.instrument_ids)}
            decision = {"decision_id": str(t), **times, **nothing, **lists, "bundle_ids": ids, "alpha": alpha}
            found += [(day[t], Kind.SESSION_OPENED, day[t], {"session": int(row.session[0]), "number": 1})]
            body = {"decision": decision, "trace": {"latency_ns": 5}}
            found += [(day[t], Kind.ROW, f"1Day:{t}", panel_body(row)), (day[t], Kind.DECISION, str(t), body)]
        for t, s in (*self.changed, *self.lost) if self.told else ():
            bar = {key: float(final.fields[name][start + t, s]) for name, key in BAR_KEYS.items() if name in final.fields}
            found.append((day[t], Kind.LATE_BAR, final.instrument_ids[s], {**bar, "T": "u", "t": int(final.timestamp[start + t])}))
        return found

    def read(self) -> tuple[dict[str, dict[str, list[FeedSkew]]], list[Record]]:
        entries = enumerate(self.entries(), start=1)
        records = [Record(n, session, n, kind, key, parse(canonical_bytes(body)), "", "") for n, (session, kind, key, body) in entries]
        rows = [record for record in records if record.kind is Kind.ROW]
        cells = corrections_of(records).cells
        fold = skew_fold(self.open(), DAILY, self.world.place.store, cells, rows, records[0])
        return fold.read(records), records


def whole(reports: dict[str, dict[str, list[FeedSkew]]], version: str) -> FeedSkew:
    """All sessions of a version as one report."""
    first, *rest = [report for found in reports.values() for report in found[version]]
    for report in rest:
        first = first.joined(report)
    return first


def alphas(records: list[Record]) -> int:
    from trading_platform.contracts.canonical import decode_array

    return sum(int(np.isfinite(decode_array(r.body["decision"]["alpha"])).sum()) for r in records if r.kind is Kind.DECISION)


def test_a_runner_that_had_the_final_bars_has_no_skew(shared_world: World) -> None:
    reports, records = Scene(shared_world).read()
    assert len(reports) == ROWS
    for version in (TOLD, PUBLISHED):
        found = whole(reports, version)
        assert (found.rows, found.differing, found.flipped, found.bars_differ) == (ROWS, 0, 0, 0)
        assert found.decisions == alphas(records) > 300 and found.cells > 10_000 and found.right == LIVE
        assert found.left == ({**LIVE, "bar_version": "final"} if version == TOLD else shared_world.manifest("bars_daily").facts["feed"])


@pytest.mark.parametrize(
    "scene",
    [
        {"changed": {(2, 5): 1.08}},
        {"lost": ((3, 4), (4, 4))},
        {"changed": {(1, 2): 0.9, (6, 9): 1.2}, "lost": ((2, 30),), "no_model_until": 4},
        {"changed": {(2, 5): 1.08}, "lost": ((7, 1),), "restart_at": 6},
    ],
)
def test_corrections_that_the_journal_heard_of_make_the_published_bars(scene: dict[str, Any], shared_world: World) -> None:
    """Two ways to the final bars, one through the wire's words and one through the lake, come to the same report."""
    reports, _ = Scene(shared_world, **scene).read()
    apart = {"left": {}, "right": {}}
    for found in reports.values():
        told, published = ([replace(report, **apart) for report in found[version]] for version in (TOLD, PUBLISHED))
        assert told == published
    bars = [report for found in reports.values() for report in found[TOLD]]
    assert sum(report.bars_differ for report in bars) == len(scene.get("changed", ()))
    assert sum(report.only_left for report in bars) == len(scene.get("lost", ()))
    assert sum(report.differing for report in bars) > 100
    assert {report.alpha for report in bars} == {"alpha_lightgbm"}


def test_session_by_session_comes_to_what_all_rows_at_once_do(shared_world: World) -> None:
    scene = Scene(shared_world, changed={(4, 5): 1.08}, lost=((6, 3),))
    final, first, start = scene.panels()
    chosen, profile = feature_set(DAILY.feature_set), load_profile("demo", DAILY.strategy_class)
    pair = signals_pair(profile, chosen, scene.model(), final.instrument_ids)
    for signals in pair:
        signals.program.step(final.rows(0, start))
    sides = [side_of(panel.rows(start, start + ROWS), signals) for panel, signals in zip((final, first), pair, strict=True)]
    expected = feed_skew(*sides, chosen, ({**LIVE, "bar_version": "final"}, LIVE), "alpha_lightgbm")
    found = whole(scene.read()[0], TOLD)
    assert replace(found, correlation=0.0) == replace(expected, correlation=0.0)
    assert found.correlation == pytest.approx(expected.correlation) and expected.differing > 100


def test_a_feed_is_judged_before_anything_may_trade_on_it(shared_world: World) -> None:
    """A runner whose bundle is refused (T5) journals rows all the same; the newest bundle says what would have been decided."""
    reports, records = Scene(shared_world, changed={(2, 5): 1.08}, no_model_until=ROWS + 1).read()
    assert alphas(records) == 0
    found = whole(reports, PUBLISHED)
    trading, _ = Scene(shared_world, changed={(2, 5): 1.08}).read()
    assert found.decisions == whole(trading, PUBLISHED).decisions > 300 and found.alpha == "alpha_lightgbm"


def test_what_the_journal_never_heard_of_only_the_published_bars_tell(shared_world: World) -> None:
    reports, _ = Scene(shared_world, changed={(2, 5): 1.5}, told=False).read()
    assert whole(reports, TOLD).differing == 0
    found = whole(reports, PUBLISHED)
    assert found.bars_differ == 1 and found.differing > 50 and found.rows_rank > 0
    sessions = [found[PUBLISHED][0].differing for found in reports.values()]
    assert sessions[:2] == [0, 0] and min(sessions[2:]) > 0, "windows remember"


def test_a_restart_from_a_published_state_ends_the_skew(shared_world: World) -> None:
    """T4: drift never survives the load of a state that was made from final bars."""
    drifting, _ = Scene(shared_world, changed={(1, 5): 1.5}).read()
    final, _, start = Scene(shared_world).panels()
    entries = Scene(shared_world, changed={(1, 5): 1.5}).entries()
    chosen = feature_set(DAILY.feature_set)
    signals = Signals(load_profile("demo", DAILY.strategy_class), chosen, None, final.instrument_ids)
    signals.step(final.rows(0, start + 5))
    at = next(n for n, entry in enumerate(entries) if entry[2] == "1Day:5")
    entries.insert(at, (entries[at][0], Kind.SNAPSHOT, "signals", {"signals": packed(signals.state_bytes()), "features": chosen.hash}))
    records = [Record(n, s, n, kind, key, parse(canonical_bytes(body)), "", "") for n, (s, kind, key, body) in enumerate(entries, 1)]
    scene = Scene(shared_world)
    fold = skew_fold(
        scene.open(), DAILY, shared_world.place.store, corrections_of(records).cells, [r for r in records if r.kind is Kind.ROW], records[0]
    )
    loaded = fold.read(records)
    counts = [[found[TOLD][0].differing for found in reports.values()] for reports in (drifting, loaded)]
    assert counts[0][:5] == counts[1][:5] and min(counts[0][5:]) > 0 and counts[1][5:] == [0] * 5


def test_rows_of_another_feature_version_are_not_compared(shared_world: World) -> None:
    entries = Scene(shared_world).entries()
    entries[1][3]["features"] = "0" * 64
    records = [Record(n, s, n, kind, key, parse(canonical_bytes(body)), "", "") for n, (s, kind, key, body) in enumerate(entries, 1)]
    rows = [record for record in records if record.kind is Kind.ROW]
    assert skew_fold(Scene(shared_world).open(), DAILY, shared_world.place.store, {}, rows, records[0]).read(records) == {}


def test_bars_that_cannot_be_or_belong_to_no_row_are_counted_and_not_used() -> None:
    body = {"o": 1.0, "h": 1.0, "l": 1.0, "c": 1.0, "v": 5, "t": 60}
    told = [("us:AA", body), ("us:AA", {**body, "c": 0.0}), ("us:AA", {**body, "t": 61}), ("us:ZZ", body), ("vix", body)]
    records = [Record(1, "", 1, Kind.ROW, "", {"timestamp": 60, "instrument_ids": ["us:AA"]}, "", "")]
    records += [Record(2, "", 2, Kind.LATE_BAR, name, values, "", "") for name, values in told]
    found = corrections_of(records)
    assert list(found.cells) == [(60, "us:AA")] and found.unused == 4


def test_an_absent_bar_that_came_has_its_sessions_factors_and_its_rows_fields() -> None:
    shape = (3, 2)
    present = np.array([[True, True], [False, True], [True, False]])
    names = ("open", "high", "low", "close", "volume")
    fields = {name: np.where(present, 10.0, np.nan) for name in names} | {
        "split_factor": np.where(present, [4.0, 1.0], np.nan), "return_factor": np.where(present, [4.2, 1.0], np.nan),
        "vix": np.where(present, np.array([[15.0], [16.0], [17.0]]), np.nan),
    }  # fmt: skip
    rows = [
        Panel("1Min", ("us:AA", "us:BB"), np.array([60 * t]), np.array([60 * t + 60]), np.zeros(1, np.int64),
              {name: values[t : t + 1] for name, values in fields.items()}, present[t : t + 1], np.ones((1, 2), np.bool_))
        for t in range(3)
    ]  # fmt: skip
    panel = joined_rows(rows)
    bar = {name: 11.0 for name in names}
    found = with_bars(panel, {(60, "us:AA"): bar, (120, "us:BB"): bar, (180, "us:AA"): bar})
    assert found.present.all() and panel.present.sum() == 4
    assert [found.fields[name][1, 0] for name in ("close", "split_factor", "return_factor", "vix")] == [11.0, 4.0, 4.2, 16.0]
    assert [found.fields[name][2, 1] for name in ("close", "split_factor", "vix")] == [11.0, 1.0, 17.0]
    assert with_bars(panel, {}) is panel
    table = Table({0: 0, 60: 1, 120: 2}, {"us:AA": 0}, {name: np.full((3, 1), 12.0) for name in names}, np.array([[True], [True], [False]]))
    other = with_table(panel, table)
    np.testing.assert_array_equal(other.present, [[True, False], [True, False], [False, False]])
    assert other.fields["close"][1, 0] == 12.0 and other.fields["split_factor"][1, 0] == 4.0 and np.isnan(other.fields["vix"][0, 1])
    assert other.shape == shape


@pytest.fixture
def lifted(world: World) -> Iterator[Callable[[Scene], list[str]]]:
    def go(scene: Scene) -> list[str]:
        book = JournalBook(world.place.settings.journals_dir / "desk-paper.sqlite")
        entries = scene.entries()
        for session_id, kind, key, body in entries:
            book.add(session_id, kind, key, body)
        sessions = list(dict.fromkeys(session_id for session_id, *_ in entries))
        world.instance.add_dynamic_partitions("sessions", sessions)
        for asset in ("live_journal", "feed_skew"):
            bring_current(world.definitions, world.graph, world.place, world.instance, {asset: sessions}, [asset])
        bring_current(world.definitions, world.graph, world.place, world.instance, assets=["feed_skew_reports"])
        return sessions

    yield go


def test_the_sessions_of_a_journal_become_the_report_that_a_runner_asks_for(world: World, lifted: Callable[[Scene], list[str]]) -> None:
    scene = Scene(world, changed={(2, 5): 1.08})
    sessions = lifted(scene)
    expected, _ = scene.read()
    for session_id in sessions:
        facts = world.manifest("feed_skew", session_id).facts
        assert facts["told_differing"] == expected[session_id][TOLD][0].differing == facts["published_differing"]
    stored = {report.left["vendor"]: report for report in stored_reports(world.place.lake.root)}
    assert set(stored) == {"alpaca", "files"} and stored["alpaca"] == whole(expected, TOLD) and len(stored["files"].sessions) == ROWS
    trained_on, chosen = world.manifest("bars_daily").facts["feed"], feature_set(DAILY.feature_set)
    assert refusals(world.place.lake.root, trained_on, LIVE, chosen.hash, "alpha_lightgbm") == stored["files"].failures()
    judged = judge_flips(world.instance, world.place)
    assert judged.metadata["told_share"].value == pytest.approx(stored["alpaca"].flipped / stored["alpaca"].decisions)
    assert judged.passed is (stored["alpaca"].flipped / stored["alpaca"].decisions <= 0.02)
