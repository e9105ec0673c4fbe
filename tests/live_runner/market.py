"""A small synthetic market, published for a runner as the platform publishes a real one, and an exchange that plays it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import redis
from bundles import make_bundle, promote_to_paper

from live_runner.settings import RunnerSettings
from live_runner.simulator.server import Run, Simulator, bind, serve
from live_runner.simulator.settings import VenueSettings
from live_runner.simulator.tape import load_tape
from trading_platform.backtest.run import BacktestResult, Sessions
from trading_platform.backtest.run import run as run_backtest
from trading_platform.calendar import MarketCalendar, date_of
from trading_platform.contracts.instruments import Instrument
from trading_platform.contracts.model import ModelConfig
from trading_platform.contracts.panel import Panel
from trading_platform.contracts.profile import Execution, Limits, ModelRules, Profile, Strategy
from trading_platform.contracts.session_inputs import (
    ExternalField,
    FileRef,
    SessionInputs,
    StateRef,
    Universe,
    encode_actions,
    pointer_path,
)
from trading_platform.engine.signals import Signals, joined
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.program import FeatureSet, Program
from trading_platform.market_data.corporate_actions import ActionTable, CorporateAction, FactorState
from trading_platform.market_data.panel import build_panel
from trading_platform.registry.bundle import load_bundle
from trading_platform.registry.object_store import FileStore
from trading_platform.registry.slots import Slots

FEED = {"vendor": "simulator", "tape": "iex", "bar_version": "first", "adjustment": "raw"}
CALENDAR = MarketCalendar()
FIRST = date(2013, 1, 2)
WARM_UP = 140  # daily rows before the first that is traded
SYMBOLS = ("AA", "BB", "CC", "DD", "EE", "FF", "GG", "HH")
ACCOUNT = "tester"
PATIENCE_S = 60.0

PROFILE = Profile(
    name="test",
    limits=Limits(max_position=0.30, max_gross=1.0, max_sector=1.0, max_daily_drawdown=0.5, max_risk_per_trade=0.05, max_participation=0.1),
    strategy=Strategy(entry_rank=0.75, exit_rank=0.55, target_gross=0.6, annual_volatility_target=0.6, no_trade_band=0.05),
    execution=Execution(limit_offset_bps=100.0),
    models=ModelRules(shadow_rows=3, max_transition_turnover=0.10),
)


@dataclass
class World:
    """Files of one market below `root`. panel: every row, warm-up included; first_row: the first that is traded."""

    root: Path
    timeframe: str
    profile: Profile
    panel: Panel
    first_row: int
    instruments: tuple[Instrument, ...]
    inputs: SessionInputs
    universe: Universe
    actions: tuple[CorporateAction, ...]
    bars: Path
    actions_file: Path
    first: date
    last: date
    indexes: Path | None = None
    bundles: dict[str, str] = field(default_factory=dict)

    @property
    def slot(self) -> str:
        return self.inputs.slot

    def bundle(
        self, name: str, version: str, weights: dict[str, float], *, promoted: bool = True, golden_off_by: float = 0.0, **changes: Any
    ) -> tuple[str, str]:
        """Write (and promote) a bundle; returns (label, bundle_id)."""
        config = self.config(name, version, tuple(sorted(weights)), **changes)
        values = np.array([weights[name] for name in sorted(weights)])
        bundle_id = make_bundle(FileStore(self.root / "bundles"), config, values, golden_off_by)
        if promoted:
            promote_to_paper(self.root / "ledger" / "promotion.jsonl", config, bundle_id, ACCOUNT)
        self.bundles[f"{name}_v{version}"] = bundle_id
        return f"{name}_v{version}", bundle_id

    def config(self, name: str, version: str, features: tuple[str, ...], **changes: Any) -> ModelConfig:
        daily = self.timeframe == "1Day"
        session = int(self.panel.session[self.first_row])
        values: dict[str, Any] = {
            "name": name, "version": version, "slot": self.slot, "timeframe": self.timeframe, "feature_set": self.inputs.feature_set,
            "feature_hash": self.inputs.feature_hash, "features": features, "volatility": "volatility_20d" if daily else "volatility_60",
            "atr": "atr_20_pct", "horizon": 5, "target": "forward_return", "trained_from": int(self.panel.session[0]),
            "trained_through": CALENDAR.previous_session(session), "feed": FEED,
        }  # fmt: skip
        return ModelConfig(**{**values, **changes})

    def concluded(self, schedule: list[tuple[int, str, str]]) -> BacktestResult:
        """What the backtest concludes on the traded rows; schedule: (first row, label, bundle id)."""
        traded = self.panel.rows(self.first_row, self.panel.shape[0])
        store, features = FileStore(self.root / "bundles"), feature_set(self.inputs.feature_set)
        signals = Signals(self.profile, features, None, self.panel.instrument_ids)
        signals.program.load_state(self.inputs.states[0].program.read(self.root / "lake"))
        blocks, ages = [], np.zeros(traded.shape[0], np.int64)
        for (start, label, bundle_id), end in zip(schedule, [*(row for row, _, _ in schedule[1:]), traded.shape[0]], strict=True):
            model = load_bundle(store, label, bundle_id)
            signals.swap(model)
            blocks.append(signals.step(traded.rows(start, end)))
            ages[start:end] = CALENDAR.positions(traded.session[start:end]) - CALENDAR.position(model.config.trained_through)
        dates = [date_of(int(day)).isoformat() for day in traded.session]
        return run_backtest(
            self.profile,
            traded,
            joined(blocks),
            Sessions.of(traded, CALENDAR),
            self.actions,
            self.instruments,
            1_000_000.0,
            sector=self.universe.sector_codes(),
            adv_lots=np.array([self.universe.adv_row(day) for day in dates]),
            model_age=ages,
            audit=True,
            models_schedule=[(row, (bundle_id,)) for row, _, bundle_id in schedule],
            hashes={"universe": self.universe.hash, "corporate_actions": ActionTable(self.actions).hash, "calendar": CALENDAR.hash},
            feature_hash=features.hash,
        )

    def publish(self, **changes: Any) -> None:
        """Publish the session's inputs, with some of them changed."""
        self.inputs = dataclasses.replace(self.inputs, **changes)
        pointer = pointer_path(self.root / "lake", self.inputs.pipeline)
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.write_bytes(self.inputs.to_bytes())

    def state(self, traded: int, features: FeatureSet | None = None, panel: Panel | None = None) -> StateRef:
        """Write the state behind `traded` rows of the stretch, of other features or final bars where given."""
        features = features or feature_set(self.inputs.feature_set)
        return _state(self.root / "lake", features, panel or self.panel, self.actions, self.first_row + traded)

    def stage(self, url: str, label: str, bundle_id: str | None) -> None:
        """Ask for a model in Redis, as a sensor would."""
        client = redis.Redis.from_url(url)
        Slots(client, ACCOUNT, "paper").stage(self.slot, label, bundle_id)
        client.close()


