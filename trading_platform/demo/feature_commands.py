"""`trading-platform features list | check | compute`: the catalogue, its proofs on real bars, and a table of features of any bars file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from trading_platform.assets.pipelines import PIPELINES
from trading_platform.assets.workplace import Workplace
from trading_platform.config import Settings
from trading_platform.contracts.errors import InputError
from trading_platform.demo.screen import Screen

if TYPE_CHECKING:
    from trading_platform.contracts.panel import Panel
    from trading_platform.features.program import FeatureSet
    from trading_platform.features.proof import Verdict

VERDICTS = {True: "passed", False: "FAILED", None: "not judged"}
STYLES = {True: "green", False: "bold red", None: "yellow"}


def list_features(name: str, as_json: bool) -> int:
    """Every set of the catalogue, or the features of one with the present bars each needs."""
    from trading_platform.features.catalog.registry import feature_set, names
    from trading_platform.features.proof import warm_up_of

    if not name:
        return _list_sets([feature_set(each) for each in names()], as_json)
    chosen = feature_set(name)
    rows = [
        {
            "name": each,
            "level": each in chosen.level,
            "warm_up": warm_up_of(chosen.features[each]),
            "expression": str(chosen.features[each]),
        }
        for each in chosen.names
    ]
    if as_json:
        print(json.dumps({"set": chosen.name, "label": chosen.label, "hash": chosen.hash, "features": rows}))
        return 0
    print(f"{chosen.name} {chosen.label}  {chosen.hash}")
    for row in rows:
        print(f"  {row['name']:<28} {row['warm_up']:>5} bars  {'level' if row['level'] else ''}".rstrip())
    return 0


def _list_sets(sets: list[FeatureSet], as_json: bool) -> int:
    rows = [
        {"set": s.name, "label": s.label, "hash": s.hash, "features": len(s.names), "warm_up": s.warm_up, "reads": list(s.fields)}
        for s in sets
    ]
    if as_json:
        print(json.dumps(rows))
        return 0
    for s in sets:
        held = f"{len(s.names):>4} features, ready after {s.warm_up} bars; reads {_few(s.fields)}"
        print(f"{s.name:<20} {s.label:<6} {s.hash[:12]}  {held}")
    return 0


def _few(names: Sequence[str], most: int = 9) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def check_features(settings: Settings, name: str, bars: Path | None, rows: int, symbols: int, seed: int, as_json: bool) -> int:
    """Run every proof on a bars file, or on the newest bars of the settings' source; 0 only if each one passed."""
    import numpy as np

    from trading_platform.features.catalog.registry import feature_set
    from trading_platform.features.proof import CHECKS, Proof
    from trading_platform.research.fresh_process import restart_elsewhere

    chosen = feature_set(name)
    panel = panel_of_source(settings, chosen, rows, symbols) if bars is None else panel_of_file(settings, chosen, bars, rows, symbols)
    proof, generator, verdicts = Proof(chosen, panel), np.random.default_rng(seed), []
    screen = Screen()
    with screen.bars() as shown:
        bar = None if as_json else shown.add(f"proofs of {chosen.name} {chosen.label}", len(CHECKS))
        for number, check in enumerate(CHECKS, 1):
            verdict = proof.run(check, generator)
            verdicts.append(verdict.joined(restart_elsewhere(proof)) if check == "restart" and verdict.passed is not None else verdict)
            if bar is not None:
                bar.at(number)
    if as_json:
        print(json.dumps(_plain(chosen, panel, verdicts)))
    else:
        _show(chosen, panel, verdicts, screen)
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def panel_of_file(settings: Settings, chosen: FeatureSet, bars: Path, rows: int, symbols: int) -> Panel:
    """The newest rows of a bars file. InputError where it lacks a field of the set."""
    from trading_platform.features.perturb import sample
    from trading_platform.market_data.bar_file import newest_rows, open_bars
    from trading_platform.research.feature_table import check_fields

    found = open_bars(bars)
    check_fields(found, chosen)
    return sample(newest_rows(found, Workplace(settings).calendar, rows, symbols), rows, symbols)


