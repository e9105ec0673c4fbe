"""One session after the other: open, rows, close. Row, decision and every intent are on disk before the first order leaves (I5)."""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from live_runner.backfill import Backfill
from live_runner.broker import Broker
from live_runner.clock import SECOND, Clock, stopwatch_ns
from live_runner.desk import Desk
from live_runner.fold import Fold, context_body
from live_runner.inference_watch import InferenceWatch, loop_lag_ns
from live_runner.intake import Intake
from live_runner.journal import Entry
from live_runner.metrics import Metrics
from live_runner.orders import LiveOrder
from live_runner.reconcile import Gate
from live_runner.recorder import Recorder
from live_runner.recovery import FOLD, HASH
from live_runner.row_context import ContextMaker
from live_runner.rows import RowAssembler
from live_runner.session_times import SessionTimes
from live_runner.wire_time import instant_ns
from trading_platform.calendar import MarketCalendar, date_of
from trading_platform.contracts.decision import Decision, DecisionTrace
from trading_platform.contracts.errors import TransientError
from trading_platform.contracts.ids import session_id
from trading_platform.contracts.journal import Kind
from trading_platform.contracts.journaled_row import panel_body
from trading_platform.contracts.orders import Leg, OrderStatus
from trading_platform.contracts.panel import TIMEFRAME_NS
from trading_platform.contracts.profile import Profile
from trading_platform.contracts.session_inputs import Universe
from trading_platform.market_data.corporate_actions import ActionTable

