"""python -m live_runner.simulator"""

from __future__ import annotations

import sys

from live_runner.simulator.cli import main

if __name__ == "__main__":
    sys.exit(main())
