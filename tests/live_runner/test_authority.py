"""The right to trade is looked at again while a bundle trades: at the start, at each open, whenever the ledger moves (T24, T25)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import pytest
import redis
from market import ACCOUNT, CALENDAR, FIRST, WARM_UP, Exchange, World, make_world

from live_runner.runner import Runner
from trading_platform.contracts.errors import TransientError
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.ledger import LedgerReader
from trading_platform.registry.ledger import revoke
from trading_platform.registry.slots import Slots

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}
REVERSAL = {"returns_5d": -1.0, "zscore_20d": -0.2}


def bodies(runner: Runner, kind: Kind, key: str | None = None) -> list[dict]:
    with JournalReader(runner.settings.journal) as reader:
        return [record.body for record in reader.records(kind, key=key)]


def take_back(world: World, bundle_id: str) -> None:
    ledger = world.root / "ledger" / "promotion.jsonl"
    head = LedgerReader(ledger).head()
    revoke(ledger, expected_head=head, bundle_id=bundle_id, account=ACCOUNT, mode="paper", at=2, approvals=("anna",), reason="wrong data")


class AfterRow(Runner):
    """Does something once, after a row was decided and before anybody looks again."""

    row: ClassVar[int] = 4
    act: ClassVar[Callable[[Runner], Any]]
    rows = 0

    async def _between_rows(self, session: int) -> None:
        await super()._between_rows(session)
        self.rows += 1
        if self.rows == self.row:
            type(self).act(self)


def after(at: int, what: Callable[[Runner], Any]) -> type[Runner]:
    return type("After", (AfterRow,), {"row": at, "act": staticmethod(what)})


def check_hold_after(runner: Runner, venue: Exchange, redis_url: str, rows: int, reason: str) -> None:
    """Nothing was opened by decisions from the `rows`-th on, nor by what was queued then; exits and protection go on."""
    assert [(swap["label"], swap["by"]) for swap in bodies(runner, Kind.SWAP)] == [("momentum_v1", "request"), ("", "runner")]
    (refusal,) = bodies(runner, Kind.SWAP_REFUSED)
    assert reason in refusal["reason"]
    slots = Slots(redis.Redis.from_url(redis_url, decode_responses=True), ACCOUNT, "paper")
    assert slots.rejected("daily") == ("momentum_v1", refusal["reason"])
    told = [fields["outcome"] for _, fields in slots._redis.xrange(slots.stream_key)]
    assert told == ["activated", "refused", "deactivated"] and slots.active("daily") is None
    decisions = [body["decision"] for body in bodies(runner, Kind.DECISION)]
    assert len(decisions) == 12 and [bool(d["bundle_ids"]) for d in decisions] == [True] * rows + [False] * (12 - rows)
    last = decisions[rows - 1]
    entries = {body["client_order_id"] for body in bodies(runner, Kind.INTENT) if body["leg"] == "enter"}
    assert not any(order["leg"] == "enter" for decision in decisions[rows:] for order in decision["orders"])
    late = [b["side"] for b in bodies(runner, Kind.FILL) if b["at"] > last["known_at"] and b["client_order_id"] in entries]
    assert late == [] and venue.positions() == runner.fold.positions() != {}


def test_a_bundle_revoked_while_it_trades_opens_nothing_more(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    label, bundle_id = daily.bundle("momentum", "1", MOMENTUM)
    daily.stage(redis_url, label, bundle_id)
    venue = exchange(daily)
    runner = play(daily, venue.url, after(5, lambda runner: take_back(daily, bundle_id)), redis_url=redis_url)
    queued = bodies(runner, Kind.DECISION)[4]["decision"]["orders"]
    assert any(order["leg"] == "enter" for order in queued), "the scene is not the one that is tested: nothing waited for the open"
    check_hold_after(runner, venue, redis_url, 5, "no unrevoked promotion")


def test_a_bundle_revoked_while_the_runner_was_down_does_not_trade_on(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    label, bundle_id = daily.bundle("momentum", "1", MOMENTUM)
    daily.stage(redis_url, label, bundle_id)
    venue = exchange(daily)
    play(daily, venue.url, after(5, lambda runner: runner.ask_to_stop()), redis_url=redis_url)
    take_back(daily, bundle_id)
    check_hold_after(play(daily, venue.url, redis_url=redis_url), venue, redis_url, 5, "no unrevoked promotion")


def test_a_bundle_whose_bytes_change_under_it_is_found_at_the_next_open(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))

    def damage(runner: Runner) -> None:
        (model,) = Path(daily.root / "bundles").rglob("model.onnx")
        model.write_bytes(model.read_bytes()[:-1] + b"\x00")

    venue = exchange(daily)
    runner = play(daily, venue.url, after(5, damage), redis_url=redis_url)
    check_hold_after(runner, venue, redis_url, 5, "sha256")


def test_a_ledger_that_forgets_a_revocation_it_was_seen_with_is_no_authority(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    """The head is pinned whenever it moves, so a ledger cut back to before somebody else's entry is not believed."""
    label, bundle_id = daily.bundle("momentum", "1", MOMENTUM)
    ledger = daily.root / "ledger" / "promotion.jsonl"
    before = ledger.read_bytes()
    other = daily.bundle("reversal", "1.2", REVERSAL)
    ledger_with_other = ledger.read_bytes()
    ledger.write_bytes(before)
    daily.stage(redis_url, label, bundle_id)

    class Cut(AfterRow):
        row = 6
        act = staticmethod(lambda runner: ledger.write_bytes(before))

        async def _between_rows(self, session: int) -> None:
            await super()._between_rows(session)
            if self.rows == 2:
                ledger.write_bytes(ledger_with_other)

    venue = exchange(daily)
    runner = play(daily, venue.url, Cut, redis_url=redis_url)
    assert other[1] and len(bodies(runner, Kind.STATE, "authority")) == 1
    check_hold_after(runner, venue, redis_url, 6, "lost an entry")


