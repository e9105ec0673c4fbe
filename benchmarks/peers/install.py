"""One virtual environment per peer below `.peers/`, so that no peer's dependencies touch ours or another's.

usage: python -m benchmarks.peers.install [NAME ...]      (make peers)
What cannot be installed is reported and written to `.peers/<name>.failed`, which the tables print in the peer's place.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".peers"
PACKAGES: dict[str, tuple[str, ...]] = {
    "talib": ("TA-Lib==0.8.*", "numpy", "numba"),
    "polars": ("polars==2.1.*", "numpy"),
    "polars_talib": ("polars_talib", "polars", "numpy"),
    "pandas": ("pandas", "numpy"),
    "qlib": ("pyqlib==0.9.7",),
    "nautilus": ("nautilus_trader==1.221.*",),
    "talipp": ("talipp", "numpy"),
}


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment (it may not exist yet)."""
    return FOLDER / name / "bin" / "python"


def why_absent(name: str) -> str | None:
    """None where the peer is ready, else one line for the table."""
    failed = FOLDER / f"{name}.failed"
    if failed.exists():
        return f"not installed: {failed.read_text().strip()}"
    return None if (FOLDER / f"{name}.ready").exists() else "not installed: run `make peers`"


def install(name: str) -> bool:
    """Make the environment and install the peer; True where that worked."""
    FOLDER.mkdir(exist_ok=True)
    ready, failed = FOLDER / f"{name}.ready", FOLDER / f"{name}.failed"
    ready.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER / name)], check=True)
    command = [str(python_of(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [f"pip ended with {done.returncode}"]
        failed.write_text(lines[-1] + "\n")
        return False
    ready.touch()
    return True


def main() -> int:
    """Install the named peers, or every one that is not ready; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PACKAGES))
    names = parser.parse_args().names or [name for name in PACKAGES if why_absent(name)]
    unknown = sorted(set(names) - set(PACKAGES))
    if unknown:
        parser.error(f"unknown peer {', '.join(unknown)}; use {', '.join(PACKAGES)}")
    worked = True
    for name in names:
        print(f"{name}: {', '.join(PACKAGES[name])}", flush=True)
        good = install(name)
        print(f"{name}: {'ready' if good else why_absent(name)}", flush=True)
        worked = worked and good
    return 0 if worked else 1


if __name__ == "__main__":
    sys.exit(main())
