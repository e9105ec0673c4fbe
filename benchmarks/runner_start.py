"""How long the runner takes to import and to become READY against the simulator, in fresh processes. Medians of five.

Run: python benchmarks/runner_start.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "live_runner"))

from market import ACCOUNT, Exchange, make_world

from trading_platform.registry.redis_server import RedisServer

RUNS = 5
IMPORT = "import time; t = time.perf_counter(); import live_runner.runner; print(time.perf_counter() - t)"


def import_seconds() -> float:
    """Seconds of `import live_runner.runner` in a fresh interpreter."""
    return float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout)


def ready_seconds(folder: Path, redis_url: str) -> tuple[float, float]:
    """Seconds from starting the process to READY, and to the end of a session of twelve daily rows."""
    world = make_world(folder)
    world.stage(redis_url, *world.bundle("momentum", "1", {"returns_21d": 1.0}))
    exchange = Exchange(world)
    (folder / "test.yaml").write_text("name: test\nextends: equity_conservative\n")
    command = [
        sys.executable,
        "-m",
        "live_runner",
        "run",
        "--home",
        str(folder),
        "--account",
        ACCOUNT,
        "--profile",
        str(folder / "test.yaml"),
    ]
    keys = {"APCA_API_KEY_ID": "key", "APCA_API_SECRET_KEY": "secret", "TRADING_METRICS_PORT": "0"}
    started, ready = time.perf_counter(), 0.0
    with subprocess.Popen(
        [*command, "--broker-url", exchange.url, "--redis-url", redis_url, "--lockstep"],
        env={**os.environ, **keys},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout or ():
            if "READY" in line:
                ready = time.perf_counter() - started
    exchange.stop()
    return ready, time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    print(f"import live_runner.runner   {statistics.median(import_seconds() for _ in range(RUNS)):.2f} s")
    with RedisServer() as server, tempfile.TemporaryDirectory() as folder:
        import redis

        measured = []
        for run in range(RUNS + 1):
            redis.Redis.from_url(server.url).flushall()
            measured.append(ready_seconds(Path(folder) / str(run), server.url))
    ready, whole = zip(*measured[1:], strict=True)  # the first run may compile kernels
    print(f"process start to READY      {statistics.median(ready):.2f} s")
    print(f"twelve daily rows, all in   {statistics.median(whole):.2f} s")


if __name__ == "__main__":
    main()
