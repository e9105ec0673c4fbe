"""Start-up times, each in fresh processes: definitions load after `import dagster`, `import live_runner.runner`, start to READY.

usage: python benchmarks/start_up.py [--runs N] [--markdown FILE]. READY is measured by the demo's own log when a home of a demo is given:
    python benchmarks/start_up.py --home .trading/boxed
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

DEFINITIONS = """
import json, sys, time
import dagster
started = time.perf_counter()
import trading_platform.definitions
print(json.dumps({"seconds": time.perf_counter() - started, "heavy": [m for m in ("torch", "lightgbm", "mlflow") if m in sys.modules]}))
"""
RUNNER = """
import json, sys, time
started = time.perf_counter()
import live_runner.runner
heavy = [m for m in ("dagster", "torch", "lightgbm", "mlflow", "dbt", "polars") if m in sys.modules]
print(json.dumps({"seconds": time.perf_counter() - started, "heavy": heavy}))
"""


def fresh(code: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def ready(home: Path) -> float:
    """Start to READY against the simulator with the inputs of a demo's home, seconds."""
    from trading_platform.assets.pipelines import DAILY
    from trading_platform.assets.workplace import Workplace
    from trading_platform.config import load_settings
    from trading_platform.contracts import names
    from trading_platform.demo.operator import Operator
    from trading_platform.demo.processes import Child
    from trading_platform.demo.stretch import read_stretch
    from trading_platform.demo.trade import SIMULATED_KEYS, child_environment, runner_command, simulator_command

    settings = load_settings(home=home, profile="demo", account="bench")
    stretch = read_stretch(DAILY, home / "demo" / "daily")
    environment, log = child_environment(settings), home / "demo" / "logs"
    with Child("simulator", simulator_command(Workplace(settings), stretch, "bench"), log / "bench-simulator.log", environment) as venue:
        port = int(venue.wait_for("listening", 60))
        operator = Operator(port, SIMULATED_KEYS[names.ENV_BROKER_KEY], lambda message: None)
        operator.start()
        command = [*runner_command(settings, "daily", "bench"), "--broker-url", f"http://127.0.0.1:{port}", "--redis-url", ""]
        started = time.perf_counter()
        with Child("runner", command, log / "bench-runner.log", environment) as runner:
            while runner.wait_for("state", 60) != "READY":
                pass
            return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    rows = []
    for name, code, must in (("definitions load (after import dagster)", DEFINITIONS, 1.0), ("import live_runner.runner", RUNNER, 1.0)):
        found = [fresh(code) for _ in range(options.runs)]
        seconds = [float(str(one["seconds"])) for one in found]
        rows.append((name, statistics.median(seconds), min(seconds), must, f"heavy modules: {found[0]['heavy'] or 'none'}"))
    if options.home is not None:
        seconds = [ready(options.home.absolute()) for _ in range(options.runs)]
        rows.append(
            ("runner process start to READY", statistics.median(seconds), min(seconds), 3.0, "simulator, lock-step, 120-row stretch")
        )
    lines = ["| what | median s | min s | must s | |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {median:.2f} | {least:.2f} | {must:.1f} | {note} |" for name, median, least, must, note in rows]
    print("\n".join(lines))
    if options.markdown is not None:
        options.markdown.write_text("# Start-up\n\n`python benchmarks/start_up.py --home HOME`\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
