"""From trained bytes to what a bundle holds: ONNX bytes, parity with it, golden rows, latency, metadata and model card.

The ONNX model is asked through `engine.inference`, the way the runner asks it. Nothing is written here; `registry.bundle` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.model import Model, ModelConfig
from trading_platform.engine.inference import Inference
from trading_platform.research.models import catalog

BATCHES = (1, 2, 7, 50, 129, 500)
PARITY_ROWS = 10_000  # compared at least
Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Parity:
    """Native model against its ONNX form.

    rows: compared; mixed: how many of them are mixed from the values of real ones. max_abs: largest |difference|; scale: standard
    deviation of the native predictions. spearman: rank correlation. sign_flips: share of rows with another sign. top_overlap: mean share
    of a real cross-section's native top tenth that ONNX puts there too.
    batch_invariant: the same bits for every batch size of BATCHES and for all rows at once. differing: share of rows with other bits. Sums
    are exact in float32 (`models.exact_trees`), so rounding explains none of them: each is a row that fell into another leaf.
    """

    rows: int
    mixed: int
    max_abs: float
    scale: float
    spearman: float
    sign_flips: float
    top_overlap: float
    batch_invariant: bool
    differing: float = 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """One cross-section through the model: milliseconds p50 and p99, and rows per second from the median."""

    rows: int
    p50_ms: float
    p99_ms: float
    throughput_qps: float


@dataclass(frozen=True, slots=True)
class Exported:
    """Everything a bundle needs besides its metadata.

    golden_input: float32 (R, F); golden_output: float64 (R,), onnxruntime's own. kind: the learner's name.
    """

    config: ModelConfig
    onnx: bytes
    golden_input: Features
    golden_output: NDArray[np.float64]
    golden_difference: float
    parity: Parity
    latency: Latency
    kind: str


def to_onnx(model: bytes, width: int) -> bytes:
    """ONNX bytes of a trained model over float32 (N, width) features; output float32 (N, 1). Equal models give equal bytes."""
    return catalog.native(model).to_onnx(model, width)


def as_model(config: ModelConfig, onnx: bytes) -> Model:
    """An unsaved Model of ONNX bytes, for asking it before it has a bundle."""
    width = len(config.features)
    return Model("", config, onnx, np.empty((0, width), np.float32), np.empty(0), {})


def _alphas(inference: Inference, features: Features, batch: int | None = None) -> NDArray[np.float64]:
    size = batch or len(features)
    parts = [features[start : start + size] for start in range(0, len(features), size)]
    return np.concatenate([inference.alphas(np.ascontiguousarray(part), np.ones(len(part), np.bool_)) for part in parts])


def _top_overlap(native: NDArray[np.float64], served: NDArray[np.float64], sizes: Sequence[int]) -> float:
    shares = []
    start = 0
    for size in sizes:
        one, other = native[start : start + size], served[start : start + size]
        start += size
        top = max(size // 10, 1)
        chosen = set(np.argsort(-one, kind="stable")[:top].tolist())
        shares.append(len(chosen & set(np.argsort(-other, kind="stable")[:top].tolist())) / top)
    return float(np.mean(shares)) if shares else float("nan")


def parity(model: bytes, inference: Inference, features: Features, sizes: Sequence[int]) -> Parity:
    """Compare the trained model with its ONNX form. features: float32 (N, F) real rows; sizes: cells of each cross-section, adding to N.

    A small universe has few rows: they are brought to PARITY_ROWS by rows whose every feature is drawn from that feature's real values.
    """
    if sum(sizes) != len(features) or len(features) == 0:
        raise InputError(
            f"{len(features)} rows, cross-sections of {sum(sizes)}", "research.export", "give each cross-section's number of rows"
        )
    compared = np.concatenate([features, _mixed(features, PARITY_ROWS - len(features))])
    native = catalog.native(model).predict(model, compared)
    served = _alphas(inference, compared)
    sample = compared[: 4 * max(BATCHES)]
    whole = served[: len(sample)]
    same = all(np.array_equal(_alphas(inference, sample, batch), whole) for batch in BATCHES)
    constant = bool(np.ptp(native) == 0.0 or np.ptp(served) == 0.0)
    return Parity(
        rows=len(compared),
        mixed=len(compared) - len(features),
        max_abs=float(np.max(np.abs(native - served))),
        scale=float(native.std()),
        spearman=float(np.array_equal(native, served)) if constant else float(spearmanr(native, served).statistic),
        sign_flips=float(np.mean(np.sign(native) != np.sign(served))),
        top_overlap=_top_overlap(native[: len(features)], served[: len(features)], sizes),
        batch_invariant=same,
        differing=float(np.mean(native != served)),
    )


def _mixed(features: Features, count: int) -> Features:
    """`count` rows (none below 1) that reach leaves no real row does; the same for the same features."""
    generator = np.random.default_rng(0)
    chosen = generator.integers(0, len(features), (max(count, 0), features.shape[1]))
    return np.take_along_axis(features, chosen, axis=0)


def latency(inference: Inference, features: Features, timer: Callable[[], int], repeats: int = 200) -> Latency:
    """Time one cross-section (N, F) through the runner's own path. timer: nanoseconds of a monotonic clock, given by the caller."""
    defined = np.ones(len(features), np.bool_)
    inference.alphas(features, defined)
    taken = np.empty(repeats)
    for number in range(repeats):
        started = timer()
        inference.alphas(features, defined)
        taken[number] = (timer() - started) / 1e6
    p50, p99 = (float(np.quantile(taken, q)) for q in (0.5, 0.99))
    return Latency(len(features), p50, p99, len(features) / max(p50, 1e-9) * 1e3)


