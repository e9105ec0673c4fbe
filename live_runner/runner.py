"""The live runner: one loop that wakes, looks at its inbox, its timers and its commands, and does what is due.

STARTING -> RECONCILING -> READY -> STOPPED, with HALTED, REDUCING or FLATTENING in place of READY while a kill level is latched.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import uuid
from collections.abc import Callable

from live_runner import control
from live_runner.broker import AlpacaBroker, Broker
from live_runner.clock import Inbox, LockstepClock, Pace, PacedClock, Wake, WallClock
from live_runner.commands import Operator
from live_runner.copies import Copies
from live_runner.desk import Desk
from live_runner.external_fields import ExternalFields, check_indexes
from live_runner.feature_cache import FeatureFiller
from live_runner.feed import DATA, TRADE_UPDATES, BarStream, TradeUpdates
from live_runner.flatten import Flattener
from live_runner.fold import action_table, build_fold
from live_runner.journal import AccountLock, Journal
from live_runner.kill_points import KillPoint
from live_runner.metrics import Metrics
from live_runner.model_slot import Authority
from live_runner.naked import NakedWatch
from live_runner.package_lock import package_lock
from live_runner.reconcile import Gate
from live_runner.recorder import Recorder
from live_runner.recovery import FOLD, load_published_state, recover, sessions_of_date
from live_runner.rows import RowAssembler
from live_runner.settings import RunnerSettings
from live_runner.shared_state import SharedState
from live_runner.swap import Swapper
from live_runner.trading_day import Identity, TradingDay
from live_runner.warm_up import warm_up
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.errors import InputError, TradingError, TransientError
from trading_platform.contracts.journal import Kind
from trading_platform.contracts.model import Model
from trading_platform.contracts.session_inputs import SessionInputs, Universe
from trading_platform.engine.engine import engine_hash
from trading_platform.market_data.corporate_actions import ActionTable
from trading_platform.registry.bundle import load_bundle
from trading_platform.registry.object_store import open_store

STATES = ("STARTING", "RECONCILING", "READY", "HALTED", "REDUCING", "FLATTENING", "STOPPED")
STATE_OF = {KillLevel.NONE: "READY", KillLevel.HALT_NEW: "HALTED", KillLevel.REDUCE: "REDUCING", KillLevel.FLATTEN: "FLATTENING"}
MOST_TROUBLES = 5  # failures in a row before new risk stops


class Runner:
    """One account, one pipeline, one process life. `run` returns when it was told to stop or the simulation ended."""

    def __init__(self, settings: RunnerSettings, say: Callable[[str], None] = lambda text: None) -> None:
        self.settings = settings
        self._say = say
        self.state = "STARTING"
        self.run_id = str(uuid.uuid4())
        self._stop = False
        self._inbox = Inbox()
        self._kill = KillPoint(settings.kill_at)
        self.metrics = Metrics()
        self._connections = 0
        self._unprotected = False
        self._hands_off: frozenset[str] = frozenset()
        self._asked_of_row = -1  # the row whose loss the venue's equity has been asked about
        self._troubles = 0
        self._lock = AccountLock(settings.journal)
        try:
            self._build()
        except BaseException:
            self._lock.release()
            raise

    # -------------------------------------------------------------- assembly

    def _build(self) -> None:
        settings = self.settings
        self.metrics.serve(settings.metrics_port)
        inputs = self.inputs = SessionInputs.load(settings.lake, settings.pipeline)
        universe = Universe.from_bytes(inputs.universe.read(settings.lake))
        self.calendar = MarketCalendar(inputs.calendar)
        if self.calendar.hash != inputs.calendar_hash:
            raise InputError("the calendar differs from the one the inputs were made with", inputs.calendar, "install the locked packages")
        self._store = open_store(settings.object_store)
        actions = action_table(inputs, settings.lake)
        self.fold = build_fold(inputs, actions, self.calendar, settings.profile, self._load_model)
        engine = self.fold.engine
        self.clock = self._clock()
        self.journal = Journal(settings.journal, self._kill, self.metrics.commit.observe)
        self.recorder = Recorder(self.journal, self.fold, self.clock, f"{settings.account}/{settings.mode}")
        self.broker: Broker = AlpacaBroker(settings.key, settings.secret, settings.mode, settings.broker_url, "", settings.feed)
        self.desk = Desk(self.broker, self.fold, self.recorder, self.clock, self._kill, self.metrics, settings.account, self.drain)
        self.gate = Gate(self.broker, self.fold, self.recorder, self.desk, patient=not settings.lockstep)
        self.shared = SharedState(settings.redis_url, settings.account, settings.mode)
        self.copies = Copies(self.shared, self.metrics, lambda: self.fold.active.label)
        self.recorder.watched = self.copies.of
        self.features = FeatureFiller(settings, self.fold, universe, self.metrics)
        self.swapper = self._swapper()
        self.flattener = Flattener(self.fold, self.recorder, self.desk, self.calendar)
        self.naked = NakedWatch(self.fold, self.recorder, self.desk, self.metrics, settings.profile.limits.max_naked_seconds)
        self.operator = Operator(
            settings.journal, inputs.slot, self.fold, self.recorder, self.desk, self.swapper, self.shared, self.calendar
        )
        self.external = ExternalFields(inputs.external, inputs.timeframe, self.calendar)
        self.day = self._trading_day(
            universe, actions, RowAssembler(inputs.timeframe, engine.instrument_ids, inputs.fields, self.fold.factors, self.external)
        )
        self.desk.before, self.desk.splitting, self.desk.halt = self.day.apply_actions, self.day.splitting, self._halt
        self.updates = TradeUpdates(settings.key, settings.secret, settings.mode, self._url("/stream"), self._inbox)
        symbols = [*(instrument.symbol for instrument in inputs.instruments), *self.external.symbols]
        self.bars = None
        if inputs.timeframe != "1Day":
            self.bars = BarStream(settings.key, settings.secret, settings.feed, self._url(f"/v2/{settings.feed}"), symbols, self._inbox)

    def _swapper(self) -> Swapper:
        settings, inputs = self.settings, self.inputs
        feed = settings.live_feed(inputs.feed)
        authority = Authority(self._store, settings.ledger, settings.account, settings.mode, inputs, feed, settings.lake)
        return Swapper(
            inputs.slot,
            authority,
            self.fold,
            self.recorder,
            self.shared,
            settings.profile,
            self.calendar,
            self.metrics,
            settings.confirm_as,
        )

    def _clock(self) -> Pace:
        if self.settings.lockstep:
            return LockstepClock(self.settings.websocket_url + "/control", self.settings.key)
        return PacedClock(self.settings.speed, lambda: self.broker.clock_ns()) if self.settings.speed else WallClock()

    def _url(self, path: str) -> str:
        return self.settings.websocket_url + path if self.settings.broker_url else ""

    def _trading_day(self, universe: Universe, actions: ActionTable, assembler: RowAssembler) -> TradingDay:
        settings = self.settings
        lock, build = package_lock(), f"{importlib.metadata.version('trading-platform')}+{engine_hash()[:12]}"
        return TradingDay(
            broker=self.broker,
            clock=self.clock,
            fold=self.fold,
            recorder=self.recorder,
            desk=self.desk,
            gate=self.gate,
            calendar=self.calendar,
            universe=universe,
            actions=actions,
            profile=settings.profile,
            assembler=assembler,
            identity=Identity(settings.account, settings.mode, self.run_id, build, lock),
            metrics=self.metrics,
            numbers=self._numbers,
            model_age=self._model_age,
            authorize=self._authorize,
            between_rows=self._between_rows,
        )

    def _load_model(self, label: str, bundle_id: str) -> Model:
        return load_bundle(self._store, label, bundle_id)

    def _numbers(self, date: str) -> int:
        with self.journal.reader() as reader:
            return sessions_of_date(reader, date)

    def _model_age(self, session: int) -> int:
        model = self.fold.engine.signals.model
        age = 0 if model is None else self.swapper.age(model, session)
        self.metrics.model_age.set(age)
        return age

    # ------------------------------------------------------------------ life

    async def run(self) -> None:
        """Start, loop, stop. TradingError where it cannot start or must not go on."""
        try:
            await self.start()
            await self.loop()
        finally:
            await self.stop()

    async def start(self) -> None:
        """Recover, connect, meet the venue, become READY."""
        with self.journal.reader() as reader:
            known = recover(reader, self.fold)
        await self.clock.start()
        account = await self.broker.account()
        await check_indexes(self.inputs, self.broker)
        await self.shared.start()
        await self.updates.start()
        if self.bars is not None:
            await self.bars.start()
        feed = dict(self.settings.live_feed(self.inputs.feed))
        body = {"run_id": self.run_id, "pipeline": self.settings.pipeline, "hashes": self.fold.engine.hashes, "feed": feed}
        await self.recorder.note(Kind.RUN_STARTED, self.run_id, body)
        since = await self._account(str(account["id"]), known, account)
        await self._enter("RECONCILING")
        await self.operator.latch_at_least(await self.shared.kill_level(), "Redis held this level")
        await self.operator.read()
        await self._authorize()
        await self.swapper.restore()
        await self.day.open_due()
        await self.day.plan()
        await self.gate.run("start")
        await self.day.backfill(since)
        if not self.fold.active.bundle_id:
            await self.swapper.poll(self.day.times.session_at(self.clock.now_ns()))
        warm_up(self.fold.engine, (*self.inputs.fields, *self.external.names))
        self.features.warm(self.journal.path)
        gc.collect()
        gc.freeze()  # what is here now stays: no later collection walks it while a row waits
        self._connections = self._connected()
        await self._enter(STATE_OF[self.fold.level])
        await self.flattener.step()

    async def _account(self, venue_account: str, known: bool, account: object) -> int:
        """Adopt the venue's account where the journal has none; returns since when rows are missing (UTC ns known_at, 0 = none)."""
        if known and venue_account == self.fold.venue_account:
            return await self._signals_of_today()
        if known and not self.settings.adopt_as:
            what = f"the journal follows account {self.fold.venue_account}, the venue has {venue_account}"
            raise InputError(
                what, str(self.settings.journal), "use another --account, or --adopt-account-as NAME to begin anew with this one"
            )
        if known:
            command = control.new_command(
                control.ADOPT, self.settings.adopt_as, "a new venue account", self.clock.now_ns(), account=venue_account
            )
            await self.recorder.note(Kind.COMMAND, command.command_id, command)
        await self.gate.adopt(account)  # type: ignore[arg-type]
        return await load_published_state(self.inputs, self.settings.lake, self.fold, self.recorder, self.clock.now_ns())

    async def _signals_of_today(self) -> int:
        """Signals from the published state where it has seen every row that traded, from final bars (T4), or where the journal's are of
        another feature version; else as they were. Returns since when rows are missing, as `_account`."""
        known_at, now = self.day.times.known_at_of_row(self.fold.last_row), self.clock.now_ns()
        state = self.inputs.state_before(now)
        if not self.fold.carried and (state is None or state.known_at < known_at):
            return known_at
        return await load_published_state(self.inputs, self.settings.lake, self.fold, self.recorder, now)

    async def _halt(self, reason: str) -> None:
        await self.operator.latch_at_least(KillLevel.HALT_NEW, reason)

    async def loop(self) -> None:
        """Wake, look, act, until told to stop."""
        while not self._stop:
            timed = (self.desk, self.day, self.flattener, self.naked)
            await self.recorder.settled()
            wake = await self.clock.next([at for each in timed for at in each.timers()], self._inbox)
            try:
                await self._act(wake)
                self._troubles = 0
            except TransientError as error:
                await self._trouble(error)
            if wake.kind == "end":
                return

    async def _trouble(self, error: TransientError) -> None:
        """The venue failed for now: what was due is tried again, behind the gate; a venue that keeps failing latches HALT_NEW (T17)."""
        self._troubles += 1
        self._connections = -1
        await self.recorder.note(Kind.STATE, "trouble", {"what": error.what, "where": error.where, "in_a_row": self._troubles})
        if self._troubles >= MOST_TROUBLES:
            await self.operator.latch_at_least(KillLevel.HALT_NEW, f"{self._troubles} failures in a row: {error.what}")

    async def _act(self, wake: Wake) -> None:
        await self.drain()
        await self._watch_losses()  # of a row whose proof the venue owes us still, before another session forgets it
        await self._reconnected()
        await self._cover()
        await self.operator.read()
        self._stop = self._stop or self.operator.stop
        if self.swapper.ledger_moved():
            await self._authorize()
        await self.flattener.step()
        await self.day.close_complete(feed_passed=wake.kind == "bars")
        await self.day.run_due()
        await self.desk.run_due()
        await self.drain()
        await self._cover()
        await self._watch_losses()
        await self.flattener.step()
        await self.naked.step()
        if self.state in STATE_OF.values() and self.state != STATE_OF[self.fold.level]:
            await self._enter(STATE_OF[self.fold.level])
        await self._watch_redis()

    async def _watch_redis(self) -> None:
        """Heartbeat and lease; a Redis that comes back is told the truth again."""
        answered = self.shared.answers
        alone = await self.shared.heartbeat(self.clock.now_ns())
        if self.shared.answers and not answered:
            await self.swapper.restore()
            await self.shared.write_kill_level(self.fold.level)
        if not alone:
            await self.operator.latch_at_least(KillLevel.HALT_NEW, "another host holds the lease")

    async def _reconnected(self) -> None:
        """Nothing is sent while a socket is down; after its return what was missed is fetched through the gate."""
        streams = [stream for stream in (self.updates, self.bars) if stream is not None]
        lost = [stream for stream in streams if not stream.alive]
        if not lost and self._connected() == self._connections:
            return
        await self._enter("RECONCILING")
        for stream in lost:
            if not await stream.back():
                await self.operator.latch_at_least(KillLevel.HALT_NEW, "a socket of the venue stays down")
        self._connections = self._connected()
        await self.day.open_due()
        await self.gate.run("reconnect")
        await self.day.backfill(self.day.times.known_at_of_row(self.fold.last_row))
        self.features.warm(self.journal.path)
        await self._enter(STATE_OF[self.fold.level])

    async def drain(self) -> None:
        """Handle everything the sockets have delivered."""
        while (item := self._inbox.take()) is not None:
            stream, message = item
            if stream == TRADE_UPDATES:
                await self.desk.handle_update(message)
                self._unprotected = True
            elif stream == DATA:
                await self.day.handle_bar(message)

    async def _cover(self) -> None:
        """After fills: what was missed is fetched, and every position is covered within the same wake (T16); foreign hands let go."""
        if self.desk.gap:
            await self.desk.read_activities()
            self._unprotected = True
        names = self.fold.hands_off()
        if names - self._hands_off:
            await self.desk.withdraw()
        self._hands_off = names
        if self._unprotected or self.desk.uncovered:
            self._unprotected = False
            await self.desk.protect()

    async def _authorize(self) -> None:
        """The active bundle's right to trade, at the start, at each open and when the ledger moves; without it nothing of it is opened."""
        if await self.swapper.check_active(self.day.times.session_at(self.clock.now_ns())):
            await self.desk.withdraw()

    async def _watch_losses(self) -> None:
        """The daily loss limit latches REDUCE, once a session: on two good marks, or without them on the venue's equity (T19)."""
        losses = self.fold.losses
        if not losses.breached or losses.spent or self.fold.level >= KillLevel.REDUCE:
            return
        proof = "two good marks" if losses.confirmed else ""
        single = not losses.good or self.inputs.timeframe == "1Day"
        if not proof and single and self._asked_of_row != self.fold.last_row:
            theirs = float((await self.broker.account())["equity"])
            self._asked_of_row = self.fold.last_row
            proof = f"the venue's equity {theirs:.2f}" if theirs <= losses.floor else ""
        if proof:
            await self.operator.latch_at_least(KillLevel.REDUCE, f"daily loss limit {losses.limit:.1%}: {proof}, floor {losses.floor:.2f}")
            await self.recorder.note(Kind.STATE, "loss_limit", {**losses.to_body(), "limit": losses.limit, "proof": proof})

    async def _between_rows(self, session: int) -> None:
        """Between two rows: features for whoever reads the cache, requests for a model, failures of the one in use."""
        self.features.row_closed()
        rules = self.settings.profile.models
        signals = self.fold.engine.signals
        if self.fold.active.label and max(signals.failures, self.day.inference.slow_rows) >= rules.max_inference_failures:
            failure, slow = signals.last_failure, self.day.inference.slow_rows
            reason = str(failure.what) if failure is not None else f"{slow} rows over the time budget"
            await self.swapper.roll_back(control.GUARD, reason, self.calendar.next_session(session))
            self.day.inference.slow_rows = 0
        if self.day.times.may_swap(session, self.clock.now_ns()):
            following = self.calendar.next_session(session) if self.inputs.timeframe == "1Day" else session
            await self.swapper.poll(following)
        await self.operator.latch_at_least(await self.shared.kill_level(), "Redis held this level")

    def _connected(self) -> int:
        return self.updates.connections + (self.bars.connections if self.bars is not None else 0)

    async def _enter(self, state: str) -> None:
        if state == self.state:
            return
        self.state = state
        for name in STATES:
            self.metrics.state.labels(name).set(float(name == state))
        await self.recorder.note(Kind.STATE, "runner", {"state": state, "run_id": self.run_id})
        self._say(state)

    def ask_to_stop(self) -> None:
        """Stop at the next wake (signal handlers call this)."""
        self._stop = True
        self._inbox.arrived.set()

    async def stop(self) -> None:
        """Say goodbye in the journal and close what is open. Orders and protection at the venue stay."""
        try:
            body = {"run_id": self.run_id, "fold": self.fold.hash(), "positions": self.fold.positions()}
            if self.fold.venue_account:
                await self.recorder.note(Kind.SNAPSHOT, FOLD, self.fold.to_body())
            await self._enter("STOPPED")
            await self.recorder.note(Kind.RUN_STOPPED, self.run_id, body)
        except TradingError as error:
            self._say(str(error))  # a journal that cannot be written has said so already
        await self.updates.finish()
        if self.bars is not None:
            await self.bars.finish()
        await self.clock.close()
        self.journal.close()
        self.broker.close()
        await self.copies.finish()
        await self.features.finish()
        self.shared.close()
        self.metrics.close()
        self._lock.release()


def run_forever(runner: Runner, stop_signals: tuple[int, ...]) -> None:
    """Run on a fresh event loop until it ends; the given signals ask it to stop."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in stop_signals:
            loop.add_signal_handler(number, runner.ask_to_stop)
        await runner.run()

    asyncio.run(main())
