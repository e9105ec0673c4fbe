"""The command `live-runner simulator`: arguments in, a running exchange out."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

import orjson

from live_runner.simulator.faults import load_faults
from live_runner.simulator.server import Run, Simulator, bind, serve, starting_account
from live_runner.simulator.settings import VenueSettings, arrival_allowance
from live_runner.simulator.tape import TIMEFRAMES, load_tape
from live_runner.simulator.wire import NS, Json
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError, TradingError

DEFAULTS = VenueSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every option of the command."""
    add = parser.add_argument
    add("--bars", type=Path, required=True, help="Parquet: symbol, timestamp (UTC), open, high, low, close, volume [vwap, trade_count]")
    add("--indexes", type=Path, help="Parquet like --bars: what is published and not traded, such as VIX")
    add("--actions", type=Path, help="Parquet: symbol, ex_date, split_ratio, cash_dividend")
    add("--timeframe", choices=TIMEFRAMES, default="1Day")
    add("--start", type=date.fromisoformat, required=True, help="first session, YYYY-MM-DD; earlier bars are history")
    add("--end", type=date.fromisoformat, required=True, help="last session, YYYY-MM-DD")
    add("--port", type=int, default=0, help="0 picks a free one")
    add("--speed", default="max", help="max: lock-step with attached clients; X: X virtual seconds per second")
    add("--clients", type=int, default=None, help="clients that must attach before time starts (default 1 at --speed max, else 0)")
    add("--seed", type=int, default=0)
    add("--cash", default="1000000", help="the account's first deposit, dollars")
    add("--state", type=Path, help="JSON file: closing cash of the last run, where this one starts and ends")
    add("--faults", type=Path, help="JSON file of faults, see docs/simulator.md")
    add("--event-log", type=Path, help="write every event, command, update and activity as one JSON line")
    add("--key", default="", help="the only API key accepted (default: any)")
    add("--secret", default="", help="its secret")
    add("--half-spread-bps", type=float, default=DEFAULTS.half_spread_bps)
    add("--impact-bps", type=float, default=DEFAULTS.impact_bps)
    add("--participation", type=float, default=DEFAULTS.participation, help="largest share of a bar's volume that orders fill")
    add(
        "--requests-per-minute",
        type=int,
        default=DEFAULTS.requests_per_minute,
        help="trading API, per key and virtual minute, 0 = no limit",
    )
    add("--bar-delay", type=float, default=0.0, help="seconds after its end before REST shows a bar")
    add(
        "--arrival-allowance",
        type=float,
        help="seconds after a minute bar's start in which an order still trades in it (default: by speed)",
    )
    add("--shorts", action="store_true", help="the account may open shorts")
    add("--cash-account", action="store_true", help="buying power is cash (default: Reg T margin)")
    add("--stay", action="store_true", help="keep serving after the last session")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Hang the command into `live-runner`."""
    parser = subparsers.add_parser("simulator", help="an Alpaca-conformant exchange on loopback, fed from recorded bars")
    add_arguments(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Run the exchange until its end or a signal. Raises TradingError for bad input, before anything is written."""
    speed = _speed(args.speed)
    calendar = MarketCalendar()
    if args.end < args.start:
        raise InputError(f"--end {args.end} is before --start {args.start}", "simulator", "give the first session, then the last")
    account, cash_cents = starting_account(args.state, _cents(args.cash))
    settings = VenueSettings(
        seed=args.seed,
        account=account,
        cash_cents=cash_cents,
        half_spread_bps=args.half_spread_bps,
        impact_bps=args.impact_bps,
        participation=args.participation,
        multiplier=1 if args.cash_account else 2,
        shorts=args.shorts,
        requests_per_minute=args.requests_per_minute,
        key=args.key,
        secret=args.secret,
        bar_delay_ns=_seconds("--bar-delay", args.bar_delay),
        arrival_allowance_ns=(
            arrival_allowance(speed) if args.arrival_allowance is None else _seconds("--arrival-allowance", args.arrival_allowance)
        ),
    )
    clients = args.clients if args.clients is not None else int(speed is None)
    rules = load_faults(args.faults) if args.faults is not None else ()
    plan = Run(settings, args.start, args.end, speed, clients, args.port, args.stay, rules, args.state, args.event_log)
    tape = load_tape(args.bars, args.timeframe, calendar, args.actions, args.indexes)
    with bind(args.port) as listener:
        asyncio.run(serve(plan, Simulator(plan, tape, calendar), listener, _say))
    return 0


def main(argv: list[str] | None = None) -> int:
    """`python -m live_runner.simulator`: the command on its own. Exit codes 0, 1, 2."""
    parser = argparse.ArgumentParser(prog="live-runner simulator", description="An Alpaca-conformant exchange on loopback.")
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except TradingError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 0


def _say(message: Json) -> None:
    print(orjson.dumps(message).decode(), flush=True)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError as error:
        raise InputError(f"--speed {text}", "simulator", "use max, or a positive number") from error
    if not 0.0 < speed < float("inf"):
        raise InputError(f"--speed {text}", "simulator", "use max, or a positive number")
    return speed


def _seconds(option: str, seconds: float) -> int:
    if not 0.0 <= seconds < float("inf"):
        raise InputError(f"{option} {seconds}", "simulator", "give seconds, zero or more")
    return int(seconds * NS)


def _cents(text: str) -> int:
    try:
        cents = Decimal(text) * 100
    except InvalidOperation as error:
        raise InputError(f"--cash {text} is not a number", "simulator", "give dollars, such as 1000000 or 1000.50") from error
    if not cents.is_finite() or cents != cents.to_integral_value() or cents <= 0:
        raise InputError(f"--cash {text}", "simulator", "give positive dollars with at most two decimals")
    return int(cents)
