"""The venue's books: whatever happens, cash and shares are the fold of the activities, and orders never fill more than they may."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from simulated_exchange import bars_of

from live_runner.simulator.account import Account
from live_runner.simulator.event_log import EventLog
from live_runner.simulator.settings import VenueSettings
from live_runner.simulator.tape import Action, Tape
from live_runner.simulator.venue import Venue
from live_runner.simulator.wire import RefusedError, cents_of, micro_price, parse_instant
from trading_platform.calendar import MarketCalendar, day_of

MONDAY = day_of(date(2019, 2, 11))
DAYS = [date(2019, 2, 8), date(2019, 2, 11), date(2019, 2, 12), date(2019, 2, 13), date(2019, 2, 14)]
SESSIONS = [day_of(day) for day in DAYS[1:]]
SYMBOLS = ("AAPL", "MSFT")


def walk(calendar: MarketCalendar, seed: int) -> dict[str, Any]:
    """Daily bars with gaps, thin volume and sub-cent closes."""
    draw = np.random.default_rng(seed)
    series = {}
    for symbol in SYMBOLS:
        rows, close = [], 20.0
        for day in DAYS:
            o = close * np.exp(0.05 * draw.standard_normal())
            c = round(o * np.exp(0.03 * draw.standard_normal()), 4)
            h, low = max(o, c) * (1 + 0.02 * draw.random()), min(o, c) * (1 - 0.02 * draw.random())
            rows.append((day, 0, (o, h, low, c, float(draw.integers(0, 20_000)))))
            close = c
        series[symbol] = bars_of(calendar, "1Day", rows)
    return series


orders = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(SYMBOLS),
        "qty": st.integers(1, 400),
        "side": st.sampled_from(["buy", "sell"]),
        "type": st.sampled_from(["market", "limit", "stop"]),
        "time_in_force": st.sampled_from(["day", "gtc"]),
        "price": st.integers(1500, 2500),
    }
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), orders),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("replace"), st.tuples(st.integers(0, 30), st.integers(1, 400))),
        st.tuples(st.just("close"), st.sampled_from(SYMBOLS)),
        st.tuples(st.just("day"), st.none()),
    ),
    min_size=12,
    max_size=40,
)
actions = st.lists(
    st.builds(
        Action, st.sampled_from(SESSIONS), st.sampled_from(SYMBOLS), st.sampled_from([1.0, 4.0, 0.1, 1.5]), st.sampled_from([0.0, 0.235])
    ),
    max_size=3,
)


class Play:
    """A venue walked through its sessions by hand."""

    def __init__(self, calendar: MarketCalendar, seed: int, plan: list[Action], shorts: bool) -> None:
        self.calendar = calendar
        self.updates: list[dict[str, Any]] = []
        tape = Tape("1Day", walk(calendar, seed), plan)
        start = calendar.open_ns(SESSIONS[0]) - 10**9
        self.venue = Venue(VenueSettings(shorts=shorts), tape, start, SESSIONS[0], EventLog(), self.updates.append)
        self.seq = 0
        self.left = list(SESSIONS)

    def begin(self, now: int) -> None:
        self.seq += 1
        self.venue.begin(self.seq, now)

    def open(self) -> None:
        session = self.left.pop(0)
        self.begin(self.calendar.open_ns(session))
        self.venue.open_session(session, self.calendar.previous_session(session), self.calendar.next_session(session))

    def close(self) -> None:
        self.begin(self.calendar.close_ns(self.venue.session))
        self.venue.match(int(self.calendar.bar_starts(self.venue.session, "1Day")[0]))
        self.begin(self.calendar.close_ns(self.venue.session))
        self.venue.close_session()

    def do(self, what: str, argument: Any) -> None:
        every = self.venue.orders.every()
        try:
            if what == "submit":
                price = f"{argument['price'] / 100:.2f}"
                named = {"limit": {"limit_price": price}, "stop": {"stop_price": price}}.get(argument["type"], {})
                self.venue.submit({k: v for k, v in argument.items() if k != "price"} | named)
            elif what == "cancel" and every:
                self.venue.cancel(every[argument % len(every)].order_id)
            elif what == "replace" and every:
                self.venue.replace(every[argument[0] % len(every)].order_id, {"qty": argument[1]})
            elif what == "close":
                self.venue.close_position(argument)
            elif what == "day" and self.left:
                self.close()
                self.open()
        except RefusedError as refusal:
            note(f"refused: {refusal.body}")


def fold(activities: list[dict[str, Any]]) -> tuple[Decimal, dict[str, int]]:
    """Cash and shares as a client sums them up from the wire alone."""
    cash, shares = Decimal(0), dict.fromkeys(SYMBOLS, 0)
    for row in activities:
        if row["activity_type"] == "FILL":
            sign = 1 if row["side"] == "buy" else -1
            cash -= sign * Decimal(row["price"]) * int(row["qty"])
            shares[row["symbol"]] += sign * int(row["qty"])
        else:
            cash += Decimal(row["net_amount"])
            if row["activity_type"] == "SPLIT":
                shares[row["symbol"]] += int(row["qty"])
    return cash, shares


def every_activity(venue: Venue) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while page := venue.activities.page([], descending=False, page_size=7, page_token=rows[-1]["id"] if rows else None):
        rows += page
    return rows


def check(play: Play, shorts: bool) -> None:
    venue = play.venue
    cash, shares = fold(every_activity(venue))
    wire = venue.account.to_wire(venue.reserved_cents)
    assert Decimal(wire["cash"]) == cash
    assert {s: venue.account.lots(s) for s in SYMBOLS} == shares
    value = sum(shares[s] * Decimal(venue.account.marks[s]) / 10**6 for s in SYMBOLS)
    assert abs(Decimal(wire["equity"]) - (cash + value)) <= Decimal("0.005")
    for order in venue.orders.every():
        fills = [u for u in play.updates if u["event"] in ("fill", "partial_fill") and u["order"]["id"] == order.order_id]
        assert sum(int(u["qty"]) for u in fills) == order.filled_lots <= order.lots
        assert (order.status == "filled") == (order.filled_lots == order.lots)
    if not shorts:  # with shorts, a sale and a purchase may both open from flat
        assert min(shares.values()) >= 0
        assert all(held <= shares[symbol] for symbol, held in venue.held_for_orders().items())


@given(seed=st.integers(0, 50), plan=actions, todo=steps, shorts=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cash_and_shares_are_the_fold_of_the_activities(
    calendar: MarketCalendar, seed: int, plan: list[Action], todo: list[Any], shorts: bool
) -> None:
    play = Play(calendar, seed, plan, shorts)
    play.open()
    for what, argument in todo:
        play.do(what, argument)
        check(play, shorts)
    play.close()
    check(play, shorts)


def test_the_fold_notices_a_fill_that_was_booked_twice(calendar: MarketCalendar, monkeypatch: pytest.MonkeyPatch) -> None:
    booked = Account.apply_fill

    def twice(self: Account, symbol: str, sign: int, lots: int, ticks: int) -> int:
        booked(self, symbol, sign, lots, ticks)
        return booked(self, symbol, sign, lots, ticks)

    monkeypatch.setattr(Account, "apply_fill", twice)
    play = Play(calendar, 1, [], False)
    play.open()
    play.do("submit", {"symbol": "AAPL", "qty": 5, "side": "buy", "type": "market", "time_in_force": "day", "price": 0})
    play.close()
    with pytest.raises(AssertionError):
        check(play, False)


def test_fills_of_one_bar_stay_within_participation(calendar: MarketCalendar) -> None:
    play = Play(calendar, 3, [], False)
    play.open()
    for _ in range(6):
        play.do("submit", {"symbol": "AAPL", "qty": 400, "side": "buy", "type": "market", "time_in_force": "day", "price": 0})
    play.close()
    volume = play.venue.tape.bars["AAPL"].volume[1]
    assert play.venue.account.lots("AAPL") == min(2400, int(0.05 * volume)) > 0


@pytest.mark.parametrize(
    ("ratio", "lots", "shares", "in_lieu", "dividend"),
    [(4.0, 10, 40, 0, 940), (0.1, 25, 2, 50_00, 59), (1.5, 3, 4, 66_7, 106), (1.0, 7, 7, 0, 165)],
)
def test_a_corporate_action_on_what_is_held(ratio: float, lots: int, shares: int, in_lieu: int, dividend: int) -> None:
    account = Account(VenueSettings(), 0)
    account.apply_fill("AAPL", 1, lots, 1000)
    account.mark("AAPL", 20.0 if ratio != 0.1 else 10.0)
    before = account.cash_cents
    effect = account.apply_action("AAPL", ratio, 0.235)
    assert effect is not None
    assert (account.lots("AAPL"), effect.share_change) == (shares, shares - lots)
    assert (effect.cash_in_lieu_cents, effect.dividend_cents) == (in_lieu, dividend)
    assert account.cash_cents - before == in_lieu + dividend


def test_the_short_side_owes_the_dividend_and_counts_in_equity() -> None:
    account = Account(VenueSettings(shorts=True, cash_cents=1_000_000), 0, cash_cents=1_000_000)
    account.apply_fill("AAPL", -1, 100, 1000)
    account.mark("AAPL", 9.0)
    assert account.to_wire(0)["equity"] == "10100.00"
    assert account.position_to_wire("AAPL", 0)["unrealized_pl"] == "100.00"
    effect = account.apply_action("AAPL", 1.0, 0.5)
    assert effect is not None and effect.dividend_cents == -5000
    account.apply_fill("AAPL", 1, 150, 900)
    assert account.positions["AAPL"].average_micro == 9_000_000


def test_money_and_times_print_exactly() -> None:
    assert [cents_of(micro) for micro in (5_000, 15_000, 25_001, -5_000, -15_000)] == [0, 2, 3, 0, -2]
    assert [micro_price(micro) for micro in (170_770_100, 10_000_000, 123_456_789)] == ["170.7701", "10.00", "123.456789"]
    assert parse_instant("2019-02-11", "x") == parse_instant("2019-02-11T05:00:00Z", "x") == parse_instant("2019-02-11T00:00:00-05:00", "x")


def test_the_log_is_canonical_and_complete(calendar: MarketCalendar) -> None:
    play = Play(calendar, 1, [], False)
    play.open()
    play.do("submit", {"symbol": "AAPL", "qty": 5, "side": "buy", "type": "market", "time_in_force": "day", "price": 0})
    play.close()
    words = [orjson.loads(line)["what"] for line in play.venue.log.lines]
    assert words == ["activity", "submit", "update", "activity", "update"]
