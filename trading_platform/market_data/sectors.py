"""The field `sector` of a panel: a number per instrument, equal for those of one sector. What `cross_section` groups by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from trading_platform.contracts.panel import Panel


def with_sectors(panel: Panel, sectors: pl.DataFrame) -> Panel:
    """The panel with the field sector, NaN where an instrument has none.

    sectors: instrument_id, sector (`BarSource.sectors`); as of today, for sources state no history. Only equality of the numbers means
    anything: they are places in the sorted names of the whole frame.
    """
    order = {name: float(code) for code, name in enumerate(sorted(set(sectors["sector"].drop_nulls().to_list())))}
    of = dict(zip(sectors["instrument_id"].to_list(), sectors["sector"].to_list(), strict=True))
    codes = np.array([order.get(of.get(name), np.nan) for name in panel.instrument_ids])
    return replace(panel, fields={**panel.fields, "sector": np.where(panel.present, codes, np.nan)})
