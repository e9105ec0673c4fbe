"""Which stops the venue should hold now (T16): a function of the fold and the time."""

from __future__ import annotations

from collections.abc import Sequence

from live_runner.fold import Fold
from live_runner.orders import LiveOrder
from trading_platform.contracts.orders import Leg, OrderStatus


def desired_stops(fold: Fold, now: int, sending: Sequence[LiveOrder]) -> dict[str, tuple[int, int]]:
    """Instrument -> (stop lots, stop ticks). A reduction that waits for its time leaves the stop alone until it is sent.

    now: UTC ns. sending: orders that are about to be sent, waiting ones among them no longer wait.
    """
    desired = {name: (lots, ticks) for name, lots, ticks in fold.engine.desired_protection()}
    for order in fold.book.open_orders():
        name = order.intent.instrument_id
        waits = order.status is OrderStatus.INTENT and order.valid_from > now and order not in sending
        if waits and order.intent.leg in (Leg.REDUCE, Leg.FLATTEN):
            lots = desired.get(name, (0, 0))[0] + order.open_lots
            stop = int(fold.engine.account.stop_ticks[fold.engine.instrument_ids.index(name)])
            if stop > 0:
                desired[name] = (min(lots, abs(fold.position(name))), stop)
    return desired
