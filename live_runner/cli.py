"""The command line `live-runner`. Exit codes: 0 ok, 1 failed, 2 bad usage or input. Only its own command imports the simulator."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import gc
import getpass
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from live_runner import control
from live_runner.clock import WallClock
from live_runner.journal import AccountLock
from live_runner.wire_time import instant_ns, instant_text
from trading_platform.contracts.errors import InputError, TradingError
from trading_platform.contracts.journal import JournalReader, Kind, Record
from trading_platform.contracts.model import parse_label
from trading_platform.contracts.panel import TIMEFRAME_NS
from trading_platform.contracts.session_inputs import SessionInputs

TIMEFRAME = {"daily": "1Day", "intraday": "1Min"}
STRATEGY_CLASS = {"daily": "swing", "intraday": "intraday"}
WORDS = {None: "-", True: "yes", False: "no"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(with_simulator=bool(words) and words[0] in ("simulator", "--help", "-h"))
    options = parser.parse_args(words)
    try:
        return int(options.command(options))
    except TradingError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 1
    finally:
        gc.freeze()  # Python's last collections would walk every object of every library, half a second of nothing


def _parser(with_simulator: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="live-runner", description="Trades one pipeline of one account from published features and approved bundles."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _run_parser(commands)
    status = _command(commands, "status", "what the journal says about a runner", _status)
    status.add_argument("--json", action="store_true", help="one JSON object")
    for name, text in (
        (control.HALT, "latch HALT_NEW: no new risk, entries are cancelled, protection stays"),
        (control.REDUCE, "latch REDUCE: only reductions pass"),
        (control.STOP, "end the process; orders and protection at the venue stay"),
    ):
        _signed(_command(commands, name, text, lambda options, name=name: _submit(options, name)))
    flatten = _signed(_command(commands, "flatten", "latch FLATTEN: close every position", _flatten))
    flatten.add_argument(
        "--scope", choices=control.SCOPES, default=control.OURS, help="account: cancel the account's orders that are not ours, too"
    )
    resume = _signed(_command(commands, "resume", "release the latched level", _resume))
    levels = [level.name for level in control.LEVELS.values()]
    resume.add_argument("--confirm", required=True, choices=levels, help="the latched level, spelled out")
    hands = _signed(_command(commands, "hands-on", "trade an instrument again that someone else had touched", _hands_on))
    hands.add_argument("instrument_id", help="such as us:AAPL")
    _swap_parser(commands)
    replay = _command(commands, "replay", "run the engine over the journal again and compare bytes", _replay)
    replay.add_argument("--decision", help="compare this decision only (what comes before it is replayed all the same)")
    replay.add_argument("--json", action="store_true", help="one JSON object")
    features = _command(commands, "features", "the newest features of a name in the cache", _features)
    features.add_argument("symbol", help="ticker, such as AAPL")
    features.add_argument("--timeframe", choices=tuple(TIMEFRAME_NS), help="of the bars (default: the pipeline's)")
    features.add_argument("--at", metavar="INSTANT", help="start of the bar wanted, RFC 3339 (default: the newest row's)")
    features.add_argument("--redis-url", help="Redis of the cache (TRADING_FEATURE_CACHE_URL, TRADING_REDIS_URL)")
    features.add_argument("--json", action="store_true", help="one JSON object")
    limits = _command(commands, "limits", "the limits in force, with the hashes decisions carry", _limits)
    limits.add_argument("--json", action="store_true", help="one JSON object")
    config = commands.add_parser("config", help="profiles").add_subparsers(required=True, metavar="WHAT")
    diff = _command(config, "diff", "every key in which two profiles differ", _config_diff)
    diff.add_argument("one", metavar="A", help="a profile's name, or the path of its .yaml file")
    diff.add_argument("other", metavar="B", help="another one")
    diff.add_argument("--json", action="store_true", help="one JSON object: key -> [A, B]")
    journal = commands.add_parser("journal", help="the journal itself").add_subparsers(required=True, metavar="WHAT")
    _command(journal, "verify", "recompute the whole hash chain", _verify)
    if with_simulator:
        from live_runner.simulator import cli as simulator

        simulator.add_parser(commands)
    else:
        commands.add_parser("simulator", help="an Alpaca-conformant exchange on loopback, fed from recorded bars")
    return parser


def _command(commands: Any, name: str, text: str, act: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--home", type=Path, help="the platform's folder (TRADING_HOME)")
    parser.add_argument("--account", help="account name (TRADING_ACCOUNT)")
    parser.add_argument("--mode", choices=("paper", "live"), help="trading mode (TRADING_MODE)")
    parser.add_argument("--pipeline", choices=tuple(STRATEGY_CLASS), default="daily")
    parser.add_argument("--profile", help="profile name or file (TRADING_PROFILE)")
    parser.set_defaults(command=act)
    return parser


def _signed(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--by", default=getpass.getuser(), help="who gives the command (default: the login name)")
    parser.add_argument("--reason", default="", help="why, for the journal")
    return parser


def _run_parser(commands: Any) -> None:
    run = _command(commands, "run", "trade", _run)
    run.add_argument("--broker-url", help="REST address, such as http://127.0.0.1:8811 (TRADING_BROKER_URL; default: Alpaca's own)")
    run.add_argument("--redis-url", help="Redis (TRADING_REDIS_URL); an empty string runs without one")
    run.add_argument("--feed", choices=("iex", "sip"), default="iex")
    run.add_argument("--lockstep", action="store_true", help="take the time from the simulator's control socket; end with it")
    run.add_argument("--speed", type=_positive, default=0.0, metavar="X", help="follow a simulator started with --speed X")
    run.add_argument("--metrics-port", type=int, help="Prometheus port (TRADING_METRICS_PORT, 9101), 0 = off")
    run.add_argument(
        "--confirm-transitions-as", default="", metavar="NAME", help="confirm model transitions in this operator's name (paper only)"
    )
    run.add_argument(
        "--adopt-account-as", default="", metavar="NAME", help="begin anew where the venue shows another account than the journal"
    )
    run.add_argument("--kill-at", default="", metavar="POINT", help="crash tests: commit|post|fill:<n>:before|after")


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return value


def _swap_parser(commands: Any) -> None:
    swap = commands.add_parser("swap", help="model requests").add_subparsers(required=True, metavar="WHAT")
    stage = _signed(_command(swap, "stage", "ask for a bundle", lambda options: _submit_label(options, control.STAGE)))
    stage.add_argument("label", help="<name>_v<version>")
    _signed(_command(swap, "rollback", "back to the previous bundle", lambda options: _submit(options, control.ROLLBACK)))
    confirm = _signed(_command(swap, "confirm", "confirm a transition", lambda options: _submit_label(options, control.CONFIRM)))
    confirm.add_argument("label", help="the bundle that waits for a confirmation")


def _settings(options: argparse.Namespace) -> Any:
    from trading_platform.config import load_settings

    given = {name: getattr(options, name, None) for name in ("home", "account", "mode", "profile", "broker_url", "metrics_port")}
    return load_settings(**{name: value for name, value in given.items() if value is not None})


def _run(options: argparse.Namespace) -> int:
    from live_runner.runner import Runner, run_forever
    from live_runner.settings import RunnerSettings
    from trading_platform.config import load_profile

    settings = _settings(options)
    key, secret = settings.broker_keys()
    redis_url = settings.redis_url or "" if options.redis_url is None else options.redis_url
    plan = RunnerSettings(
        account=settings.account,
        mode=settings.mode,
        pipeline=options.pipeline,
        lake=settings.lake_dir,
        journal=settings.journal_path,
        ledger=settings.ledger_path,
        object_store=settings.object_store,
        profile=load_profile(settings.profile, STRATEGY_CLASS[options.pipeline]),
        key=key,
        secret=secret,
        redis_url=redis_url,
        feature_cache_url=settings.feature_cache_url,
        feature_stream=settings.feature_stream,
        broker_url=(settings.broker_url or "").rstrip("/"),
        feed=options.feed,
        lockstep=options.lockstep,
        speed=options.speed,
        metrics_port=settings.metrics_port,
        confirm_as=options.confirm_transitions_as,
        adopt_as=options.adopt_account_as,
        kill_at=options.kill_at,
    )
    if plan.lockstep and not plan.broker_url:
        raise InputError("--lockstep needs the simulator's address", "--broker-url", "start `live-runner simulator` and give its address")
    if plan.speed and (plan.lockstep or not plan.broker_url):
        raise InputError("--speed is for a simulator that paces itself", "--speed", "give --broker-url, and leave --lockstep out")
    runner = Runner(plan, say=lambda state: print(orjson.dumps({"state": state}).decode(), flush=True))
    run_forever(runner, (signal.SIGINT, signal.SIGTERM))
    return 0


def _submit(options: argparse.Namespace, name: str, **arguments: str) -> int:
    """Leave a command for the runner of an account that has a journal; whoever reads none would never hear of it."""
    settings = _settings(options)
    JournalReader(settings.journal_path).close()
    command = control.new_command(name, options.by, options.reason or name, WallClock().now_ns(), **arguments)
    file = control.CommandFolder(settings.journal_path).submit(command)
    print(f"{name} given to {settings.account}/{settings.mode}: {file.name}")
    if AccountLock.held(settings.journal_path) is False:
        print("no runner is running: the next start reads it first")
    return 0


def _submit_label(options: argparse.Namespace, name: str) -> int:
    parse_label(options.label)
    return _submit(options, name, label=options.label)


def _resume(options: argparse.Namespace) -> int:
    return _submit(options, control.RESUME, confirm=options.confirm)


def _flatten(options: argparse.Namespace) -> int:
    return _submit(options, control.FLATTEN, scope=options.scope)


def _hands_on(options: argparse.Namespace) -> int:
    settings = _settings(options)
    with JournalReader(settings.journal_path) as reader:
        started = reader.last(Kind.RUN_STARTED)
    inputs = SessionInputs.load(settings.lake_dir, started.body["pipeline"] if started else options.pipeline)
    known = sorted(instrument.instrument_id for instrument in inputs.instruments)
    if options.instrument_id not in known:
        close = difflib.get_close_matches(options.instrument_id, known, n=1)
        fix = f"did you mean {close[0]}?" if close else f"name one of its {len(known)} instruments, such as {known[0]}"
        raise InputError(f"{options.instrument_id!r} is no instrument of pipeline {inputs.pipeline!r}", "live-runner hands-on", fix)
    return _submit(options, control.HANDS_ON, instrument_id=options.instrument_id)


def _status(options: argparse.Namespace) -> int:
    settings = _settings(options)
    with JournalReader(settings.journal_path) as reader:
        latch, swap = reader.last(Kind.LATCH), reader.last(Kind.SWAP)
        state, closed, refused = reader.last(Kind.STATE, "runner"), reader.last(Kind.SESSION_CLOSED), reader.last(Kind.SWAP_REFUSED)
        flatten, naked = reader.last(Kind.STATE, "flatten"), reader.last(Kind.STATE, "naked")
        decision, problem = reader.last(Kind.DECISION), reader.last(Kind.BREAK)
        answer = {
            "account": settings.account,
            "mode": settings.mode,
            "running": AccountLock.held(settings.journal_path),
            "state": state.body["state"] if state else None,
            "session": decision.session_id if decision else None,
            "kill_level": latch.body["level"] if latch else "NONE",
            "flatten": _flatten_text(latch, flatten),
            "naked": naked.body["lots"] or None if naked else None,
            "model": swap.body["label"] if swap else None,
            "last_refusal": _refusal_text(refused),
            "last_break": problem.body["what"] if problem else None,
            "equity": round(closed.body["equity"], 2) if closed else None,
            "records": reader.head()[0],
        }
    _show(answer, options.json)
    return 0


def _refusal_text(refused: Record | None) -> str | None:
    """Which bundle was refused and why, where to look, and what to do."""
    if refused is None:
        return None
    hints = [f"{name}: {refused.body[name]}" for name in ("where", "fix") if refused.body.get(name)]
    return f"{refused.key}: {refused.body['reason']}" + (f" ({'; '.join(hints)})" if hints else "")


def _flatten_text(latch: Record | None, told: Record | None) -> str | None:
    """How far FLATTEN has come (T17); None where it is not latched."""
    if latch is None or latch.body["level"] != "FLATTEN":
        return None
    if told is None or told.seq < latch.seq:
        return "latched, not begun"
    left = ", ".join(f"{name} {why}" for name, why in sorted(told.body["not_flat"].items()))
    return f"latched, not flat: {left}" if left else "latched, flat"


def _verify(options: argparse.Namespace) -> int:
    settings = _settings(options)
    with JournalReader(settings.journal_path) as reader:
        print(f"{reader.verify()} records, chain whole: {settings.journal_path}")
    return 0


def _replay(options: argparse.Namespace) -> int:
    from live_runner.replay import replay
    from trading_platform.config import load_profile

    settings = _settings(options)
    profile = load_profile(settings.profile, STRATEGY_CLASS[options.pipeline])
    result = replay(settings.journal_path, settings.lake_dir, options.pipeline, settings.object_store, profile, options.decision)
    if options.json:
        print(orjson.dumps({**dataclasses.asdict(result), "verdict": result.verdict}).decode())
    else:
        print(f"{result.decisions} decisions replayed, {len(result.different)} differ")
        if not result.same_code:
            print(f"{result.verdict}: {', '.join(result.changed)} changed since")
        for identity in result.different:
            print(f"  {identity}")
    return 1 if result.different or result.decisions == 0 else 0


def _features(options: argparse.Namespace) -> int:
    from trading_platform.registry.feature_cache import FeatureCache, Miss, feature_client

    settings = _settings(options)
    wanted = None if options.at is None else instant_ns(options.at)
    url = options.redis_url or settings.feature_cache_url or settings.redis_url
    if not url:
        raise InputError("no Redis is named", "--redis-url", "give the address of the feature cache, or set TRADING_FEATURE_CACHE_URL")
    cache = FeatureCache(feature_client(url), settings.account, settings.mode)
    found = cache.get_features(options.symbol, options.timeframe or TIMEFRAME[options.pipeline], wanted)
    cache.close()
    if isinstance(found, Miss):
        _show({"miss": found.outcome.value, "why": found.why}, options.json)
        return 1
    head = {name: getattr(found, name) for name in found.__dataclass_fields__ if name != "features"}
    if options.json:
        _show({**head, "features": found.features}, True)
        return 0
    times = {name: instant_text(head[name]) for name in ("timestamp", "known_at")}
    _show({**head, **times, **found.features}, False)
    return 0


def _limits(options: argparse.Namespace) -> int:
    from live_runner.numbers_in_force import limits
    from trading_platform.config import load_profile

    _show(limits(load_profile(_settings(options).profile, STRATEGY_CLASS[options.pipeline])), options.json)
    return 0


def _config_diff(options: argparse.Namespace) -> int:
    from live_runner.numbers_in_force import difference
    from trading_platform.config import load_profile

    one, other = (load_profile(name, STRATEGY_CLASS[options.pipeline]) for name in (options.one, options.other))
    found: Mapping[str, Any] = difference(one, other)
    _show(found if options.json else {key: f"{left}  ->  {right}" for key, (left, right) in found.items()}, options.json)
    return 0


def _show(values: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(orjson.dumps(values).decode())
        return
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        print(f"{name:<{width}}  {WORDS.get(value, value) if value is None or isinstance(value, bool) else value}")