def test_a_revoked_bundle_makes_room_for_the_one_before_it(
    tmp_path: Path, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    world = make_world(tmp_path / "home", traded=14)
    first, second = world.bundle("momentum", "1", MOMENTUM), world.bundle("reversal", "1.2", REVERSAL)
    world.stage(redis_url, *first)

    class Swapped(AfterRow):
        row = 7
        act = staticmethod(lambda runner: take_back(world, second[1]))

        async def _between_rows(self, session: int) -> None:
            if self.rows == 3:
                self.shared.slots.stage("daily", *second)
            await super()._between_rows(session)

    runner = play(world, exchange(world).url, Swapped, redis_url=redis_url, confirm_as="demo")
    used = [tuple(body["decision"]["bundle_ids"]) for body in bodies(runner, Kind.DECISION)]
    assert used == [(first[1],)] * 4 + [(second[1],)] * 3 + [(first[1],)] * 7
    slots = Slots(redis.Redis.from_url(redis_url, decode_responses=True), ACCOUNT, "paper")
    assert slots.active("daily")[:2] == first and slots.rejected("daily")[0] == second[0]


@pytest.mark.parametrize(
    ("unfit", "reason"),
    [({"trained_through": int(CALENDAR.sessions(FIRST, date(2013, 12, 31))[WARM_UP - 60])}, "sessions old"), ({}, "golden rows differ")],
)
def test_the_one_before_it_takes_over_only_where_it_is_fit_today(
    unfit: dict[str, Any],
    reason: str,
    tmp_path: Path,
    exchange: Callable[..., Exchange],
    play: Callable[..., Runner],
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was fit when it was swapped in; six rows later it is past its age, or this runtime computes something else."""
    world = make_world(tmp_path / "home")
    first, second = world.bundle("momentum", "1", MOMENTUM, **unfit), world.bundle("reversal", "1.2", REVERSAL)
    world.stage(redis_url, *first)

    def act(runner: Runner) -> None:
        if not unfit:
            monkeypatch.setattr("live_runner.model_slot.replay_golden", lambda model: 2e-6)
        take_back(world, second[1])

    class Swapped(AfterRow):
        row = 7

        async def _between_rows(self, session: int) -> None:
            if self.rows == 3:
                self.shared.slots.stage("daily", *second)
            await super()._between_rows(session)

    Swapped.act = staticmethod(act)
    runner = play(world, exchange(world).url, Swapped, redis_url=redis_url, confirm_as="demo")
    assert [(swap["label"], swap["by"]) for swap in bodies(runner, Kind.SWAP)][2:] == [("", "runner")]
    refusals = {body["label"]: body["reason"] for body in bodies(runner, Kind.SWAP_REFUSED)}
    assert list(refusals) == [second[0], first[0]] and reason in refusals[first[0]]


def test_a_store_that_does_not_answer_takes_no_right_away(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))

    def silence(runner: Runner) -> None:
        def away(key: str) -> bytes:
            raise TransientError(f"cannot read {key}", "the store")

        runner._store.get = away

    runner = play(daily, exchange(daily).url, after(5, silence), redis_url=redis_url)
    assert [swap["label"] for swap in bodies(runner, Kind.SWAP)] == ["momentum_v1"]
    assert all("not_examined" in body for body in bodies(runner, Kind.STATE, "authority")) and bodies(runner, Kind.STATE, "authority")


@pytest.mark.parametrize(("age", "outcome", "opens"), [(21, ["old"], True), (63, ["old", "too_old"], False)])
def test_past_its_age_a_bundle_is_warned_of_and_past_the_hard_one_it_opens_nothing(
    age: int,
    outcome: list[str],
    opens: bool,
    tmp_path: Path,
    exchange: Callable[..., Exchange],
    play: Callable[..., Runner],
    redis_url: str,
) -> None:
    """age: of the bundle at the first row, in sessions; twelve rows follow."""
    world = make_world(tmp_path / "home")
    first = int(world.panel.session[world.first_row])
    trained = first
    for _ in range(age):
        trained = CALENDAR.previous_session(trained)
    world.stage(redis_url, *world.bundle("momentum", "1", MOMENTUM, trained_through=trained))
    runner = play(world, exchange(world).url, redis_url=redis_url)
    assert [body["outcome"] for body in bodies(runner, Kind.STATE, "model_age")] == outcome
    slots = Slots(redis.Redis.from_url(redis_url, decode_responses=True), ACCOUNT, "paper")
    assert [fields["outcome"] for _, fields in slots._redis.xrange(slots.stream_key)] == ["activated", *outcome]
    late = [body["decision"] for body in bodies(runner, Kind.DECISION)[63 - age + 1 :]]
    entered = any(order["leg"] == "enter" for decision in late for order in decision["orders"])
    assert entered == (opens and bool(late))
    assert opens or any("MODEL_AGE" in decision["check_counts"] for decision in late)


def test_a_revocation_in_the_session_is_noticed_in_the_session(
    tmp_path: Path, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    world = make_world(tmp_path / "home", "1Min", 24)
    label, bundle_id = world.bundle("minutes", "1", {"returns_15": 1.0, "returns_5": 0.5})
    world.stage(redis_url, label, bundle_id)
    runner = play(world, exchange(world).url, after(12, lambda runner: take_back(world, bundle_id)), redis_url=redis_url)
    used = [bool(body["decision"]["bundle_ids"]) for body in bodies(runner, Kind.DECISION)]
    assert used == [True] * 12 + [False] * 12 and len(bodies(runner, Kind.SWAP_REFUSED)) == 1
