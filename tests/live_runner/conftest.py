"""Fixtures of the runner's tests: a Redis server, a market, an exchange that plays it, a runner in this process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from market import Exchange, World, make_world, settings_of

from live_runner.runner import Runner
from trading_platform.registry.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    import redis

    client = redis.Redis.from_url(redis_server.url)
    client.flushall()
    client.close()
    return redis_server.url


@pytest.fixture
def daily(tmp_path: Path) -> World:
    return make_world(tmp_path / "home")


@pytest.fixture
def exchange() -> Iterator[Callable[..., Exchange]]:
    opened: list[Exchange] = []

    def start(world: World, **plan: Any) -> Exchange:
        opened.append(Exchange(world, **plan))
        return opened[-1]

    yield start
    for each in opened:
        each.stop()


@pytest.fixture
def play() -> Callable[..., Runner]:
    def go(world: World, url: str, runner_class: type[Runner] = Runner, **changes: Any) -> Runner:
        runner = runner_class(settings_of(world, url, **changes))
        asyncio.run(asyncio.wait_for(runner.run(), 120))
        return runner

    return go
