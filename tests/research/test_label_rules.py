"""Rules as values: one text, one hash, and a refusal for numbers that mean nothing."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from trading_platform.contracts.errors import InputError
from trading_platform.research.label_rules import KINDS, ForwardReturn, LabelRule, MeanReversion, MetaLabel, TripleBarrier, parse

RULES = [
    ForwardReturn(horizon=5, neutral="market"),
    TripleBarrier(horizon=10, profit=2.0, stop=1.0),
    MetaLabel(horizon=3, primary="mean_reversion", cost_bps=7.5),
    *(kind(horizon=10) for kind in KINDS.values()),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.text)
def test_a_rule_is_read_back_from_its_text(rule: LabelRule) -> None:
    assert parse(rule.text) == rule and parse(rule.text).hash == rule.hash


def test_a_text_without_defaults_means_the_same() -> None:
    assert parse(" forward_return( neutral=market , horizon=5 ) ") == RULES[0]
    assert RULES[0].text == "forward_return(horizon=5, delisting_return=0.0, neutral=market, volatility_rows=0)"


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_number_of_a_rule_is_in_its_hash(kind: type[LabelRule]) -> None:
    rule = kind(horizon=10)
    others = {"neutral": "sector", "primary": "mean_reversion", "exit_z": 1.0}
    for field in fields(rule):
        value = others[field.name] if field.name in others else getattr(rule, field.name) + 2
        changed = replace(rule, **{field.name: value})
        assert changed.hash != rule.hash and changed.text != rule.text, field.name


def test_the_same_numbers_of_another_kind_are_another_rule() -> None:
    class Namesake(ForwardReturn):
        kind = "namesake"

    assert len({rule(horizon=10).hash for rule in (*KINDS.values(), Namesake)}) == len(KINDS) + 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("forward_return", "is no label rule"),
        ("nonsense(horizon=5)", "is no label rule"),
        ("forward_return()", "states no horizon"),
        ("forward_return(horizon=0)", "horizon 0 is below one row"),
        ("forward_return(horizon=five)", "horizon='five'"),
        ("forward_return(horizon=5, horizon=6)", "'horizon' in"),
        ("forward_return(horizon=5, profit=1.0)", "'profit' in"),
        ("forward_return(horizon=5, neutral=beta)", "unknown neutral 'beta'"),
        ("forward_return(horizon=5, volatility_rows=1)", "volatility_rows 1"),
        ("forward_return(horizon=5, delisting_return=-1.5)", "below -1"),
        ("triple_barrier(horizon=5, stop=0.0)", "barriers at 1.0 and 0.0"),
        ("triple_barrier(horizon=5, profit=nan)", "barriers at nan"),
        ("meta_label(horizon=5, primary=me)", "unknown primary 'me'"),
        ("mean_reversion(horizon=5, entry_z=0.4)", "entry_z=0.4"),
        ("trend_continuation(horizon=5, fast=50)", "fast=50"),
    ],
)
def test_what_is_no_rule_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        parse(text)


def test_what_a_model_learns_is_a_number_or_one_of_few_classes() -> None:
    assert ForwardReturn(horizon=1).classes == () and TripleBarrier(horizon=1).classes == (-1.0, 0.0, 1.0)
    assert MetaLabel(horizon=1).classes == MeanReversion(horizon=1).classes == (0.0, 1.0)
