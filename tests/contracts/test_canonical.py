"""Canonical bytes: golden values, refusals, and round trips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_platform.contracts.canonical import canonical_bytes, content_hash, decode_array, parse
from trading_platform.contracts.decision import CheckOutcome, Decision
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.orders import Leg, OrderType, PlannedOrder, Side, TimeInForce
from trading_platform.contracts.profile import Profile

GOLDEN_DECISION = "83c9c11d4e4979ff4752f77a52e12bf1e14e48e584d3f49fd001e9c82fd2489a"


def a_decision() -> Decision:
    return Decision(
        decision_id="d",
        timeframe="1Day",
        timestamp=1,
        known_at=2,
        session=3,
        instrument_ids=("us:A", "us:B"),
        row_hash="r",
        account_state_hash="a",
        bundle_ids=("b",),
        hashes={"profile": "p"},
        coverage=1.0,
        equity=1000.5,
        alpha=np.array([0.5, np.nan]),
        exposure=np.array([0.1, 0.0]),
        position=np.array([0, 5]),
        target=np.array([7, 0]),
        orders=(PlannedOrder("us:A", Side.BUY, 7, OrderType.LIMIT, TimeInForce.DAY, Leg.ENTER, limit_ticks=12345),),
        checks=(CheckOutcome("us:A", "POSITION_LIMIT", 0.05, 0.04, True),),
        check_counts={"POSITION_LIMIT": 1},
    )


def test_golden_bytes_of_plain_values() -> None:
    value = {"b": [1, 2.5, None, True], "a": {"z": "é", "y": -0.0, "gone": None}}
    assert canonical_bytes(value) == '{"a":{"y":0.0,"z":"é"},"b":[1,2.5,null,true]}'.encode()


def test_golden_bytes_of_an_array() -> None:
    assert canonical_bytes(np.array([[1.0, np.nan]])) == b'{"data":"AAAAAAAA8D8AAAAAAAD4fw==","dtype":"f8","shape":[1,2]}'
    assert canonical_bytes(np.array([1, 2], dtype=">i4")) == canonical_bytes(np.array([1, 2], dtype="<i4"))


def test_golden_hash_of_a_decision() -> None:
    decision = a_decision()
    assert decision.to_bytes() == a_decision().to_bytes()
    assert content_hash(decision) == GOLDEN_DECISION


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"k": [float("-inf")]}])
def test_nan_and_inf_are_refused_with_their_place(value: object) -> None:
    with pytest.raises(InputError) as caught:
        canonical_bytes(value)
    assert caught.value.where.startswith("$")


@pytest.mark.parametrize("value", [{1: "a"}, object(), {"s": {1, 2}}, b"bytes", np.array(["text"])])
def test_values_without_a_canonical_form_are_refused(value: object) -> None:
    with pytest.raises(InputError):
        canonical_bytes(value)


def test_a_damaged_array_is_corruption() -> None:
    with pytest.raises(CorruptionError):
        decode_array({"data": "AAAA", "dtype": "f8", "shape": [1]})
    with pytest.raises(CorruptionError):
        parse(b"{not json")


def test_a_profile_hash_moves_with_any_number() -> None:
    assert Profile("p").hash == Profile("p").hash
    assert Profile("p").hash != Profile("p", grace_s=2.5).hash


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20))
def test_arrays_come_back_bit_for_bit(values: list[float]) -> None:
    array = np.array(values, dtype=np.float64)
    back = decode_array(parse(canonical_bytes(array)))
    assert back.tobytes() == array.tobytes() and back.shape == array.shape


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_parsing_and_writing_again_gives_the_same_bytes(value: object) -> None:
    once = canonical_bytes(value)
    assert canonical_bytes(parse(once)) == once
