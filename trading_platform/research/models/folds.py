"""One fold at a time: its cells, what its candidates share, what is kept of it, and its link in the hash chain.

Everything kept is found again by the hash of all that went into it (rows, learner, seed, library, source), so a changed label, feature or
line of code retrains exactly the folds that it touches, and nothing is ever "the latest".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import content_hash, sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.panel import Panel
from trading_platform.research.labels import Labels
from trading_platform.research.models import catalog
from trading_platform.research.models.learner import Learner, TrainingRows, source_hash
from trading_platform.research.splits import Fold

Array = NDArray[np.float64]
WHERE = "research.walk_forward"
EXPLAINED = 256  # cells per fold whose Shapley values are averaged: exact ones cost about a millisecond each
DIGEST = 32


class FoldStore(Protocol):
    """Bytes by content hash of everything that went into them; a folder of files fits."""

    def get(self, key: str) -> bytes | None:
        """The bytes, or None."""

    def put(self, key: str, model: bytes) -> None:
        """Keep the bytes."""


def usable_cells(panel: Panel, features: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Cells a model may speak about: the bar is there and every feature is defined. bool (T, S), as the engine has it."""
    return panel.present & np.isfinite(features).all(axis=2)


class Cells:
    """What all folds read: features (T, S, F) with the cells to learn from and to speak about, and a digest of every row of each.

    A fold's inputs are named by its rows' digests, so that a row shared by twelve folds is hashed once. weights: float64 (T, S) or None.
    """

    def __init__(
        self, panel: Panel, features: NDArray[np.float32], names: Sequence[str], labels: Labels, weights: Array | None = None
    ) -> None:
        self.features, self.names, self.labels, self.weights = features, tuple(names), labels, weights
        self.usable = usable_cells(panel, features)
        self.learnable = self.usable & panel.member & np.isfinite(labels.values)
        self.present = panel.present
        self._learned: dict[int, bytes] = {}
        self._tested: dict[int, bytes] = {}

    def training(self, rows: NDArray[np.int64]) -> TrainingRows:
        """The learnable cells of these rows. InputError names a feature that is undefined in all of them."""
        cells = self.learnable[rows]
        if not cells.any():
            self._refuse_undefined(rows)
        weights = None if self.weights is None else self.weights[rows][cells]
        target = self.labels.values[rows][cells]
        return TrainingRows(np.ascontiguousarray(self.features[rows][cells]), target, self.names, cells.sum(axis=1), weights)

    def _refuse_undefined(self, rows: NDArray[np.int64]) -> None:
        cells = self.features[rows][self.present[rows]]
        empty = [name for number, name in enumerate(self.names) if not np.isfinite(cells[:, number]).any()]
        if cells.size and empty:
            what = f"feature {', '.join(empty)} is undefined in every cell of the training rows"
            raise InputError(what, WHERE, "mend its source, leave it out, or read more rows before the first fold")

    def spoken(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features (N, F) of the usable cells of these rows."""
        return np.ascontiguousarray(self.features[rows][self.usable[rows]])

    def learned_digest(self, rows: NDArray[np.int64]) -> str:
        """Hash of all that training on these rows reads."""
        return self._digest(rows, self._learned, self._learned_row)

    def tested_digest(self, rows: NDArray[np.int64]) -> str:
        """Hash of all that predicting these rows reads."""
        return self._digest(rows, self._tested, lambda row: self.features[row][self.usable[row]].tobytes())

    def _learned_row(self, row: int) -> bytes:
        cells = self.learnable[row]
        weights = b"" if self.weights is None else self.weights[row][cells].tobytes()
        content: bytes = self.features[row][cells].tobytes() + self.labels.values[row][cells].tobytes()
        return content + weights

    @staticmethod
    def _digest(rows: NDArray[np.int64], known: dict[int, bytes], content: Any) -> str:
        for row in map(int, rows):
            if row not in known:
                known[row] = hashlib.sha256(content(row)).digest()
        return sha256_hex(b"".join(known[int(row)] for row in rows))


@dataclass(frozen=True, slots=True)
class Link:
    """What one fold did, as hashes.

    trained: of everything that training read; model: of the trained bytes; tested: of the features predicted on; predicted: of the
    predictions; link: of these four and the link before.
    """

    trained: str
    model: str
    tested: str
    predicted: str
    link: str


@dataclass(frozen=True, slots=True)
class FoldResult:
    """A fold of one candidate.

    predicted: float64 (N,) over `Cells.spoken(fold.test)`. gain, shapley: float64 (F,), shares. trained, tested: as in its Link. reused:
    the model came from the store.
    """

    model: bytes
    predicted: Array
    gain: Array
    shapley: Array
    trained: str
    tested: str
    reused: bool


def chained(results: Sequence[FoldResult]) -> tuple[Link, ...]:
    """The folds' links in order: whoever holds the last one holds the whole walk-forward."""
    links: list[Link] = []
    for result in results:
        told = (result.trained, sha256_hex(result.model), result.tested, sha256_hex(result.predicted.tobytes()))
        links.append(Link(*told, content_hash([links[-1].link if links else "", *told])))
    return tuple(links)


class FoldWork:
    """One fold for all of its candidates: the training cells and each way of preparing them are made once and freed with the last use."""

    def __init__(self, cells: Cells, fold: Fold, store: FoldStore | None, uses: int) -> None:
        self._cells, self._fold, self._store = cells, fold, store
        self._lock = Lock()
        self._rows: TrainingRows | None = None
        self._prepared: dict[tuple[Any, ...], Any] = {}
        self._uses = uses
        self._digests: tuple[str, str] | None = None

    def run(self, learner: Learner, seed: int) -> FoldResult:
        """Train, or find what was trained; predict, or find what was predicted."""
        try:
            trained, tested = self._inputs(learner, seed)
            model, reused = self.trained(learner, seed, trained)
            predicted, gain, shapley = self._outcome(model, tested)
            return FoldResult(model, predicted, gain, shapley, trained, tested, reused)
        finally:
            self._release()

    def _inputs(self, learner: Learner, seed: int) -> tuple[str, str]:
        with self._lock:
            if self._digests is None:
                cells = self._cells
                self._digests = cells.learned_digest(self._fold.train), cells.tested_digest(self._fold.test)
        return trained_key(learner, seed, self._cells.names, self._digests[0]), self._digests[1]

    def trained(self, learner: Learner, seed: int, key: str) -> tuple[bytes, bool]:
        """(model, whether it came from the store)."""
        found = kept(self._store, key)
        if found is not None:
            return found, True
        model = learner.train(self._preparation(learner), seed)
        keep(self._store, key, model)
        return model, False

    def _preparation(self, learner: Learner) -> Any:
        with self._lock:
            if learner.preparation not in self._prepared:
                if self._rows is None:
                    self._rows = self._cells.training(self._fold.train)
                self._prepared[learner.preparation] = learner.prepare(self._rows)
            return self._prepared[learner.preparation]

    def _release(self) -> None:
        with self._lock:
            self._uses -= 1
            if self._uses == 0:
                self._prepared.clear()
                self._rows = None

    def _outcome(self, model: bytes, tested: str) -> tuple[Array, Array, Array]:
        """(predictions, gain share, Shapley share): a function of the model and the features it is asked about."""
        width = len(self._cells.names)
        key = content_hash(["outcome", sha256_hex(model), tested, source_hash()])
        found = kept(self._store, key)
        if found is not None:
            numbers = np.frombuffer(found, dtype="<f8")
            return numbers[2 * width :], numbers[:width], numbers[width : 2 * width]
        native, features = catalog.native(model), self._cells.spoken(self._fold.test)
        predicted, gain = native.predict(model, features), native.importance(model)
        shapley = np.abs(native.contributions(model, features[sample_rows(len(features))])[:, :-1]).sum(axis=0)
        shapley = shapley / shapley.sum() if shapley.sum() > 0.0 else shapley
        keep(self._store, key, np.concatenate([gain, shapley, predicted]).astype("<f8").tobytes())
        return predicted, gain, shapley


def trained_key(learner: Learner, seed: int, names: Sequence[str], digest: str) -> str:
    """The name of a trained model: everything that decides its bytes."""
    return content_hash(["trained", dict(learner.recipe), seed, list(names), digest])


def sample_rows(count: int) -> NDArray[np.int64]:
    """At most EXPLAINED of `count` rows, evenly spread."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, EXPLAINED)).astype(np.int64))


def keep(store: FoldStore | None, key: str, content: bytes) -> None:
    """Keep the bytes behind their own digest."""
    if store is not None:
        store.put(key, hashlib.sha256(content).digest() + content)


def kept(store: FoldStore | None, key: str) -> bytes | None:
    """What was kept, or None. CorruptionError where it is not what was written."""
    found = None if store is None else store.get(key)
    if found is None:
        return None
    if hashlib.sha256(found[DIGEST:]).digest() != found[:DIGEST]:
        raise CorruptionError("a kept fold is not what was written", key, "delete the fold cache: it is made again")
    return found[DIGEST:]
