"""`trading-platform dev`: Dagster's UI and daemon on a home, on the loopback address."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from trading_platform.assets.dbt_manifest import ensure_manifest
from trading_platform.assets.event_log import BATCHES
from trading_platform.assets.instance import write_instance_file
from trading_platform.config import Settings
from trading_platform.contracts import names
from trading_platform.contracts.errors import InputError

WORKSPACE = Path(__file__).parent.parent.parent / "workspace.yaml"


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment in which Dagster's own processes come to the same settings."""
    given = {"HOME": str(settings.home), "PROFILE": settings.profile, "ACCOUNT": settings.account}
    if settings.data is not None:
        given["DATA"] = str(settings.data)
    prefixed = {f"{names.ENV_PREFIX}{name}": value for name, value in given.items()}
    return {**os.environ, **prefixed, **BATCHES, "DAGSTER_HOME": str(write_instance_file(settings)), "PYTHONWARNINGS": "ignore"}


def refuse_taken(port: int) -> None:
    """InputError where something listens already: Dagster would take another port and say so only in its log."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise InputError(f"cannot listen on port {port}: {error}", "127.0.0.1", "stop what uses it, or give another --port") from error


def serve(settings: Settings, port: int | None) -> int:
    """Run until interrupted; the exit code of `dagster dev`. InputError where the port is taken."""
    address = port or settings.dagster_port
    refuse_taken(address)
    ensure_manifest()
    print(f"Dagster on http://127.0.0.1:{address} with {settings.home}", flush=True)
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(WORKSPACE), "-h", "127.0.0.1", "-p", str(address)]
    try:
        return subprocess.call(command, env=environment_of(settings))
    except KeyboardInterrupt:
        return 0
