"""Identity: a rename keeps the id, a re-used ticker gets a new one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trading_platform.contracts.errors import InputError
from trading_platform.market_data.symbols import FOREVER, SymbolPeriod, SymbolTable

TABLE = SymbolTable(
    [
        SymbolPeriod("FB", 0, 100, "us:FB"),
        SymbolPeriod("META", 101, FOREVER, "us:FB"),
        SymbolPeriod("CB", 0, 50, "us:CB"),
        SymbolPeriod("CB", 60, FOREVER, "us:CB~2"),
    ]
)


def test_a_rename_keeps_the_instrument() -> None:
    assert TABLE.instrument_id("FB", 100) == TABLE.instrument_id("META", 101) == "us:FB"
    assert (TABLE.symbol("us:FB", 100), TABLE.symbol("us:FB", 101)) == ("FB", "META")


def test_a_ticker_used_again_is_another_instrument() -> None:
    assert (TABLE.instrument_id("CB", 50), TABLE.instrument_id("CB", 60)) == ("us:CB", "us:CB~2")


def test_nobody_is_invented() -> None:
    with pytest.raises(InputError, match="unknown symbol 'CB' on day 55"):
        TABLE.instrument_id("CB", 55)
    with pytest.raises(InputError, match="us:CB has no ticker on day 60"):
        TABLE.symbol("us:CB", 60)


def test_overlaps_are_refused_on_both_sides() -> None:
    with pytest.raises(InputError, match="overlaps"):
        SymbolTable([SymbolPeriod("A", 0, 10, "us:A"), SymbolPeriod("A", 10, 20, "us:A~2")])
    with pytest.raises(InputError, match="overlaps"):
        SymbolTable([SymbolPeriod("A", 0, 10, "us:A"), SymbolPeriod("B", 10, 20, "us:A")])


def test_what_the_runner_imports_brings_no_tables() -> None:
    script = (
        "import sys, trading_platform.market_data.symbols, trading_platform.market_data.corporate_actions as c;"
        "print(sorted({'polars', 'pandas', 'pyarrow', 'dagster', 'exchange_calendars'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
