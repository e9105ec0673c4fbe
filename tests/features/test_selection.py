"""References to parts and versions of a set: what they select, what they are called, what they refuse."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trading_platform.contracts.errors import InputError
from trading_platform.features.catalog import registry
from trading_platform.features.catalog.listing import Feature, Listing
from trading_platform.features.catalog.selection import Selection, parse
from trading_platform.features.expression import adj, pct_change

LABEL = registry.feature_set("core").label


@pytest.mark.parametrize("text", ["core", f"core@{LABEL}", "core!macd,rsi_14", "core:price,rsi_14", f"core@{LABEL}:price,rsi_14!price"])
def test_a_reference_is_the_name_of_what_it_selects(text: str) -> None:
    chosen = registry.feature_set(text)
    assert str(parse(text)) == text == chosen.name and registry.feature_set(chosen.name) is chosen


def test_features_are_left_out_or_kept_with_their_levels() -> None:
    whole, part = registry.feature_set("core"), registry.feature_set("core!rsi_14,macd,macd")
    assert set(whole.names) - set(part.names) == {"macd", "rsi_14"} and set(whole.level) - set(part.level) == {"macd"}
    assert part.name == "core!macd,rsi_14" and part.label == whole.label and part.hash != whole.hash
    assert registry.feature_set("core:price,rsi_14").names == ("price", "rsi_14")
    assert all(part.features[name] == whole.features[name] for name in part.names)


def test_the_hash_is_that_of_the_features_and_not_of_the_words() -> None:
    assert registry.feature_set(f"core@{LABEL}").hash == registry.feature_set("core").hash
    rest = ",".join(sorted(set(registry.feature_set("core").names) - {"macd"}))
    assert registry.feature_set(f"core:{rest}").hash == registry.feature_set("core!macd").hash


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("core!nothing", "no feature nothing"),
        ("core:price!price", "no feature is left"),
        ("core@v0.1", f"core has no version v0.1 here; it has {LABEL}"),
        ("nothing!macd", "unknown feature set 'nothing'"),
        ("core!", "names no feature set"),
        ("core macd", "names no feature set"),
        ("", "names no feature set"),
        ("core!macd:price", "names no feature set"),
    ],
)
def test_what_names_nothing_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        registry.feature_set(text)


@pytest.fixture
def two_versions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def version(label: str, bars: int) -> Listing:
        features = {"change": Feature(pct_change(adj("close"), bars), "change"), "price": Feature(adj("close"), "price", level=True)}
        return Listing("pair", label, "", features)

    monkeypatch.setitem(registry._LISTINGS, "pair", lambda: version("v2.0", 3))
    monkeypatch.setitem(registry._LISTINGS, "pair@v1.0", lambda: version("v1.0", 5))
    registry.feature_set.cache_clear()
    registry.listing.cache_clear()
    yield
    registry.feature_set.cache_clear()
    registry.listing.cache_clear()


def test_an_older_version_that_the_catalogue_keeps_is_that_version(two_versions: None) -> None:
    newest, older = registry.feature_set("pair"), registry.feature_set("pair@v1.0")
    assert (newest.label, older.label) == ("v2.0", "v1.0") and newest.hash != older.hash
    assert registry.feature_set("pair@v2.0").hash == newest.hash and registry.feature_set("pair@v1.0!price").names == ("change",)
    assert "pair" in registry.names() and "pair@v1.0" not in registry.names()
    with pytest.raises(InputError, match=r"it has v2\.0, v1\.0"):
        registry.feature_set("pair@v3.0")


def test_selections_are_values() -> None:
    assert parse("core!b,a") == Selection("core", "", (), ("a", "b"))
