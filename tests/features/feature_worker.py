"""Runs rows of a saved panel through a program in a process of its own: state in from a file, state and features out to files.

usage: feature_worker.py FOLDER SET START STOP   (FOLDER/panel.npz, FOLDER/state.npz; writes FOLDER/features_START.npy)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from feature_panels import every_operator

from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog import registry
from trading_platform.features.program import FeatureSet, Program

AXES = ("timestamp", "known_at", "session", "present", "member")


def save_panel(path: Path, panel: Panel) -> None:
    """Write the panel's arrays."""
    np.savez(
        path,
        ids=np.array(panel.instrument_ids),
        **{name: getattr(panel, name) for name in AXES},
        **{f"field_{k}": v for k, v in panel.fields.items()},
    )


def load_panel(path: Path) -> Panel:
    """Read a panel written by `save_panel`."""
    with np.load(path) as saved:
        fields = {name[6:]: saved[name] for name in saved.files if name.startswith("field_")}
        axes = {name: saved[name] for name in AXES}
        return Panel(timeframe="1Min", instrument_ids=tuple(str(x) for x in saved["ids"]), fields=fields, **axes)


def set_of(name: str) -> FeatureSet:
    """A set of the catalogue, or the generated one."""
    return every_operator() if name == "every_operator" else registry.feature_set(name)


def main(folder: Path, names: str, start: int, stop: int) -> None:
    """Advance each set over its rows."""
    panel = load_panel(folder / "panel.npz").rows(start, stop)
    for name in names.split(","):
        feature_set = set_of(name)
        program = Program(feature_set, panel.instrument_ids)
        if start:
            program.load_state((folder / f"{name}_state.npz").read_bytes())
        features = program.step(panel, np.empty((*panel.shape, len(feature_set.names))))
        np.save(folder / f"{name}_features_{start}.npy", features)
        (folder / f"{name}_state.npz").write_bytes(program.state_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
