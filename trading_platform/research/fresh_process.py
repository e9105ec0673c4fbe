"""The restart proof in a process of its own: a state written here, read and continued by an interpreter that knows nothing else.

usage: python -m trading_platform.research.fresh_process FOLDER SET   (panel.npz and state.npz in, features.npy out)
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from trading_platform.contracts.errors import CorruptionError
from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.program import Program
from trading_platform.features.proof import FUTURE_ROWS, Proof, Values, Verdict

AXES = ("timestamp", "known_at", "session", "present", "member")
PANEL, STATE, FEATURES = "panel.npz", "state.npz", "features.npy"
TIMEOUT_S = 300
ROOT = Path(__file__).parents[2]  # `python -m` looks here first: the process runs the code that asks, wherever it was started


def restart_elsewhere(proof: Proof) -> Verdict:
    """Restart from the state after two thirds of the panel in a fresh process, bit for bit. The set must be one of the catalogue.

    CorruptionError with what the process said where it ended badly.
    """
    panel, name = proof.panel, proof.feature_set.name
    cut = panel.shape[0] * 2 // 3
    rest = panel.rows(cut, min(cut + FUTURE_ROWS, panel.shape[0]))
    program = Program(proof.feature_set, panel.instrument_ids)
    program.step(panel.rows(0, cut))
    with tempfile.TemporaryDirectory() as folder:
        _save(Path(folder) / PANEL, rest)
        (Path(folder) / STATE).write_bytes(program.state_bytes())
        command = [sys.executable, "-m", "trading_platform.research.fresh_process", folder, name]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=ROOT)
        if ended.returncode:
            raise CorruptionError(
                f"the process ended with {ended.returncode}: {ended.stderr[-500:]}", f"feature set {name}", "run it by hand"
            )
        other: Values = np.load(Path(folder) / FEATURES, allow_pickle=False)
    mine = proof.honest[cut : cut + rest.shape[0]]
    found = proof.against("restart", mine, other, cut, "after a restart in a fresh process")
    return Verdict(found.check, found.passed, found.compared, found.findings, "once more in a fresh process")


def _save(path: Path, panel: Panel) -> None:
    fields = {f"field_{name}": values for name, values in panel.fields.items()}
    axes = {name: getattr(panel, name) for name in AXES}
    np.savez(path, ids=np.array(panel.instrument_ids), timeframe=np.array(panel.timeframe), **axes, **fields)


def _load(path: Path) -> Panel:
    with np.load(path, allow_pickle=False) as saved:
        fields = {name.removeprefix("field_"): saved[name] for name in saved.files if name.startswith("field_")}
        ids = tuple(str(name) for name in saved["ids"])
        return Panel(timeframe=str(saved["timeframe"]), instrument_ids=ids, fields=fields, **{name: saved[name] for name in AXES})


def main(folder: Path, name: str) -> None:
    """Take the state over, compute the rows, write the features."""
    panel, chosen = _load(folder / PANEL), feature_set(name)
    program = Program(chosen, panel.instrument_ids)
    program.load_state((folder / STATE).read_bytes())
    np.save(folder / FEATURES, program.step(panel, np.empty((*panel.shape, len(chosen.names)))), allow_pickle=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
