"""Fills the feature cache behind each row: after its commit and its orders, in a thread of its own, never waited for.

One row waits at most; a newer one takes its place. When Redis is slow or gone nothing here grows, delays or fails a row: vectors that did
not arrive are counted. Between rows the newest one is written again before it expires, so a session bar's vector outlives five minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import redis
from numpy.typing import NDArray

from live_runner.clock import SECOND, stopwatch_ns
from live_runner.fold import Fold
from live_runner.metrics import Metrics
from live_runner.settings import RunnerSettings
from trading_platform.calendar import date_of
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.journaled_row import panel_of
from trading_platform.contracts.panel import Panel
from trading_platform.contracts.session_inputs import Universe
from trading_platform.registry.feature_cache import TTL_S, FeatureCacheWriter, FeatureRow, Outcome, feature_client

QUIET_NS = 2 * SECOND  # after a failure
AGAIN_S = TTL_S / 2.0
WARM_BATCH = 50  # names per round trip while warming: the most traded are there while others still wait
LAST_WAIT_S = 1.0


class FeatureFiller:
    """Writes the newest row's vectors in the background. Without an address there is no cache, and every call does nothing."""

    def __init__(self, settings: RunnerSettings, fold: Fold, universe: Universe, metrics: Metrics) -> None:
        self._fold, self._universe, self._metrics = fold, universe, metrics
        self._ids = fold.engine.instrument_ids
        self._symbols = tuple(fold.instruments[name].symbol for name in self._ids)
        url = settings.feature_cache_url or settings.redis_url
        self._client = feature_client(url) if url else None
        self._writer: FeatureCacheWriter | None = None
        if self._client is not None:
            self._writer = FeatureCacheWriter(self._client, settings.account, settings.mode, settings.feature_stream)
        self._thread = ThreadPoolExecutor(1, "feature-cache")
        self._waiting: tuple[FeatureRow, Sequence[Sequence[int]], bool] | None = None
        self._task: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._hung_up = False
        self._newest = -1  # row published last
        self._quiet_until = 0
        self._reads: dict[str, int] | None = None  # totals at the last look; they began before this process
        self._hits = self._asked = 0

    def row_closed(self) -> None:
        """Publish the row that the fold stepped last; returns at once."""
        if self._writer is not None and self._fold.row is not None:
            panel, block, _ = self._fold.row
            self._publish(self._row(panel, block.features[0]), [range(len(self._ids))], told=True)

    def warm(self, journal: Path) -> None:
        """Publish the journal's last row, as this process stepped it or as the fold's snapshot kept it, the most traded names first."""
        fold, kept = self._fold, self._fold.engine.signals.kept
        if self._writer is None or fold.carried or not len(kept):
            return
        with JournalReader(journal) as reader:
            record = reader.last(Kind.ROW)
        at = -1 if record is None else int(record.body["timestamp"])
        if record is None or at != fold.last_row or at == self._newest:
            return  # a row of another account, or one that was closed in this life
        panel = panel_of(record.body)
        daily_value = self._universe.adv_row(date_of(int(panel.session[0])).isoformat()) * panel.fields["close"][0]
        order = np.argsort(-np.nan_to_num(daily_value), kind="stable").tolist()
        batches = [order[first : first + WARM_BATCH] for first in range(0, len(order), WARM_BATCH)]
        self._publish(self._row(panel, kept[-1]), batches, told=False)

    def _row(self, panel: Panel, features: NDArray[np.float32]) -> FeatureRow:
        chosen = self._fold.engine.signals.feature_set
        return FeatureRow(
            panel.timeframe,
            int(panel.timestamp[0]),
            int(panel.known_at[0]),
            chosen.hash,
            f"{chosen.name} {chosen.label}",
            self._symbols,
            self._ids,
            chosen.names,
            features,
            panel.present[0],
        )

    def _publish(self, row: FeatureRow, batches: Sequence[Sequence[int]], told: bool) -> None:
        self._newest = row.timestamp
        if self._waiting is not None:
            self._metrics.cache_writes.labels("superseded").inc(int(self._waiting[0].present.sum()))
        self._waiting = (row, batches, told)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send())
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(AGAIN_S, lambda: self._publish(row, batches, told=False))

    async def _send(self) -> None:
        while self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write, *waiting)

    def _write(self, row: FeatureRow, batches: Sequence[Sequence[int]], told: bool) -> None:
        assert self._writer is not None
        for batch in batches:
            vectors = int(row.present[list(batch)].sum())
            if stopwatch_ns() < self._quiet_until:
                self._metrics.cache_writes.labels("failed").inc(vectors)
                continue
            try:
                reads = self._writer.write(row, batch, told)
            except (redis.RedisError, ValueError) as error:
                if isinstance(error, ValueError) and not self._hung_up:
                    raise  # not that of a socket closed under it
                self._quiet_until = stopwatch_ns() + QUIET_NS
                self._metrics.cache_writes.labels("failed").inc(vectors)
                continue
            self._metrics.cache_writes.labels("written").inc(vectors)
            self._show(reads)

    def _show(self, reads: dict[str, int]) -> None:
        """What readers have counted since this process began; a Redis that lost its counts begins at zero again."""
        if self._reads is None:
            self._reads = reads
        for outcome in Outcome:
            total, before = reads.get(outcome, 0), self._reads.get(outcome, 0)
            new = total - before if total >= before else total
            self._metrics.cache_reads.labels(outcome.value).inc(new)
            self._asked += new
            self._hits += new if outcome is Outcome.HIT else 0
        self._reads = reads
        if self._asked:
            self._metrics.cache_hit_rate.set(self._hits / self._asked)

    async def finish(self) -> None:
        """Let the row on its way arrive, for a second; then hang up."""
        if self._again is not None:
            self._again.cancel()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=LAST_WAIT_S)
        self._waiting, self._hung_up = None, True
        if self._client is not None:
            self._client.connection_pool.disconnect()
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._client is not None:
            self._client.close()
