"""Screenshots for the docs: starts the Dagster UI on a demo's home and photographs it with headless Chromium (`make screenshots`).

Needs Debian's chromium; never run by `make test`. usage: python docs/screenshots.py [--home .trading/boxed] [--data DIR]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

from trading_platform.config import load_settings
from trading_platform.demo.dev import WORKSPACE, environment_of
from trading_platform.registry.redis_server import free_port

IMAGES = Path(__file__).parent / "images"
GROUPS = ("bars", "universe", "features", "labels", "models", "walk_forward", "registry", "live", "warehouse")
EXPANDED = ",".join(f"global@global:{group}" for group in GROUPS)
DAILY = ("bars_daily", "universe", "features_daily", "labels_daily", "alpha_lightgbm", "walk_forward_report", "model_bundle", "promotion")
SELECTION = quote(" or ".join(f'key:"{name}"' for name in DAILY))
PAGES = {
    "asset_groups.png": ("asset-groups", 1800, 1100, 1.0),
    "asset_graph.png": (f"asset-groups~{SELECTION}/?expanded={EXPANDED}", 2200, 1600, 0.5),
    "walk_forward_report.png": ("assets/walk_forward_report?view=overview", 1600, 1400, 1.0),
    "session_report.png": ("assets/session_report?view=partitions", 1600, 1000, 1.0),
    "checks.png": ("assets/model_bundle?view=checks", 1600, 900, 1.0),
}
CHROMIUM = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=25000",
)  # fmt: skip


def wait_until_up(url: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"the UI did not come up at {url}")


def photograph(chromium: str, url: str, target: Path, width: int, height: int, scale: float) -> None:
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium, *CHROMIUM, f"--user-data-dir={profile}", f"--window-size={int(width / scale)},{int(height / scale)}"]
        command += [f"--force-device-scale-factor={scale}", f"--screenshot={target}", url]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
    print(f"{target.name}: {target.stat().st_size // 1024} KiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".trading/boxed"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="*", choices=tuple(PAGES))
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium here; on Debian: apt-get install chromium")
    given = {"home": options.home, "profile": "demo", "account": "demo"} | ({"data": options.data} if options.data else {})
    settings, port = load_settings(**given), free_port()
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(WORKSPACE), "-h", "127.0.0.1", "-p", str(port)]
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, env=environment_of(settings), stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_up(url, 90)
            for name in options.only or PAGES:
                page, width, height, scale = PAGES[name]
                photograph(chromium, f"{url}/{page}", IMAGES / name, width, height, scale)
        finally:
            server.terminate()
            server.wait(timeout=60)


if __name__ == "__main__":
    main()
