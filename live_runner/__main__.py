"""`python -m live_runner`."""

import sys

from live_runner.cli import main

sys.exit(main())
