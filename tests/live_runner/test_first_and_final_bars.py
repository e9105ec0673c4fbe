"""A live session whose feed lost a bar, told it late and corrected another (T4): the journal holds what final bars need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from market import FEED, Exchange, make_world

from live_runner.runner import Runner
from live_runner.simulator.faults import Rule
from live_runner.wire_time import instant_text
from trading_platform.assets.skew_fold import SkewFold, corrections_of, with_bars
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.journaled_row import BAR_KEYS
from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog.registry import feature_set
from trading_platform.registry.bundle import load_bundle
from trading_platform.registry.object_store import FileStore
from trading_platform.research.feed_skew import feed_skew, side_of, signals_pair

MINUTES, LOST, CORRECTED = 30, (3, 2), (5, 6)  # (row, column)
FINAL = {**FEED, "bar_version": "final"}


def test_first_bars_beside_final_ones_from_the_journal_of_a_session(
    tmp_path: Path, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    world = make_world(tmp_path / "home", "1Min", MINUTES)
    truth = world.panel.rows(world.first_row, world.panel.shape[0])
    fields = {name: values.copy() for name, values in truth.fields.items()}
    fields["close"][CORRECTED] = fields["high"][CORRECTED]
    final = replace(truth, fields=fields)
    present = truth.present.copy()
    present[LOST] = False
    first = replace(truth, present=present, fields={name: np.where(present, values, np.nan) for name, values in truth.fields.items()})

    class Told(Runner):
        """Two rows later the stream says the lost bar, and another version of one that came. Then another bundle is asked for."""

        rows = 0

        async def _between_rows(self, session: int) -> None:
            await super()._between_rows(session)
            self.rows += 1
            for kind, (t, s) in (("b", LOST), ("u", CORRECTED)):
                if self.rows == t + 3:
                    await self.day.handle_bar({"T": kind, "S": final.instrument_ids[s][3:], **bar(final, t, s)})
            if self.rows == 10:
                world.stage(redis_url, *other)

    one, other = world.bundle("minutes", "1", {"returns_15": 1.0, "returns_5": 0.5}), world.bundle("contrary", "1", {"returns_5": -1.0})
    world.stage(redis_url, *one)
    nth = LOST[0] * 8 + LOST[1] + 1
    runner = play(world, exchange(world, rules=(Rule("bar", "drop_update", nth),)).url, Told, redis_url=redis_url, confirm_as="anna")
    models, chosen = {i: load_bundle(FileStore(world.root / "bundles"), label, i) for label, i in (one, other)}, feature_set("intraday")
    with JournalReader(runner.settings.journal) as reader:
        cells = corrections_of(reader.records()).cells
        assert len(cells) == 2 == len(list(reader.records(Kind.LATE_BAR)))
        versions = {"told": ((FINAL, FEED), lambda panel: with_bars(panel, cells))}
        reports = SkewFold(world.profile, chosen, models.__getitem__, versions).read(reader.records())
        swapped = [record.body["decision"]["bundle_ids"][0] for record in reader.records(Kind.DECISION)].index(other[1])
    (found,) = reports.values()
    left, right = signals_pair(world.profile, chosen, models[one[1]], final.instrument_ids)
    for signals in (left, right):
        signals.program.load_state(world.inputs.states[0].program.read(world.root / "lake"))
    expected = []
    for rows, label in ((slice(0, swapped), "minutes"), (slice(swapped, MINUTES), "contrary")):
        sides = [side_of(panel.rows(rows.start, rows.stop), signals) for panel, signals in ((final, left), (first, right))]
        expected.append(feed_skew(*sides, chosen, (FINAL, FEED), label))
        for signals in (left, right):
            signals.swap(models[other[1]])
    assert found["told"] == expected and 15 <= swapped < MINUTES - 5
    assert [(report.only_left, report.only_right, report.bars_differ) for report in expected] == [(1, 0, 1), (0, 0, 0)]
    assert min(report.differing for report in expected) > 50 and expected[0].rows_rank > 0


def bar(panel: Panel, t: int, s: int) -> dict[str, object]:
    """A bar in the venue's words."""
    values = {key: float(panel.fields[name][t, s]) for name, key in BAR_KEYS.items() if name in panel.fields}
    return {**values, "t": instant_text(int(panel.timestamp[t]))}
