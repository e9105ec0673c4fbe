"""The kill switch: three latched levels, in journal and Redis, released only by a confirmed command (I7, T17)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import redis
from market import ACCOUNT, Exchange, World

from live_runner.cli import main
from live_runner.control import CommandFolder, new_command, next_level
from live_runner.journal import AccountLock, Entry, Journal
from live_runner.runner import Runner
from trading_platform.config import load_profile
from trading_platform.contracts import names
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.orders import Leg
from trading_platform.contracts.profile import Limits

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}
READY = {"state": "READY", "run_id": "r"}
COMMANDS = (
    ("halt",),
    ("reduce",),
    ("flatten",),
    ("stop",),
    ("resume", "--confirm", "HALT_NEW"),
    ("hands-on", "us:AA"),
    ("swap", "stage", "momentum_v1"),
    ("swap", "rollback"),
    ("swap", "confirm", "momentum_v1"),
)


def bodies(runner: Runner, kind: Kind) -> list[dict]:
    with JournalReader(runner.settings.journal) as reader:
        return [record.body for record in reader.records(kind)]


def commanding(at_row: int, name: str, **arguments: str) -> type[Runner]:
    """A runner to which an operator gives a command after a row, through the folder."""

    class Commanded(Runner):
        rows = 0

        async def _between_rows(self, session: int) -> None:
            await super()._between_rows(session)
            self.rows += 1
            if self.rows == at_row:
                command = new_command(name, "anna", "because", self.clock.now_ns(), **arguments)
                CommandFolder(self.settings.journal).submit(command)

    return Commanded


def test_levels_only_rise_and_resume_names_what_it_releases() -> None:
    level = KillLevel.NONE
    for name, expected in (("halt", 1), ("flatten", 3), ("reduce", 3)):
        level = next_level(level, new_command(name, "anna", "", 1))
        assert level == expected
    for wrong in ({}, {"confirm": "HALT_NEW"}):
        with pytest.raises(InputError, match="FLATTEN"):
            next_level(level, new_command("resume", "anna", "", 1, **wrong))
    assert next_level(level, new_command("resume", "anna", "", 1, confirm="FLATTEN")) is KillLevel.NONE
    with pytest.raises(InputError, match="operator"):
        new_command("halt", "", "", 1)


def test_halt_keeps_protection_and_opens_nothing(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    venue = exchange(daily)
    runner = play(daily, venue.url, commanding(4, "halt"), redis_url=redis_url)
    decisions = [body["decision"] for body in bodies(runner, Kind.DECISION)]
    entered = [d for d in decisions[4:] for o in d["orders"] if o["leg"] == "enter"]
    assert entered == [] and any(o["leg"] == "enter" for d in decisions[:4] for o in d["orders"])
    assert any("KILL_SWITCH" in d["check_counts"] for d in decisions[4:])
    stops = {f"us:{o.symbol}": o.left for o in venue.venue.orders.open() if o.kind == "stop"}
    assert stops == venue.positions() != {}
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    assert client.get(names.redis_prefix(ACCOUNT, "paper") + names.REDIS_KILL) == "HALT_NEW"


def test_a_latched_level_survives_a_restart_and_the_loss_of_redis(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    first = play(daily, exchange(daily).url, commanding(3, "halt"), redis_url=redis_url)
    assert first.fold.level is KillLevel.HALT_NEW
    redis.Redis.from_url(redis_url).flushall()
    daily.stage(redis_url, "momentum_v1", daily.bundles["momentum_v1"])
    again = play(daily, exchange(daily, settings={"seed": 1}).url, redis_url=redis_url, adopt_as="anna")
    assert again.fold.level is KillLevel.HALT_NEW
    assert [o for d in bodies(again, Kind.DECISION)[12:] for o in d["decision"]["orders"]] == []


@pytest.mark.parametrize("level", ["REDUCE", "FLATTEN"])
def test_a_level_raised_in_redis_alone_is_honoured_and_closes_nothing(
    level: str, daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    redis.Redis.from_url(redis_url).set(names.redis_prefix(ACCOUNT, "paper") + names.REDIS_KILL, level)
    runner = play(daily, exchange(daily).url, redis_url=redis_url)
    assert runner.fold.level is KillLevel.REDUCE and bodies(runner, Kind.FILL) == []


def test_flatten_closes_every_position_and_stays_latched(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    venue = exchange(daily)
    runner = play(daily, venue.url, commanding(5, "flatten"), redis_url=redis_url)
    assert venue.positions() == runner.fold.positions() == {}
    assert venue.venue.orders.open() == []
    assert runner.fold.level is KillLevel.FLATTEN
    exits = [body for body in bodies(runner, Kind.INTENT) if body["leg"] == str(Leg.FLATTEN)]
    commands = bodies(runner, Kind.COMMAND)
    assert exits and {body["origin_id"] for body in exits} == {commands[0]["command_id"]}
    assert [record for record in bodies(runner, Kind.BREAK)] == []


def test_an_unconfirmed_resume_is_journaled_and_changes_nothing(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))

    class HaltedThenResumed(commanding(3, "halt")):  # type: ignore[misc]
        async def _between_rows(self, session: int) -> None:
            await super()._between_rows(session)
            if self.rows in (5, 7):
                confirm = {} if self.rows == 5 else {"confirm": "HALT_NEW"}
                CommandFolder(self.settings.journal).submit(new_command("resume", "anna", "", self.clock.now_ns(), **confirm))

    runner = play(daily, exchange(daily).url, HaltedThenResumed, redis_url=redis_url)
    assert ["refused" in body for body in bodies(runner, Kind.COMMAND)] == [False, True, False]
    assert [body["level"] for body in bodies(runner, Kind.LATCH)] == ["HALT_NEW", "NONE"]
    assert runner.fold.level is KillLevel.NONE


def test_a_new_venue_account_needs_an_operator_and_begins_anew(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    play(daily, exchange(daily).url, redis_url=redis_url)
    other = exchange(daily, settings={"seed": 1})
    with pytest.raises(InputError, match="follows account"):
        play(daily, other.url, redis_url=redis_url)
    other.stop()
    other = exchange(daily, settings={"seed": 1})
    daily.stage(redis_url, "momentum_v1", daily.bundles["momentum_v1"])
    again = play(daily, other.url, redis_url=redis_url, adopt_as="demo")
    decisions = [body["decision"]["decision_id"] for body in bodies(again, Kind.DECISION)]
    assert len(decisions) == 24 and decisions[:12] == decisions[12:]
    assert [body["number"] for body in bodies(again, Kind.SESSION_OPENED)] == [1] * 12 + [2] * 12
    assert again.fold.positions() == other.positions() != {}


@pytest.fixture
def known(daily: World) -> tuple[Path, list[str]]:
    """An account whose runner has been here and has ended: its journal, and the words that name it on a command line."""
    path = daily.root / "journals" / f"{ACCOUNT}-paper.sqlite"
    journal = Journal(path)
    journal.commit_blocking([Entry("s", 1, Kind.RUN_STARTED, "r", {"pipeline": "daily"}), Entry("s", 2, Kind.STATE, "runner", READY)])
    journal.commit_blocking([Entry("s", 3, Kind.SESSION_CLOSED, "s", {"equity": 984436.4499999996})])
    refused = {"reason": "model.onnx does not match its sha256", "where": "trading-models/momentum", "fix": "fetch it again"}
    journal.commit_blocking([Entry("s", 4, Kind.SWAP_REFUSED, "momentum_v1", refused)])
    journal.close()
    return path, ["--home", str(daily.root), "--account", ACCOUNT, "--pipeline", "intraday"]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_needs_an_account_and_says_who_hears_it(
    words: tuple[str, ...], known: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    journal, named = known
    assert main([*words, *named, "--account", "nobody"]) == 2
    assert "no journal here" in capsys.readouterr().err and not journal.with_name("nobody-paper.commands").exists()
    assert main([*words, *named]) == 0
    assert "no runner is running: the next start reads it first" in capsys.readouterr().out
    lock = AccountLock(journal)
    assert main([*words, *named]) == 0
    lock.release()
    assert "no runner is running" not in capsys.readouterr().out
    assert len(CommandFolder(journal).waiting()) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("hands-on", "us:NOPE"), "'us:NOPE' is no instrument of pipeline 'daily'"),
        (("hands-on", "us:A"), "did you mean us:AA?"),
        (("resume", "--confirm", "BLAH"), "invalid choice: 'BLAH' (choose from 'HALT_NEW', 'REDUCE', 'FLATTEN')"),
        (("resume", "--confirm", "NONE"), "invalid choice: 'NONE'"),
        (("swap", "stage", "nonsense"), "'nonsense' is not <name>_v<version>"),
        (("swap", "confirm", "nonsense"), "'nonsense' is not <name>_v<version>"),
        (("halt", "--by", ""), "'' is no operator's name"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused_before_it_is_given(
    words: tuple[str, ...], says: str, known: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    journal, named = known
    try:
        code = main([*words, *named])
    except SystemExit as bad_usage:
        code = bad_usage.code
    assert code == 2 and says in capsys.readouterr().err and not journal.with_suffix(".commands").exists()


def test_status_says_whether_a_process_holds_the_account(known: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    journal, named = known
    assert main(["status", *named]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (said["running"], said["state"], said["equity"], said["model"]) == ("no", "READY", "984436.45", "-")
    assert said["last_refusal"] == "momentum_v1: model.onnx does not match its sha256 (where: trading-models/momentum; fix: fetch it again)"
    lock = AccountLock(journal)
    assert main(["status", "--json", *named]) == 0 and json.loads(capsys.readouterr().out)["running"] is True
    lock.release()
    assert AccountLock.held(journal) is False and AccountLock.held(journal.with_name("nobody.sqlite")) is False
    AccountLock(journal).release()  # who looked has left nothing behind


def test_limits_and_the_difference_of_two_profiles_name_every_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = load_profile("equity_conservative")
    file = tmp_path / "bolder.yaml"
    file.write_text("name: bolder\nextends: equity_conservative\nlimits: {max_gross: 0.77}\ngrace_s: 9.0\n")
    assert main(["config", "diff", "equity_conservative", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"grace_s": [base.grace_s, 9.0], "limits.max_gross": [base.limits.max_gross, 0.77], "name": [base.name, "bolder"]}
    assert main(["config", "diff", str(file), str(file)]) == 0 and capsys.readouterr().out == ""
    assert main(["limits", "--home", str(tmp_path), "--profile", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["max_gross"] == 0.77 and shown["limits_hash"] == load_profile(str(file)).limits_hash != base.limits_hash
    assert set(shown) == {"profile", "profile_hash", "limits_hash", *(field.name for field in fields(Limits))}
    assert main(["config", "diff", "equity_conservative", "nowhere"]) == 2