def prices(generator: np.random.Generator, rows: int, width: int, scale: float) -> dict[str, np.ndarray]:
    """OHLCV on the cent grid with persistent drifts, so that ranks change slowly and something is held."""
    drift = np.repeat(generator.normal(0.0, scale, size=(rows // 8 + 1, width)), 8, axis=0)[:rows]
    close = 60.0 * np.exp(np.cumsum(drift + generator.normal(0.0, scale, size=(rows, width)), axis=0))
    open_ = np.vstack([close[:1], close[:-1]]) * np.exp(generator.normal(0.0, scale / 2, size=close.shape))
    spread = np.abs(generator.normal(0.0, scale, size=(2, *close.shape)))
    high, low = np.maximum(open_, close) * np.exp(spread[0]), np.minimum(open_, close) * np.exp(-spread[1])
    volume = generator.integers(200_000, 900_000, size=close.shape).astype(np.float64)
    rounded = {"open": np.round(open_, 2), "close": np.round(close, 2), "high": np.ceil(high * 100) / 100, "low": np.floor(low * 100) / 100}
    return {**rounded, "volume": volume}


def make_world(
    root: Path, timeframe: str = "1Day", traded: int = 12, seed: int = 3, profile: Profile = PROFILE, vix: Sequence[int] | None = None
) -> World:
    """Publish a market: 140 sessions (one of minutes) of history, then the rows to trade; daily ones with a split and two dividends.

    vix: rows to trade in which the index VIX does not print; without it (None) there is no index.
    """
    daily = timeframe == "1Day"
    days = [int(d) for d in CALENDAR.sessions(FIRST, date(2013, 12, 31))]
    if daily:
        days = days[: WARM_UP + traded]
        stamps, sessions = CALENDAR.midnights_ns(np.array(days, dtype=np.int64)), np.array(days, dtype=np.int64)
        first_row = WARM_UP
    else:
        days = days[:2]
        starts = [CALENDAR.bar_starts(day, timeframe) for day in days]
        starts[1] = starts[1][:traded]
        stamps, sessions = np.concatenate(starts), np.repeat(days, [len(s) for s in starts])
        first_row = len(starts[0])
    table = prices(np.random.default_rng(seed), len(stamps), len(SYMBOLS), 0.012 if daily else 0.0008)
    present = np.ones((len(stamps), len(SYMBOLS)), np.bool_)
    actions = ()
    if daily:
        actions = (
            CorporateAction(days[first_row + 4], "us:AA", split_ratio=4.0),
            CorporateAction(days[first_row + 5], "us:CC", cash_dividend=0.337),
            CorporateAction(days[first_row + 5], "us:GG", cash_dividend=0.253),
        )
        for name in ("open", "high", "low", "close"):
            table[name][first_row + 4 :, 0] = np.round(table[name][first_row + 4 :, 0] / 4.0, 2)
        table["high"][:, 0] = np.maximum.reduce([table[n][:, 0] for n in ("open", "high", "low", "close")])
        table["low"][:, 0] = np.minimum.reduce([table[n][:, 0] for n in ("open", "low", "close")])
        table["volume"][first_row + 4 :, 0] *= 4.0
    else:
        present[first_row + 7 : first_row + 9, 2] = False  # a silent name
    silent = None if vix is None else [7, 31, *(first_row + row for row in vix)]
    return _publish(root, timeframe, profile, stamps, sessions, table, present, actions, first_row, silent)


def _instants(name: str, stamps: np.ndarray) -> pl.Series:
    return pl.Series(name, stamps).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC")


def _index(root: Path, stamps: np.ndarray, silent: Sequence[int]) -> tuple[Path, pl.DataFrame]:
    """An index's bars for the exchange, and the same as a field's series."""
    said = np.delete(np.arange(len(stamps)), list(silent))
    closes = 16.0 + 0.01 * np.cumsum(np.random.default_rng(5).integers(-20, 21, len(stamps)))[said]
    times = {name: _instants(name, stamps[said] + later) for name, later in (("timestamp", 0), ("known_at", 60 * 10**9))}
    prices = {name: closes for name in ("open", "high", "low", "close")}
    bars = pl.DataFrame({"symbol": ["VIX"] * len(said), "timestamp": times["timestamp"], **prices, "volume": [0.0] * len(said)})
    bars.write_parquet(root / "indexes.parquet")
    series = {"field": ["vix"] * len(said), **times, "value": closes}
    return root / "indexes.parquet", pl.DataFrame(series)


def _publish(
    root: Path, timeframe: str, profile: Profile, stamps: np.ndarray, sessions: np.ndarray, table: dict[str, np.ndarray],
    present: np.ndarray, actions: tuple[CorporateAction, ...], first_row: int, silent: Sequence[int] | None,
) -> World:  # fmt: skip
    daily = timeframe == "1Day"
    lake = root / "lake"
    frame = _frame(stamps, table, present)
    lake.mkdir(parents=True)
    bars, actions_file = root / "bars.parquet", root / "actions.parquet"
    frame.drop("instrument_id").write_parquet(bars)
    rows = [
        {"symbol": a.instrument_id[3:], "ex_date": date_of(a.ex_date), "split_ratio": a.split_ratio, "cash_dividend": a.cash_dividend}
        for a in actions
    ]
    pl.DataFrame(
        rows, schema={"symbol": pl.String, "ex_date": pl.Date, "split_ratio": pl.Float64, "cash_dividend": pl.Float64}
    ).write_parquet(actions_file)
    delay = int(profile.vendor_delay_s * 1e9) if daily else 0
    indexes, series = (None, None) if silent is None else _index(root, stamps, silent)
    panel = build_panel(frame, ActionTable(actions), timeframe, CALENDAR, field_series=series, vendor_delay_ns=delay)
    instruments = tuple(Instrument(name, name[3:]) for name in panel.instrument_ids)
    dates = [date_of(int(day)).isoformat() for day in sorted(set(sessions.tolist()))]
    universe = Universe(
        panel.instrument_ids,
        {name: ("tech" if column % 2 else "energy") for column, name in enumerate(panel.instrument_ids)},
        {dates[0]: panel.instrument_ids},
        {dates[0]: {name: 500_000.0 for name in panel.instrument_ids}},
    )
    features = feature_set("core" if daily else "intraday" if silent is None else "intraday_vix")
    state = _state(lake, features, panel, actions, first_row)
    inputs = SessionInputs(
        pipeline="daily" if daily else "intraday",
        slot="daily" if daily else "intraday",
        timeframe=timeframe,
        feature_set=features.name,
        feature_hash=features.hash,
        feed=FEED,
        calendar="XNYS",
        calendar_hash=CALENDAR.hash,
        instruments=instruments,
        universe=_write(lake, "universe/universe.json", universe.to_bytes()),
        corporate_actions=_write(
            lake, "actions.json", encode_actions([(a.ex_date, a.instrument_id, a.split_ratio, a.cash_dividend) for a in actions])
        ),
        external=() if silent is None else (ExternalField("vix", "VIX", 3),),
        states=(state,),
    )
    first, last = date_of(int(sessions[first_row])), date_of(int(sessions[-1]))
    world = World(
        root, timeframe, profile, panel, first_row, instruments, inputs, universe, actions, bars, actions_file, first, last, indexes
    )
    world.publish()
    return world


def _state(lake: Path, features: FeatureSet, panel: Panel, actions: tuple[CorporateAction, ...], rows: int) -> StateRef:
    """The state behind the first rows of a panel."""
    program, factors = Program(features, panel.instrument_ids), FactorState(ActionTable(actions), panel.instrument_ids)
    program.step(panel.rows(0, rows))
    for t in range(rows):
        factors.open_row(int(panel.session[t]))
        factors.close_row(panel.fields["close"][t], panel.present[t])
    folder = f"feature-state/{features.hash[:8]}/{rows}"
    return StateRef(
        int(panel.known_at[rows - 1]),
        _write(lake, f"{folder}/program.npz", program.state_bytes()),
        _write(lake, f"{folder}/factors.npz", factors.state_bytes()),
    )


def _frame(stamps: np.ndarray, table: dict[str, np.ndarray], present: np.ndarray) -> pl.DataFrame:
    row, column = np.nonzero(present)
    names = np.array(SYMBOLS)[column]
    return pl.DataFrame(
        {
            "symbol": names,
            "instrument_id": np.char.add("us:", names),
            "timestamp": _instants("timestamp", stamps[row]),
            **{name: values[row, column] for name, values in table.items()},
        }
    )


def _write(lake: Path, path: str, data: bytes) -> FileRef:
    (lake / path).parent.mkdir(parents=True, exist_ok=True)
    (lake / path).write_bytes(data)
    return FileRef.of(path, data)


def settings_of(world: World, url: str, **changes: Any) -> RunnerSettings:
    """A lock-step runner's settings for a world and an exchange."""
    values: dict[str, Any] = {
        "account": ACCOUNT, "mode": "paper", "pipeline": world.inputs.pipeline, "lake": world.root / "lake",
        "journal": world.root / "journals" / f"{ACCOUNT}-paper.sqlite", "ledger": world.root / "ledger" / "promotion.jsonl",
        "object_store": str(world.root / "bundles"), "profile": world.profile, "key": "key", "secret": "secret",
        "broker_url": url, "lockstep": True,
    }  # fmt: skip
    return RunnerSettings(**{**values, **changes})


class Exchange:
    """The simulator in a thread of the test; `venue` is the truth to compare with."""

    def __init__(self, world: World, **plan: Any) -> None:
        settings = VenueSettings(requests_per_minute=0, half_spread_bps=PROFILE.costs.half_spread_bps, **plan.pop("settings", {}))
        run = Run(settings, world.first, world.last, stay=True, **plan)
        self.simulator = Simulator(
            run, load_tape(world.bars, world.timeframe, CALENDAR, world.actions_file if world.actions else None, world.indexes), CALENDAR
        )
        self.venue = self.simulator.venue
        self.ended = threading.Event()
        self._listening = threading.Event()
        self._listener = bind(0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._serve, args=(run,), daemon=True)
        self._thread.start()
        assert self._listening.wait(PATIENCE_S)

    def _say(self, message: dict[str, Any]) -> None:
        (self._listening if "listening" in message else self.ended).set()

    def _serve(self, run: Run) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(serve(run, self.simulator, self._listener, self._say))
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)

    def stop(self) -> None:
        if self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(PATIENCE_S)

    def positions(self) -> dict[str, int]:
        """Signed lots per instrument id."""
        return {f"us:{symbol}": held.lots for symbol, held in self.venue.account.positions.items()}
