"""Screenshots for the docs: starts the Dagster UI on a demo's home and photographs it with headless Chromium (`make screenshots`).

Needs Debian's chromium; never run by `make test`. usage: python docs/screenshots.py [--home .trading/boxed] [--data DIR]
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from websockets.sync.client import ClientConnection, connect

from trading_platform.config import load_settings
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.demo.dev import WORKSPACE, environment_of
from trading_platform.registry.redis_server import free_port

IMAGES = Path(__file__).parent / "images"
GROUPS = ("bars", "universe", "features", "labels", "models", "walk_forward", "registry", "live", "warehouse")
EXPANDED = ",".join(f"global@global:{group}" for group in GROUPS)
DAILY = ("bars_daily", "universe", "features_daily", "labels_daily", "alpha_lightgbm", "walk_forward_report", "model_bundle", "promotion")
SELECTION = quote(" or ".join(f'key:"{name}"' for name in DAILY))
QUIET_S = 1.5  # a page that has not changed for so long is ready
PATIENCE_S = 60.0
# The cell of a metadata table in the row of a key; Dagster shows Markdown, and so every plot, behind a click on it.
OPEN = """(key => {
  const row = [...document.querySelectorAll('tr')].find(row => row.cells.length > 1 && row.cells[0].innerText.trim() === key);
  const link = row && [...row.querySelectorAll('*')].reverse().find(each => each.innerText === '[Show Markdown]');
  if (link) link.click();
  return Boolean(link);
})"""


@dataclass(frozen=True, slots=True)
class Page:
    """Address below the UI's, size in CSS pixels, pixels of the picture per CSS pixel, and the metadata key to open, if any."""

    path: str
    width: int
    height: int
    scale: float = 1.0
    opened: str = ""


def pages(session: str) -> dict[str, Page]:
    """File name -> page. session: the traded session whose report is shown."""
    return {
        "asset_groups.png": Page("asset-groups", 1500, 900),
        "asset_graph.png": Page(f"asset-groups~{SELECTION}/?expanded={EXPANDED}", 4400, 3200, 0.5),
        "features.png": Page("assets/features_daily?view=overview", 1500, 1300),
        "feature_drift.png": Page("assets/feature_drift_daily?view=overview", 1500, 1100, opened="feature_drift"),
        "walk_forward_report.png": Page("assets/walk_forward_report?view=overview", 1500, 1300),
        "equity_curve.png": Page("assets/walk_forward_report?view=overview", 1500, 1000, opened="equity_curve"),
        "session_report.png": Page(f"assets/session_report?view=partitions&partition={quote(session, safe='')}", 1500, 1100),
        "checks.png": Page("assets/model_bundle?view=checks", 1500, 900),
    }


class Browser:
    """One page of a headless Chromium, spoken to by its DevTools protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv(timeout=PATIENCE_S))).get("id") != number:
            pass
        if "error" in answer:
            raise SystemExit(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def settle(self) -> None:
        """Wait until the page stays as it is."""
        deadline, before, since = time.monotonic() + PATIENCE_S, None, time.monotonic()
        while time.monotonic() - since < QUIET_S and time.monotonic() < deadline:
            time.sleep(0.1)
            now = self.value("document.body ? document.body.innerHTML.length : 0")
            if now != before:
                before, since = now, time.monotonic()

    def photograph(self, url: str, page: Page, target: Path) -> None:
        """Open a page and store its picture."""
        size = {"width": page.width, "height": page.height, "deviceScaleFactor": page.scale, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Page.navigate", url=f"{url}/{page.path}")
        time.sleep(3.0)
        self.settle()
        if page.opened:
            if not self.value(f"{OPEN}({json.dumps(page.opened)})"):
                raise SystemExit(f"no metadata {page.opened!r} on {page.path}")
            self.settle()
        target.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))
        print(f"{target.name}: {target.stat().st_size // 1024} KiB")


def wait_until_up(url: str, seconds: float) -> Any:
    """What an address answers, once it does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"nothing came up at {url}")


@contextmanager
def browser(chromium: str) -> Iterator[Browser]:
    """A headless Chromium with a profile of its own."""
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", f"--user-data-dir={profile}")
        command = [chromium, *options, f"--remote-debugging-port={port}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until_up(f"http://127.0.0.1:{port}/json/version", 30)
            tabs = wait_until_up(f"http://127.0.0.1:{port}/json/list", 30)
            address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            with connect(address, max_size=None) as socket:
                yield Browser(socket)
        finally:
            process.terminate()
            process.wait(timeout=30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".trading/boxed"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="*", choices=tuple(pages("")))
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium here; on Debian: apt-get install chromium")
    given = {"home": options.home, "profile": "demo", "account": "demo"} | ({"data": options.data} if options.data else {})
    settings, port = load_settings(**given), free_port()
    with JournalReader(settings.journal_path) as reader:
        closed = reader.last(Kind.SESSION_CLOSED)
    if closed is None:
        raise SystemExit(f"no session was traded in {options.home}: run the demo first")
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(WORKSPACE), "-h", "127.0.0.1", "-p", str(port)]
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, env=environment_of(settings), stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_up(f"{url}/server_info", 90)
            found = pages(closed.session_id)
            with browser(chromium) as window:
                for name in options.only or found:
                    window.photograph(url, found[name], IMAGES / name)
        finally:
            server.terminate()
            server.wait(timeout=60)


if __name__ == "__main__":
    main()