BEFORE_OPEN_NS = 300 * SECOND
AGAIN_NS = 5 * SECOND
BARS_RETRY_NS = 60 * SECOND
MOST_BAR_RETRIES = 10
SNAPSHOT_ROWS = 64


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose decisions these are, for the trace: account, mode, process, build, package lock."""

    account: str
    mode: str
    run_id: str
    build: str
    lock: str


class TradingDay:
    """The sessions of one pipeline. `numbers(date)` says how often a date has been opened before."""

    def __init__(
        self,
        *,
        broker: Broker,
        clock: Clock,
        fold: Fold,
        recorder: Recorder,
        desk: Desk,
        gate: Gate,
        calendar: MarketCalendar,
        universe: Universe,
        actions: ActionTable,
        profile: Profile,
        assembler: RowAssembler,
        identity: Identity,
        metrics: Metrics,
        numbers: Callable[[str], int],
        model_age: Callable[[int], int],
        authorize: Callable[[], Awaitable[None]],
        between_rows: Callable[[int], Awaitable[None]],
    ) -> None:
        self._broker, self._clock, self._fold, self._recorder = broker, clock, fold, recorder
        self._desk, self._gate, self._calendar, self._universe = desk, gate, calendar, universe
        self._actions, self._profile, self._assembler, self._identity = actions, profile, assembler, identity
        self._metrics, self._numbers, self._authorize, self._between_rows = metrics, numbers, authorize, between_rows
        self._timeframe = assembler.timeframe
        self._contexts = ContextMaker(broker, fold, gate, calendar, universe, assembler.timeframe, model_age)
        self._daily = self._timeframe == "1Day"
        self._intake = Intake(broker, fold, calendar, assembler)
        self.times = SessionTimes(calendar, profile, assembler.timeframe)
        self._backfill = Backfill(self.times, fold, self._intake, self.decide, self._close_missed)
        self._timers: list[tuple[int, int, Callable[[], Awaitable[None]]]] = []
        self._count = 0
        self._rows_in_session = 0
        self._rows_since_snapshot = 0
        self._pending: set[int] = set()
        self.inference = InferenceWatch(profile.models.inference_timeout_ms)

    # ---------------------------------------------------------------- timers

    def timers(self) -> list[int]:
        """When the session wants to be woken next."""
        return [self._timers[0][0]] if self._timers else []

    def _at(self, when: int, act: Callable[[], Awaitable[None]]) -> None:
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, act))

    async def run_due(self) -> None:
        """Do what is due, in order of time."""
        while self._timers and self._timers[0][0] <= self._clock.now_ns():
            act = heapq.heappop(self._timers)[2]
            try:
                await act()
            except TransientError:
                self._at(self._clock.now_ns() + AGAIN_NS, act)  # each act looks at the journal first, so it does nothing twice
                raise

    # -------------------------------------------------------------- sessions

    async def plan(self) -> None:
        """Set the timers of the session that is open or comes next; resume one that a dead process left open."""
        now = self._clock.now_ns()
        session = self._fold.session if self._fold.in_session else self.times.session_at(now)
        if not self._fold.in_session:
            if session == self._fold.session:  # closed already
                session = self._calendar.next_session(session)
            opens = self._calendar.open_ns(session)
            if now < opens - BEFORE_OPEN_NS and any(a.split_ratio != 1.0 for a in self._due_actions(session)):
                self._at(opens - BEFORE_OPEN_NS, self._before_open)
            self._at(opens, lambda: self.open(session))
        if self._daily:
            self._at(self.times.known_at(session), lambda: self._daily_row(session))
        else:
            self._at(self.times.ends_at(session), lambda: self.close(session))

    def _due_actions(self, session: int) -> Sequence[Any]:
        since = max(self._fold.session, self._fold.actions_until) if self._fold.session >= 0 else session - 1
        return [a for a in self._actions.between(since, session) if a.instrument_id in self._fold.instruments]

    async def open_due(self) -> None:
        """Open a session whose time has come, before the venue is met: its corporate actions are part of what is compared (T10)."""
        now = self._clock.now_ns()
        session = self.times.session_at(now)
        if not self._fold.in_session and session != self._fold.session and self._calendar.open_ns(session) <= now:
            await self.open(session)

    async def apply_actions(self, at: int) -> None:
        """Fold the corporate actions of sessions that opened by `at` while nobody looked; called before what happened then."""
        session = self._calendar.previous_session(at // TIMEFRAME_NS["1Day"] + 1)
        if self._calendar.open_ns(session) > at:
            session = self._calendar.previous_session(session)
        if self._fold.session >= 0:
            due = self._due_actions(session)
            await self._recorder.record(*(self._recorder.entry(Kind.CORPORATE_ACTION, a.instrument_id, _action_body(a)) for a in due))

    def splitting(self) -> frozenset[str]:
        """Names that split at the open about to come, from five minutes before it until the split is folded (T10)."""
        now = self._clock.now_ns()
        session = self.times.session_at(now)
        if now < self._calendar.open_ns(session) - BEFORE_OPEN_NS:
            return frozenset()
        return frozenset(action.instrument_id for action in self._due_actions(session) if action.split_ratio != 1.0)

    async def _before_open(self) -> None:
        """The venue rescales shares, not orders: a splitting name has none over the open, its stop is armed anew behind it (T10)."""
        splitting = self.splitting()
        await self._desk.cancel([order for order in self._fold.book.open_orders() if order.intent.instrument_id in splitting])

    async def open(self, session: int) -> None:
        """Open a session: its id, its corporate actions, its counters; then meet the venue again and cover every position."""
        if self._fold.in_session and self._fold.session == session:
            return
        await self._fetch_indexes(session)
        await self._before_open()  # once more: nobody may have been here five minutes ago
        date = date_of(session).isoformat()
        number = self._numbers(date) + 1
        identity = session_id(self._identity.account, self._identity.mode, date, number)
        opened = {"session": session, "number": number, "calendar": self._calendar.hash, "corporate_actions": self._actions.hash}
        entries = [self._recorder.entry(Kind.SESSION_OPENED, date, opened, identity)]
        entries += [
            self._recorder.entry(Kind.CORPORATE_ACTION, action.instrument_id, _action_body(action), identity)
            for action in self._due_actions(session)
        ]
        entries.append(self._recorder.entry(Kind.STATE, "session_started", {"session": session}, identity))
        await self._recorder.record(*entries)
        self._assembler.start_session()
        self._rows_in_session = 0
        self._pending.clear()
        await self._authorize()
        await self._gate.run(f"session {date}")

    async def close(self, session: int) -> None:
        """End a session: nothing of ours works any more, equity equals the venue's to the cent, or a break is named (T12)."""
        if not self._fold.in_session or self._fold.session != session:
            return
        if not self._daily:
            await self._desk.cancel(self._leftovers())
            await self._desk.protect()
        await self._desk.read_activities()
        what = await self._gate.equity_break()
        if what:
            await self._recorder.note(Kind.BREAK, "account", {"what": what})
            await self._desk.halt(f"a break at the close of {date_of(session).isoformat()}")
        equity = self._fold.engine.equity()
        body = {"session": session, "equity": equity, "cash": self._fold.cash, "rows": self._rows_in_session, "break": what or None}
        await self._recorder.note(Kind.SESSION_CLOSED, date_of(session).isoformat(), body)
        await self._snapshot()
        await self.plan()

    async def _snapshot(self) -> None:
        if self._rows_since_snapshot >= SNAPSHOT_ROWS:
            self._rows_since_snapshot = 0
            await self._recorder.note(Kind.SNAPSHOT, FOLD, self._fold.to_body())
        else:
            await self._recorder.note(Kind.SNAPSHOT, HASH, {"fold": self._fold.hash()})

    # ------------------------------------------------------------------ rows

    async def _daily_row(self, session: int, tries: int = 0) -> None:
        timestamp = self.times.row_of(session)
        if self._fold.last_row < timestamp:
            await self._intake.fetch_session(session, timestamp)
            if not self._assembler.bars.get(timestamp) and tries < MOST_BAR_RETRIES:
                self._at(self._clock.now_ns() + BARS_RETRY_NS, lambda: self._daily_row(session, tries + 1))
                return
            await self.decide(timestamp, self.times.known_at(session), session, "live")
        await self.close(session)

    async def handle_bar(self, message: Mapping[str, Any]) -> None:
        """A minute bar or a correction from the stream. What comes after its row closed is journaled, never decided again (T4)."""
        symbol, first = str(message.get("S")), message["T"] == "b"
        if symbol in self._intake.external.symbols:
            field = self._intake.external.symbols[symbol]
            if not first or self._intake.late_index(field, message):
                await self._late_bar(field, message)
            return
        name = self._intake.symbols.get(symbol)
        if name is None:
            return
        taken = self._intake.take(message, name, "stream") if first else None
        if taken is None:
            if not (first and self._intake.repeats(message, name)):
                await self._late_bar(name, message)
        elif taken.timestamp not in self._pending:
            self._pending.add(taken.timestamp)
            due = taken.timestamp + TIMEFRAME_NS[self._timeframe] + int(self._profile.grace_s * SECOND)
            self._at(due, lambda: self._close_row(taken.timestamp))

    async def _late_bar(self, name: str, message: Mapping[str, Any]) -> None:
        values = {key: value for key, value in message.items() if isinstance(value, (int, float, str))}
        await self._recorder.note(Kind.LATE_BAR, name, {**values, "t": instant_ns(message["t"])})

    async def close_complete(self, feed_passed: bool) -> None:
        """Close the rows for which everyone has reported, or all of them where the feed says that it has passed the minute (lock-step)."""
        for timestamp in sorted(self._pending):
            if feed_passed or (self._rows_in_session > 0 and self._assembler.complete(timestamp)):
                await self._close_row(timestamp)

    async def _close_row(self, timestamp: int) -> None:
        if timestamp not in self._pending or not self._fold.in_session:
            return
        self._pending = {at for at in self._pending if at > timestamp}
        # An order that flattens stays: taking it back for a moment would only delay the exit.
        await self._desk.cancel([order for order in self._leftovers() if order.intent.leg is not Leg.FLATTEN])
        await self._desk.protect()
        known_at = timestamp + TIMEFRAME_NS[self._timeframe]
        fresh = timestamp > self._fold.last_row and self._clock.now_ns() < known_at + TIMEFRAME_NS[self._timeframe]
        try:
            await self.decide(timestamp, known_at, self._fold.session, "live" if fresh else "backfilled")
        except TransientError:
            self._pending.add(timestamp)
            raise

    def _leftovers(self) -> list[LiveOrder]:
        return [order for order in self._fold.book.open_orders() if not order.protects]

    async def decide(self, timestamp: int, known_at: int, session: int, provenance: str) -> None:
        """Close one row: step, decide, journal, send. A backfilled row moves the state and decides nothing."""
        closed = stopwatch_ns()
        if provenance == "live":
            await self._desk.read_activities()  # a fill whose update was lost, or someone else's (T18), is known before the row decides
            await self._desk.protect()
        panel = self._assembler.close(timestamp, known_at, session, self._universe.member_row(date_of(session).isoformat()))
        context = await self._contexts.make(panel, session)
        body = {**panel_body(panel), "context": context_body(context), "provenance": provenance}
        if provenance != "live":
            await self._recorder.note(Kind.ROW, f"{self._timeframe}:{timestamp}", body)
            return
        lag = await loop_lag_ns()
        started = stopwatch_ns()
        block = self._fold.engine.signals.step(panel)
        inferred = stopwatch_ns()
        body["inference"] = "failed" if self._fold.engine.signals.failures else "ok"
        self.inference.judge(inferred - started, lag, float(block.coverage[0]))
        self._fold.note_naked()
        decision = self._fold.engine.decide(panel, block, context)
        self._fold.row = (panel, block, context)
        await self._act(body, decision, session, stopwatch_ns() - closed)
        self._metrics.latency.labels("inference").observe((inferred - started) / 1e9)
        self._metrics.latency.labels("row").observe((stopwatch_ns() - closed) / 1e9)
        self._watch(decision)
        await self._between_rows(session)

    async def _act(self, row: Mapping[str, Any], decision: Decision, session: int, latency_ns: int) -> None:
        now = self._clock.now_ns()
        trace = DecisionTrace(
            decision.decision_id,
            self._identity.account,
            self._identity.mode,
            self._fold.session_id,
            self._identity.run_id,
            self._identity.build,
            self._identity.lock,
            now,
            latency_ns,
        )
        # The engine denies entries of a name left alone, its exits are kept back here (T18); exits under FLATTEN are the flattener's.
        off = self._fold.hands_off()
        held_back = {o.instrument_id for o in decision.orders if o.leg is Leg.FLATTEN or o.instrument_id in off}
        body = {"decision": decision, "trace": trace, **({"held_back": sorted(held_back)} if held_back else {})}
        entries = [
            self._recorder.entry(Kind.ROW, f"{self._timeframe}:{row['timestamp']}", row),
            self._recorder.entry(Kind.DECISION, decision.decision_id, body),
        ]
        next_close = self._calendar.close_ns(self._calendar.next_session(session))
        for planned in (order for order in decision.orders if order.instrument_id not in held_back):
            good_until = planned.expires_at or next_close
            entries.append(self._desk.intent_entry(self._desk.intent(planned, decision.decision_id), planned.valid_from, good_until))
        await self.commit_then_send(entries)

    async def commit_then_send(self, entries: Sequence[Entry]) -> None:
        """Commit point A, then the orders. The order of these two calls is what a crash test proves."""
        records = await self._recorder.record(*entries, decided=True)
        orders = [self._fold.book.orders[record.key] for record in records if record.kind is Kind.INTENT]
        await self._send(orders)

    async def _send(self, orders: Sequence[LiveOrder]) -> None:
        now = self._clock.now_ns()
        for order in orders:
            if order.valid_from > now:
                self._desk.schedule(order, order.valid_from)
        await self._desk.send([order for order in orders if order.valid_from <= now])

    def _watch(self, decision: Decision) -> None:
        self._rows_in_session += 1
        self._rows_since_snapshot += 1
        engine, metrics = self._fold.engine, self._metrics
        metrics.rows.inc()
        metrics.decisions.inc()
        for code, count in decision.check_counts.items():
            metrics.denied.labels(code).inc(count)
        metrics.equity.set(decision.equity)
        metrics.pnl.set(decision.equity - float(engine.account.session_start_equity[0]))
        metrics.gross.set(engine.gross() / decision.equity if decision.equity > 0.0 else 0.0)
        metrics.unknown.set(sum(order.status is OrderStatus.UNKNOWN for order in self._fold.book.open_orders()))
        metrics.kill.set(int(self._fold.level))

    async def backfill(self, since_known_at: int) -> None:
        """Rows that closed while nobody looked, and what the indexes said meanwhile."""
        await self._fetch_indexes(self._fold.session if self._fold.in_session else self.times.session_at(self._clock.now_ns()))
        await self._backfill.run(since_known_at, self._clock.now_ns())

    async def _fetch_indexes(self, session: int) -> None:
        for name, message in await self._intake.fetch_indexes(session, self._clock.now_ns()):
            await self._late_bar(name, message)

    async def _close_missed(self, timestamps: set[int], now: int) -> None:
        self._pending |= timestamps
        for timestamp in sorted(at for at in self._pending if at + TIMEFRAME_NS[self._timeframe] <= now):
            await self._close_row(timestamp)


def _action_body(action: Any) -> dict[str, Any]:
    return {
        "instrument_id": action.instrument_id,
        "ex_date": action.ex_date,
        "split_ratio": action.split_ratio,
        "cash_dividend": action.cash_dividend,
    }
