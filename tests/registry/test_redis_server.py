"""Our own Redis server: starts, keeps its data, and says so when the port is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from trading_platform.contracts.errors import TransientError
from trading_platform.registry.redis_server import RedisServer


def test_data_survives_a_restart_when_a_folder_is_given(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.hset("model:registry:active", "daily", "alpha_v1")
        assert client.config_get("bind")["bind"] == "127.0.0.1"
    with RedisServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        assert client.hget("model:registry:active", "daily") == b"alpha_v1"


def test_a_taken_port_is_one_clear_error() -> None:
    with RedisServer() as server, pytest.raises(TransientError, match="did not start"):
        RedisServer(port=server.port).start()
