"""A bundle beside the one of the same recipe that is in force: the evidence by which a refit inherits an approval, or does not (T25)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.models import TrainingSet, training_set
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.reading import Reader
from trading_platform.contracts.errors import TradingError
from trading_platform.contracts.ledger import LedgerEntry
from trading_platform.contracts.model import Model
from trading_platform.contracts.model_recipe import Envelope
from trading_platform.registry.object_store import ObjectStore

WARM_SESSIONS = 63  # before the compared ones, so that the strategy's latches are what they would have been


def refit_gate(
    out: Reader, pipeline: Pipeline, store: ObjectStore, model: Model, first_row: int, incumbent: LedgerEntry, envelope: Envelope
) -> Mapping[str, Any]:
    """Gate `refit_envelope`: the bundle against its incumbent on the last sessions before the first row it may trade.

    An incumbent that cannot be loaded or reads other features compares as nothing: outside, and people decide.
    """
    from trading_platform.registry.bundle import load_bundle
    from trading_platform.research.refit import compare

    named = {"incumbent": incumbent.bundle_id}
    try:
        before = load_bundle(store, f"{incumbent.name}_v{incumbent.version}", incumbent.bundle_id)
    except TradingError as error:
        return {
            "kind": "operational",
            "passed": False,
            "text": f"the incumbent cannot be read: {error.what}",
            "envelope": envelope.hash,
            **named,
        }
    given = training_set(out, pipeline)
    session = given.panel.session[:first_row]
    first = int(np.searchsorted(session, np.unique(session)[-(envelope.sessions + WARM_SESSIONS) :][0])) if len(session) else 0
    alphas = [predicted(one, given, first, first_row) for one in (model, before)]
    member = given.panel.member[first:first_row] & given.panel.present[first:first_row]
    found = compare(alphas[0], alphas[1], member, session[first:], envelope.sessions, out.place.profile(pipeline))
    return {**envelope.gate(found), **named}


def predicted(model: Model, given: TrainingSet, first: int, stop: int) -> NDArray[np.float64]:
    """A bundle's alphas of rows first..stop-1, float64 (T, S), through the runner's own path; NaN throughout for other features."""
    from trading_platform.engine.inference import Inference

    shape = (stop - first, given.features.shape[1])
    if not set(model.config.features) <= set(given.names):
        return np.full(shape, np.nan)
    columns = [given.names.index(name) for name in model.config.features]
    inference, found = Inference(model), np.empty(shape)
    for row in range(first, stop):
        inputs = np.ascontiguousarray(given.features[row][:, columns])
        found[row - first] = inference.alphas(inputs, given.panel.present[row] & np.isfinite(inputs).all(axis=1))
    return found