def panel_of_source(settings: Settings, chosen: FeatureSet, rows: int, symbols: int) -> Panel:
    """The newest rows of the settings' source, of the timeframe whose pipeline trades the set (daily bars where none does)."""
    from trading_platform.features.perturb import sample
    from trading_platform.market_data.panel import action_table, build_panel
    from trading_platform.market_data.sectors import with_sectors

    place = Workplace(settings)
    timeframe = next((pipe.timeframe for pipe in PIPELINES if chosen.name in (pipe.feature_set, pipe.plain_set)), "1Day")
    source, where = place.source, f"feature set {chosen.name}"
    bars = source.bars(timeframe)
    if not bars.height:
        raise InputError(
            f"no {timeframe} bars: {source.absence(timeframe)}", where, "give --bars FILE.parquet, or --data FOLDER with such bars"
        )
    series = source.field_series(timeframe)
    held = {*bars.columns, *series["field"].unique(), *(["sector"] if source.sectors().height else [])}
    missing = [name for name in chosen.fields if name not in held and not name.endswith("_factor")]
    if missing:
        what = f"the source has no {', '.join(missing)}; needed by {', '.join(chosen.needed_by(missing[0])[:5])}"
        raise InputError(what, where, "give --bars FILE.parquet with these columns")
    stamps = bars["timestamp"].unique().sort()
    newest = bars.filter(bars["timestamp"] >= stamps[max(len(stamps) - rows, 0)])
    optional = [name for name in chosen.fields if name in ("vwap", "trade_count")]
    actions = action_table(source.corporate_actions())
    panel = build_panel(newest, actions, timeframe, place.calendar, fields=optional, field_series=series if series.height else None)
    return sample(with_sectors(panel, source.sectors()) if "sector" in chosen.fields else panel, rows, symbols)


def _plain(chosen: FeatureSet, panel: Panel, verdicts: list[Verdict]) -> dict[str, Any]:
    judged = [
        {
            "check": verdict.check,
            "passed": verdict.passed,
            "cells": verdict.compared,
            "what": verdict.said,
            # repr: the value to the bit, and NaN, which JSON has no word for
            "findings": [
                {**asdict(f), "timestamp": f.when, "expected": repr(f.expected), "got": repr(f.got), "text": f.text}
                for f in verdict.findings
            ],
        }
        for verdict in verdicts
    ]
    rows, width = panel.shape
    return {"set": chosen.name, "label": chosen.label, "hash": chosen.hash, "rows": rows, "instruments": width, "checks": judged}


def _show(chosen: FeatureSet, panel: Panel, verdicts: list[Verdict], screen: Screen) -> None:
    """A table on a terminal, plain lines elsewhere; below it every finding."""
    rows, width = panel.shape
    title = f"{chosen.name} {chosen.label} {chosen.hash[:12]} on {rows} {panel.timeframe} rows of {width} instruments"
    if screen.console.is_terminal:
        table = Table(title=title, title_justify="left")
        for column in ("check", "verdict", "cells", "what was done"):
            table.add_column(column, justify="right" if column == "cells" else "left", overflow="fold")
        for v in verdicts:
            table.add_row(v.check, f"[{STYLES[v.passed]}]{VERDICTS[v.passed]}[/]", f"{v.compared:,}", escape(v.said))
        screen.console.print(table)
    else:
        print(title)
        for v in verdicts:
            print(f"{v.check:<8} {VERDICTS[v.passed]:<10} {v.compared:>12} cells  {v.said}")
    for finding in (finding for verdict in verdicts for finding in verdict.findings):
        print(finding.text)


def compute_features(settings: Settings, name: str, bars: Path, out: Path, chunk: int, timeframe: str, as_json: bool) -> int:
    """Write the features of a bars file as one table; see research.feature_table."""
    from trading_platform.features.catalog.registry import feature_set
    from trading_platform.market_data.bar_file import open_bars
    from trading_platform.research.feature_table import compute_table

    if out.resolve() == bars.resolve():
        raise InputError("--out is the file that is read", str(out), "give another file")
    chosen, screen = feature_set(name), Screen()
    found = open_bars(bars, timeframe)
    with screen.bars() as shown:
        bar = None if as_json else shown.add(f"{chosen.name} of {bars.name}", found.rows)
        said = compute_table(
            found, chosen, out, Workplace(settings).calendar, chunk, lambda done, total: None if bar is None else bar.at(done)
        )
    if as_json:
        print(
            json.dumps(
                {
                    "set": chosen.name,
                    "label": chosen.label,
                    "hash": chosen.hash,
                    "timeframe": found.timeframe,
                    "out": str(out),
                    **asdict(said),
                }
            )
        )
        return 0
    worst = sorted(said.undefined.items(), key=lambda item: -item[1])[:3]
    print(f"{said.rows} rows x {len(chosen.names)} features of {chosen.name} {chosen.label} {chosen.hash[:12]} in {out}")
    print(f"most often undefined: {', '.join(f'{feature} {share:.1%}' for feature, share in worst)}")
    if said.infinite:
        print(f"infinite in the file: {', '.join(f'{column} {count}' for column, count in said.infinite.items())}")
    if said.made_undefined:
        print(f"infinities made undefined: {said.made_undefined}")
    if said.without_factors:
        print("the file has no split_factor and return_factor: prices were taken as they are, splits and dividends included")
    return 0
