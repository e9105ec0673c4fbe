"""The slot: requests, refusals, health, a hot swap between two rows (T24, T27)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import redis
from market import ACCOUNT, CALENDAR, FIRST, PROFILE, WARM_UP, Exchange, World, make_world

from live_runner.inference_watch import InferenceWatch, loop_lag_ns
from live_runner.runner import Runner
from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.ledger import LedgerReader
from trading_platform.contracts.names import REDIS_ACTIVE, redis_prefix
from trading_platform.registry.bundle import load_bundle
from trading_platform.registry.ledger import promote
from trading_platform.registry.redis_server import RedisServer
from trading_platform.registry.slots import Slots

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}
REVERSAL = {"returns_5d": -1.0, "zscore_20d": -0.2}


def bodies(runner: Runner, kind: Kind) -> list[dict]:
    with JournalReader(runner.settings.journal) as reader:
        return [record.body for record in reader.records(kind)]


def slots_of(url: str) -> Slots:
    return Slots(redis.Redis.from_url(url, decode_responses=True), ACCOUNT, "paper")


class SwapAfterRow(Runner):
    """Stages the second bundle once the fourth row is decided, as a publisher would while the runner trades."""

    request: tuple[str, str] = ("", "")
    rows = 0

    async def _between_rows(self, session: int) -> None:
        self.rows += 1
        if self.rows == 4:
            self.shared.slots.stage("daily", *self.request)
        await super()._between_rows(session)


def test_a_hot_swap_between_two_rows_loses_no_row_and_is_what_the_backtest_concludes(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    first, second = daily.bundle("momentum", "1", MOMENTUM), daily.bundle("reversal", "1.2", REVERSAL)
    daily.stage(redis_url, *first)
    SwapAfterRow.request = second
    runner = play(daily, exchange(daily).url, SwapAfterRow, redis_url=redis_url, confirm_as="demo")
    decisions = [body["decision"] for body in bodies(runner, Kind.DECISION)]
    assert [d["bundle_ids"] for d in decisions] == [[first[1]]] * 4 + [[second[1]]] * 8
    expected = daily.concluded([(0, *first), (4, *second)])
    assert [canonical_bytes(d) for d in decisions] == [d.to_bytes() for d in expected.decisions]

    swaps = bodies(runner, Kind.SWAP)
    assert [swap["label"] for swap in swaps] == ["momentum_v1", "reversal_v1.2"]
    assert swaps[1]["health"]["shadow_rows"] == 3 and swaps[1]["health"]["shadow_alphas"] == 24
    commands = bodies(runner, Kind.COMMAND)
    assert [(c["name"], c["by"]) for c in commands] == [("swap_confirm", "demo")]
    assert swaps[1]["transition_turnover"] > daily.profile.models.max_transition_turnover
    label, bundle_id, epoch = slots_of(redis_url).active("daily")
    assert (label, bundle_id, epoch) == (*second, 2)
    assert slots_of(redis_url).pending("daily") is None
    acknowledged = slots_of(redis_url)._redis.xrange(slots_of(redis_url).stream_key)
    assert [fields["outcome"] for _, fields in acknowledged] == ["activated", "activated"]


def test_a_large_transition_waits_for_an_operator(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    first, second = daily.bundle("momentum", "1", MOMENTUM), daily.bundle("reversal", "1.2", REVERSAL)
    daily.stage(redis_url, *first)
    SwapAfterRow.request = second
    runner = play(daily, exchange(daily).url, SwapAfterRow, redis_url=redis_url)
    assert [swap["label"] for swap in bodies(runner, Kind.SWAP)] == ["momentum_v1"]
    assert "needs an operator" in runner.swapper.waiting
    assert slots_of(redis_url).pending("daily") == second


class SameAgain(Runner):
    """After the first row, whose entries wait for the open while nothing is held, a bundle of the same weights is asked for."""

    request: tuple[str, str] = ("", "")
    rows = 0

    async def _between_rows(self, session: int) -> None:
        self.rows += 1
        if self.rows == 1:
            assert self.fold.engine.account.working_buy.any() and not self.fold.positions()
            self.shared.slots.stage("daily", *self.request)
        await super()._between_rows(session)


def test_a_refit_that_wants_the_same_moves_nothing_and_needs_nobody(
    tmp_path: Path, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    world = make_world(tmp_path / "home", traded=6, profile=replace(PROFILE, models=replace(PROFILE.models, shadow_rows=1)))
    world.stage(redis_url, *world.bundle("momentum", "1", MOMENTUM))
    SameAgain.request = world.bundle("momentum", "2", MOMENTUM)
    runner = play(world, exchange(world).url, SameAgain, redis_url=redis_url)
    assert [(s["label"], s["transition_turnover"]) for s in bodies(runner, Kind.SWAP)] == [("momentum_v1", 0.0), ("momentum_v2", 0.0)]
    used = [tuple(body["decision"]["bundle_ids"]) for body in bodies(runner, Kind.DECISION)]
    assert used == [(world.bundles["momentum_v1"],)] + [(world.bundles["momentum_v2"],)] * 5, "at once, not when the orders had filled"


def test_the_turnover_of_a_transition_is_in_money_whatever_the_lots(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    label, bundle_id = daily.bundle("reversal", "1.2", REVERSAL)
    runner = play(daily, exchange(daily).url, redis_url=redis_url)
    engine, other = runner.fold.engine, load_bundle(runner._store, label, bundle_id)
    whole = runner.swapper.transition_turnover(other)
    lots = np.where(np.arange(len(engine.instruments)) % 2 == 0, 1, 1_000)
    engine.instruments = tuple(replace(i, lots_per_unit=int(n)) for i, n in zip(engine.instruments, lots, strict=True))
    for name in ("position", "working_buy", "working_sell"):
        getattr(engine.account, name)[:] *= lots
    assert engine.account.position.any() and 0.1 < whole < 2.0
    assert runner.swapper.transition_turnover(other) == pytest.approx(whole, rel=0.01)


def refused(runner: Runner, redis_url: str) -> str:
    """The reason, after checking that it stands in the journal and in Redis alike and that the request is gone."""
    (body,) = bodies(runner, Kind.SWAP_REFUSED)
    assert slots_of(redis_url).pending("daily") is None
    assert slots_of(redis_url).rejected("daily") == (body["label"], body["reason"])
    ((_, told),) = slots_of(redis_url)._redis.xrange(slots_of(redis_url).stream_key)
    assert [told[name] for name in ("reason", "where", "fix")] == [body[name] for name in ("reason", "where", "fix")]
    assert told["where"]
    assert bodies(runner, Kind.SWAP) == [] and bodies(runner, Kind.INTENT) == []
    assert len(bodies(runner, Kind.DECISION)) == 12
    return str(body["reason"])


@pytest.mark.parametrize("typed_id", [True, False])
def test_a_hand_made_request_without_a_promotion_is_refused_and_says_why(
    typed_id: bool, daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    label, bundle_id = daily.bundle("momentum", "1", MOMENTUM, promoted=False)
    client = redis.Redis.from_url(redis_url)
    client.hset(slots_of(redis_url).pending_key, mapping={"daily": label, **({"daily:bundle": bundle_id} if typed_id else {})})
    runner = play(daily, exchange(daily).url, redis_url=redis_url)
    assert "no unrevoked promotion" in refused(runner, redis_url)


def test_a_share_of_the_capital_that_the_runner_cannot_keep_to_is_refused(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    label, bundle_id = daily.bundle("momentum", "1", MOMENTUM)
    ledger = daily.root / "ledger" / "promotion.jsonl"
    entry = LedgerReader(ledger).entries()[-1]
    kept = ("name", "version", "bundle_id", "account", "mode", "stage", "slot", "at", "approvals", "reason", "gates")
    promote(ledger, expected_head=entry.hash, **{name: getattr(entry, name) for name in kept}, capital_share=0.05)
    daily.stage(redis_url, label, bundle_id)
    assert "may use 5% of the capital" in refused(play(daily, exchange(daily).url, redis_url=redis_url), redis_url)


def test_a_bundle_whose_bytes_changed_is_refused(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    (model,) = Path(daily.root / "bundles").rglob("model.onnx")
    model.write_bytes(model.read_bytes()[:-1] + b"\\x00")
    assert "sha256" in refused(play(daily, exchange(daily).url, redis_url=redis_url), redis_url)


@pytest.mark.parametrize(("off_by", "refusal"), [(2e-6, "golden rows differ"), (0.0, "")])
def test_a_bundle_that_no_longer_says_what_it_said_when_it_was_exported_is_refused(
    off_by: float, refusal: str, daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    """Every byte is as its sha256 promises; only the golden rows tell."""
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM, golden_off_by=off_by))
    runner = play(daily, exchange(daily).url, redis_url=redis_url)
    if refusal:
        assert refusal in refused(runner, redis_url)
    else:
        assert [swap["health"]["golden_difference"] for swap in bodies(runner, Kind.SWAP)] == [0.0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"feed": {"vendor": "alpaca", "tape": "sip"}}, "feed"),
        ({"timeframe": "1Min"}, "timeframe"),
        ({"trained_through": 15_936}, "trained through"),
        ({"trained_through": int(CALENDAR.sessions(FIRST, date(2013, 12, 31))[WARM_UP - 64])}, "64 sessions old"),
    ],
)
def test_a_bundle_made_for_something_else_is_refused(
    changes: dict, reason: str, daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM, **changes))
    assert reason in refused(play(daily, exchange(daily).url, redis_url=redis_url), redis_url)


def test_redis_may_vanish_while_the_runner_trades(daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner]) -> None:
    server = RedisServer()
    server.start()

    class LosesRedis(Runner):
        async def _between_rows(self, session: int) -> None:
            server.stop()
            await super()._between_rows(session)

    daily.stage(server.url, *daily.bundle("momentum", "1", MOMENTUM))
    runner = play(daily, exchange(daily).url, LosesRedis, redis_url=server.url)
    assert len(bodies(runner, Kind.DECISION)) == 12 and len(bodies(runner, Kind.FILL)) > 10
    assert not runner.shared.answers


class FailingInference(Runner):
    """From the sixth row on the model fails."""

    rows = 0

    async def _between_rows(self, session: int) -> None:
        self.rows += 1
        if self.rows == 5:
            bound = self.fold.engine.signals._bound
            bound.inference._session = None
        await super()._between_rows(session)


def test_three_failures_fall_back_to_hold_and_nothing_is_liquidated(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    venue = exchange(daily)
    runner = play(daily, venue.url, FailingInference, redis_url=redis_url)
    swaps = bodies(runner, Kind.SWAP)
    assert [(s["label"], s["by"]) for s in swaps] == [("momentum_v1", "request"), ("", "runner")]
    decisions = [body["decision"] for body in bodies(runner, Kind.DECISION)]
    assert [bool(d["bundle_ids"]) for d in decisions] == [True] * 8 + [False] * 4
    assert [d["orders"] for d in decisions[5:]] == [[]] * 7
    assert slots_of(redis_url).active("daily") is None, "Redis says what the journal says"
    assert venue.positions() == runner.fold.positions() != {}


class EveryModelFails(Runner):
    """Asks for a second bundle after the fourth row; from the fifth on, whatever is active fails."""

    request: tuple[str, str] = ("", "")
    rows = 0

    async def _between_rows(self, session: int) -> None:
        self.rows += 1
        if self.rows == 4:
            self.shared.slots.stage("daily", *self.request)
        await super()._between_rows(session)
        bound = self.fold.engine.signals._bound
        if self.rows >= 5 and bound is not None:
            bound.inference._session = None


def test_failures_fall_back_to_the_previous_bundle_then_to_the_fallback_model_then_to_hold(
    tmp_path: Path, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    world = make_world(tmp_path / "home", traded=17)
    first, second = world.bundle("momentum", "1", MOMENTUM), world.bundle("reversal", "1.2", REVERSAL)
    safe = world.bundle("safe", "3", {"returns_21d": 0.1})
    world.stage(redis_url, *first)
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    client.hset(redis_prefix(ACCOUNT, "paper") + REDIS_ACTIVE, "fallback_model", safe[0])
    EveryModelFails.request = second
    runner = play(world, exchange(world).url, EveryModelFails, redis_url=redis_url, confirm_as="demo")
    swaps = [(swap["label"], swap["by"]) for swap in bodies(runner, Kind.SWAP)]
    assert swaps == [(first[0], "request"), (second[0], "request"), (first[0], "runner"), (safe[0], "runner"), ("", "runner")]
    used = [tuple(body["decision"]["bundle_ids"]) for body in bodies(runner, Kind.DECISION)]
    assert used == [(first[1],)] * 4 + [(second[1],)] * 4 + [(first[1],)] * 3 + [(safe[1],)] * 3 + [()] * 3
    assert runner.fold.failed == {first[0], second[0], safe[0]} and runner.fold.positions() != {}


def test_a_slow_row_counts_only_where_the_loop_kept_up_and_the_row_was_complete() -> None:
    watch, ms = InferenceWatch(100.0), 1_000_000
    for took, lag, coverage, expected in [
        (101 * ms, 0, 1.0, 1),
        (101 * ms, 20 * ms, 1.0, 1),  # the loop was behind: no proof, and no acquittal either
        (101 * ms, 19 * ms, 0.999, 1),  # a bar was missing
        (101 * ms, 19 * ms, 1.0, 2),
        (100 * ms, 50 * ms, 0.5, 0),
        (900 * ms, 0, 1.0, 1),
    ]:
        watch.judge(took, lag, coverage)
        assert watch.slow_rows == expected


def test_the_lag_of_the_loop_is_what_blocks_it() -> None:
    async def measured() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        calm = await loop_lag_ns()
        loop.call_soon(time.sleep, 0.03)
        return calm, await loop_lag_ns()

    calm, blocked = asyncio.run(measured())
    assert blocked >= 30_000_000 and calm < blocked