def export(
    model: bytes,
    config: ModelConfig,
    features: Features,
    sizes: Sequence[int],
    timer: Callable[[], int],
    golden: int = 64,
) -> Exported:
    """Convert, compare and time a model.

    features: float32 (N, F) real usable cells in config.features' order, cross-section after cross-section of the given sizes.
    golden: rows kept in the bundle, evenly spread over all.
    """
    if features.ndim != 2 or features.shape[1] != len(config.features) or features.dtype != np.float32:
        raise InputError(f"features are {features.dtype} {features.shape}", "research.export", f"give float32 (N, {len(config.features)})")
    onnx = to_onnx(model, len(config.features))
    inference = Inference(as_model(config, onnx))
    picked = np.unique(np.linspace(0, len(features) - 1, min(golden, len(features))).astype(np.int64))
    rows = np.ascontiguousarray(features[picked])
    outputs = _alphas(inference, rows)
    again = _alphas(Inference(as_model(config, onnx)), rows, batch=1)
    return Exported(
        config=config,
        onnx=onnx,
        golden_input=rows,
        golden_output=outputs,
        golden_difference=float(np.max(np.abs(outputs - again))),
        parity=parity(model, inference, features, sizes),
        latency=latency(inference, np.ascontiguousarray(features[: max(sizes)]), timer),
        kind=catalog.native(model).kind(model),
    )


def metadata(
    exported: Exported,
    *,
    created_at: int,
    metrics: Mapping[str, Any],
    gates: Mapping[str, Any],
    lineage: Mapping[str, Any],
    runs: Mapping[str, str],
    trials: Mapping[str, Any],
) -> dict[str, Any]:
    """metadata.json without what `write_bundle` adds (names, sizes, hashes); fields of DESIGN 7 and SPEC REGY-10.

    lineage: data versions, manifests, report hash, git commit, training span: what would be equal for an equal model. runs: Dagster and
    MLflow run ids: what names this making of it. trials: scope, N, V and the trial registry's head. created_at: UTC ns.
    """
    span = {"trained_from": exported.config.trained_from, "trained_through": exported.config.trained_through}
    speed = {
        "latency_ms": exported.latency.p50_ms,
        "latency_p99_ms": exported.latency.p99_ms,
        "throughput_qps": exported.latency.throughput_qps,
    }
    return {
        "created_at": created_at,
        "framework": exported.kind,
        "metrics": dict(metrics),
        "gates": dict(gates),
        "lineage": {**lineage, "training_span": span},
        "runs": dict(runs),
        "trials": dict(trials),
        "parity": asdict(exported.parity),
        "performance": {**speed, "rows": exported.latency.rows},
    }


def card(exported: Exported, report: Mapping[str, Any], gates: Sequence[Any], notes: Sequence[str] = ()) -> str:
    """card.md: what the model is, what it was trained on, how it did, what it must not be used for.

    report: numbers to print, name -> value. gates: GateResults. notes: warnings that belong across every chart (T33).
    """
    config = exported.config
    trained = [str(np.datetime64(int(day), "D")) for day in (config.trained_from, config.trained_through)]
    lines = [f"# {config.name} v{config.version}", ""]
    lines += [f"> **{note}**" for note in notes] + [""]
    lines += [
        f"`{exported.kind}`. Predicts `{config.target}` {config.horizon} rows of {config.timeframe} ahead, per instrument and row.",
        f"Reads {len(config.features)} features of `{config.feature_set}` (`{config.feature_hash[:12]}`). Slot `{config.slot}`.",
        f"Trained on labels of {trained[0]} to {trained[1]}. Feed: {', '.join(f'{k} {v}' for k, v in sorted(config.feed.items()))}.",
        "",
        "## Walk-forward, net of costs",
        "",
        "| number | value |",
        "|---|---|",
        *(f"| {name} | {value:.4g} |" if isinstance(value, float) else f"| {name} | {value} |" for name, value in report.items()),
        "",
        "## Gates",
        "",
        "| gate | kind | result | |",
        "|---|---|---|---|",
        *(f"| {g.name} | {g.kind} | {g.verdict} | {g.text} |" for g in gates),
        "",
        "## Use",
        "",
        "Paper trading and research. Live money needs every gate passed, operational evidence and two people (docs/gates.md).",
    ]
    return "\n".join(lines) + "\n"
