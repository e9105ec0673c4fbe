"""Statistics against overfitting: PBO beside splits that are concatenated one by one, its null distribution, the trial registry's cost.

usage: python -m benchmarks.overfitting [--quick] [--markdown FILE]
"""

from __future__ import annotations

import math
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks import report
from benchmarks.rounds import ours, take_turns
from trading_platform.contracts.canonical import canonical_bytes, content_hash
from trading_platform.registry.object_store import write_atomic
from trading_platform.research.hash_chain import GENESIS, HashChain
from trading_platform.research.overfitting import clusters, cross_validate, probability_of_overfitting

Array = NDArray[np.float64]
MUST_S = 0.5
TOLD = {"mean": 0.451, "standard deviation": 0.148, "5 %": 0.23, "95 %": 0.71}  # measured apart from this project, same seeds


def noise(seed: int, rows: int, columns: int) -> Array:
    """Daily returns of worthless trials."""
    return np.random.default_rng(seed).standard_normal((rows, columns)) * 0.01


def concatenated(returns: Array, blocks: int) -> Array:
    """Logits by the paper's words, as the known implementations do it: put the blocks of each split together, then take Sharpe ratios."""
    parts = np.split(returns[len(returns) % blocks :], blocks)
    logits = np.empty(math.comb(blocks, blocks // 2))
    for number, chosen in enumerate(combinations(range(blocks), blocks // 2)):
        others = [block for block in range(blocks) if block not in chosen]
        train, test = (np.concatenate([parts[block] for block in half]) for half in (chosen, others))
        best = int(np.argmax(train.mean(axis=0) / train.std(axis=0, ddof=1)))
        rank = rankdata(test.mean(axis=0) / test.std(axis=0, ddof=1))[best] / (returns.shape[1] + 1)
        logits[number] = math.log(rank / (1 - rank))
    return logits


def splits_page(rows: int, columns: int, blocks: int, runs: int) -> list[str]:
    """Values compared, then both sides in turns."""
    returns = noise(0, rows, columns)
    mine, theirs = np.sort(cross_validate(returns, blocks).logit), np.sort(concatenated(returns, blocks))
    apart = float(np.max(np.abs(mine - theirs)))
    if apart > 1e-9:
        raise SystemExit(f"the logits differ by up to {apart}")
    times = take_turns(
        {
            "ours": ours(lambda: probability_of_overfitting(returns, blocks) and None),
            "concatenated": ours(lambda: concatenated(returns, blocks).size and None),
        },
        runs,
    )
    fast, slow = times["ours"], times["concatenated"]
    verdict = report.verdict(fast.wall <= MUST_S) if (rows, columns, blocks) == (1000, 100, 16) else ""
    table = report.table(
        ("side", "s wall (CPU)", "splits a second", "concatenated / ours", f"must <= {MUST_S} s", ""),
        [
            (
                "ours: block sums, one matrix product",
                f"{fast.wall:.3f} ({fast.cpu:.3f})",
                f"{mine.size / fast.wall:,.0f}",
                "",
                MUST_S,
                verdict,
            ),
            ("concatenated", f"{slow.wall:.2f} ({slow.cpu:.2f})", f"{mine.size / slow.wall:,.0f}", f"{slow.wall / fast.wall:.0f}", "", ""),
        ],
    )
    head = (
        f"{rows} x {columns} returns, S = {blocks}: {mine.size:,} splits; PBO {np.mean(mine <= 0):.6f} on both sides, "
        f"logits agree to {apart:.0e}; median of {runs} turns."
    )
    return ["## PBO", "", head, "", *table, ""]


def null_page(seeds: int, rows: int, columns: int, blocks: int) -> list[str]:
    """How wide PBO of pure noise is."""
    found = np.array([probability_of_overfitting(noise(seed, rows, columns), blocks) for seed in range(seeds)])
    seen = dict(zip(TOLD, (found.mean(), found.std(), *np.quantile(found, (0.05, 0.95))), strict=True))
    same = (seeds, rows, columns, blocks) == (60, 1000, 100, 16)
    lines = [(name, f"{value:.3f}", f"{TOLD[name]}" if same else "") for name, value in seen.items()]
    head = f"{rows} x {columns} of pure noise, S = {blocks}, {seeds} seeds: what `null_band` is for. A PBO inside says nothing either way."
    return ["## Null distribution of PBO", "", head, "", *report.table(("PBO", "here", "known for these seeds"), lines), ""]


def chain_of(path: Path, count: int) -> HashChain:
    """A chain of `count` records of a trial's size, written in one go."""
    lines, previous = [], GENESIS
    for number in range(count):
        record = {"scope": "us/all/5d", "recipe": f"{number:064d}", "note": "x" * 100, "seq": number + 1, "prev": previous}
        previous = content_hash(record)
        lines.append(canonical_bytes({**record, "hash": previous}) + b"\n")
    path.write_bytes(b"".join(lines))
    return HashChain(path)


def _median_ms(call: object, runs: int) -> float:
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        call()  # type: ignore[operator]
        taken.append(time.perf_counter() - began)
    return float(np.median(taken)) * 1e3


def registry_page(sizes: tuple[int, ...], runs: int, trials: int) -> list[str]:
    """What a record costs as the registry grows, beside writing the whole file again; what counting costs."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            chain = chain_of(Path(folder) / f"{size}.jsonl", size)
            whole = Path(folder) / "whole.jsonl"

            def rewrite(chain: HashChain = chain, whole: Path = whole) -> None:
                chain.records()
                write_atomic(whole, chain.path.read_bytes(), if_absent=False)

            append = _median_ms(lambda chain=chain: chain.append({"scope": "us/all/5d"}), runs)
            again = _median_ms(rewrite, min(runs, 3))
            rows.append((f"{size:,}", f"{append:.2f}", f"{again:.1f}", f"{again / append:.1f}", f"{_median_ms(chain.records, 3):.0f}"))
    returns = np.random.default_rng(0).standard_normal((1000, trials)) * 0.01
    cost = _median_ms(lambda: clusters(returns), 3)
    heads = ("records", "append, ms", "verify and write all again, ms", "ratio", "verify all, ms")
    told = "Each append is durable (three fsyncs) and checks the newest record; a reader checks them all."
    number = f"Effective number of {trials:,} trials of 1,000 sessions: {cost:.0f} ms."
    return ["## Trial registry", "", told, "", *report.table(heads, rows), "", number]


def page(quick: bool) -> list[str]:
    """Everything."""
    if quick:
        return [*splits_page(160, 8, 8, 1), *null_page(5, 160, 8, 8), *registry_page((10, 100), 2, 20)]
    return [*splits_page(1000, 100, 16, 3), *null_page(60, 1000, 100, 16), *registry_page((100, 1000, 10_000), 11, 1000)]


def main() -> None:
    """Print the page; optionally write it."""
    given = report.parser(__doc__).parse_args()
    started = report.machine()
    report.publish("Overfitting statistics", "overfitting", page(given.quick), given, started)


if __name__ == "__main__":
    main()
