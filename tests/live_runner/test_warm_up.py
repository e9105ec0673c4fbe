"""Machine code is loaded before the first row: what a session calls afterwards finds every signature it needs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from live_runner.orders import OrderBook
from live_runner.warm_up import warm_up
from trading_platform.contracts.instruments import Instrument
from trading_platform.contracts.profile import Profile
from trading_platform.engine.engine import Engine
from trading_platform.features.catalog.registry import feature_set

FRESH = """
import gc, sys
from pathlib import Path
sys.path.insert(0, "tests/live_runner")
from numba.core.dispatcher import Dispatcher
import numpy as np
from market import make_world
from live_runner.fold import action_table, build_fold
from live_runner.warm_up import warm_up
from live_runner.rows import RowAssembler
from trading_platform.calendar import MarketCalendar
from trading_platform.engine.context import RowContext
from trading_platform.contracts.orders import Leg, Side

def loaded():
    found = [d for d in gc.get_objects() if isinstance(d, Dispatcher)]
    return {f"{d.py_func.__module__}.{d.py_func.__qualname__}:{id(d)}": len(d.signatures) for d in found}

world = make_world(Path(sys.argv[1]), sys.argv[2], 12)
lake = world.root / "lake"
fold = build_fold(world.inputs, action_table(world.inputs, lake), MarketCalendar(), world.profile, lambda label, bundle: None)
if sys.argv[3] == "warm":
    warm_up(fold.engine, world.inputs.fields)
before, width = loaded(), len(world.instruments)
panel = world.panel.rows(world.first_row, world.first_row + 1)
day = int(panel.session[0])
context = RowContext(panel.fields["close"][0].copy(), np.zeros(width), 0, 1, 2, world.universe.sector_codes(), np.full(width, 1e6))
fold.engine.start_session(day)
fold.engine.decide(panel, fold.engine.signals.step(panel), context)
fold.engine.apply_fill("us:AA", Side.BUY, 3, 1000.0, Leg.ENTER)
fold.engine.apply_action("us:AA", 2.0, 0.1)
fold.engine.apply_cash(1.0)
fold.engine.apply_flow(1.0)
fold.engine.equity()
print(*(key.partition(":")[0] for key, count in loaded().items() if count > before.get(key, 0)))
"""


@pytest.mark.parametrize("timeframe", ["1Day", "1Min"])
def test_the_first_row_loads_nothing_any_more(timeframe: str, tmp_path: object) -> None:
    def news(how: str) -> list[str]:
        words = [sys.executable, "-c", FRESH, f"{tmp_path}/{how}", timeframe, how]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()

    assert news("warm") == []
    assert news("cold"), "the count sees nothing: the test could not fail"


def test_warming_up_changes_nothing_of_the_engine() -> None:
    instruments = tuple(Instrument(f"us:{letter}", letter) for letter in "ABCD")
    engine = Engine(Profile("warm"), instruments, "1Day", feature_set("core"), None, {}, 1000.0)
    before = engine.account_bytes(), engine.signals.state_bytes()
    warm_up(engine)
    assert (engine.account_bytes(), engine.signals.state_bytes()) == before


def test_the_index_of_open_orders_forgets_what_has_closed() -> None:
    """Against the plain scan over all orders, through random lives of orders and a snapshot in the middle."""
    generator, book, made = np.random.default_rng(5), OrderBook(), 0
    for step in range(400):
        name = f"us:{generator.integers(4)}"
        if generator.random() < 0.4:
            made += 1
            leg = "protect" if generator.random() < 0.3 else "enter"
            body = {
                "client_order_id": f"tp{made}", "origin_id": "o", "instrument_id": name, "symbol": name[3:], "side": "buy", "lots": 5,
                "quantity": "5", "order_type": "limit", "time_in_force": "day", "leg": leg, "attempt": 1, "created_at": 1,
                "limit_price": "1.00", "valid_from": 0, "good_until": 0,
            }  # fmt: skip
            book.add_intent(body, 1)
        elif made:
            status = str(generator.choice(["working", "canceled", "rejected", "expired", "unknown"]))
            book.add_event({"client_order_id": f"tp{generator.integers(made) + 1}", "status": status})
        if step == 200:
            kept, book = {i: o for i, o in book.orders.items() if o.status.is_open}, OrderBook.from_body(_stored(book))
            assert set(book.orders) == set(kept)
        plain = [o for o in book.orders.values() if o.status.is_open and o.intent.instrument_id == name]
        assert book.open_of(name) == plain
        assert book.protection_of(name) == [o for o in plain if o.protects]
    assert made > 50


def _stored(book: OrderBook) -> dict:
    from trading_platform.contracts.canonical import canonical_bytes, parse

    return parse(canonical_bytes(book.to_body(set())))
