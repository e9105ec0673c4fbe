"""The proofs: honest sets pass every one, and each planted mutant is killed by the proof that is there for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from feature_panels import adversarial_panel, clean_panel

from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog import registry
from trading_platform.features.expression import (
    adj,
    bars_since,
    cs_rank,
    ema,
    field,
    lag,
    max_,
    mean,
    minute_of_session,
    pct_change,
    same_minute_mean,
    session_previous,
    session_sum,
    sign,
    sum_over,
    wilder,
)
from trading_platform.features.memory import memory_of
from trading_platform.features.operators.table import OPERATORS
from trading_platform.features.perturb import other_future, sample
from trading_platform.features.program import FeatureSet, Program
from trading_platform.features.proof import CHECKS, Computes, Finding, Proof, Verdict, cuts_of

CLOSE = adj("close")
SMALL = FeatureSet(
    "small",
    "test",
    {
        "change": pct_change(CLOSE, 3),
        "gap": CLOSE / mean(CLOSE, 20) - 1.0,
        "high_gap": CLOSE / max_(CLOSE, 10) - 1.0,
        "ema_gap": CLOSE / ema(CLOSE, 12) - 1.0,
        "pace": adj("volume") / session_sum(adj("volume")),
        "overnight": CLOSE / session_previous(CLOSE) - 1.0,
        "rank": cs_rank(pct_change(CLOSE, 5)),
        "since_fall": bars_since(pct_change(CLOSE, 1) < -0.01),
        "price": CLOSE,
    },
    frozenset({"price"}),
)
PANEL = clean_panel(5, 400, 8)
SEED = 11


def proved(
    check: str, feature_set: FeatureSet = SMALL, make: Callable[[tuple[str, ...]], Computes] | None = None, panel: Panel = PANEL
) -> Verdict:
    return Proof(feature_set, panel, make).run(check, np.random.default_rng(SEED))


class Mutant(Program):
    """A program whose one planted fault a subclass states."""

    column = SMALL.names.index("gap")

    def __init__(self, ids: tuple[str, ...]) -> None:
        super().__init__(SMALL, ids)


class Leaks(Mutant):
    """Every value of one feature is that of the next row."""

    def step(self, panel: Panel, out: np.ndarray | None = None) -> np.ndarray:
        made = super().step(panel, out)
        made[:-1, :, self.column] = made[1:, :, self.column]
        return made


class Scales(Mutant):
    """One feature is divided by its standard deviation over everything it was given."""

    def step(self, panel: Panel, out: np.ndarray | None = None) -> np.ndarray:
        made = super().step(panel, out)
        made[..., self.column] /= np.nanstd(made[..., self.column]) or 1.0
        return made


class Forgets(Mutant):
    """Each chunk begins cold."""

    def step(self, panel: Panel, out: np.ndarray | None = None) -> np.ndarray:
        self.reset()
        return super().step(panel, out)


class LoadsNothing(Mutant):
    """The state is written and never read."""

    def load_state(self, data: bytes) -> None:
        pass


class SavesLess(Mutant):
    """The state of the first instrument is lost when it is loaded."""

    def load_state(self, data: bytes) -> None:
        narrow = Program(SMALL, self.instrument_ids[1:])
        narrow.load_state(data)
        super().load_state(narrow.state_bytes())


class Explodes(Mutant):
    """One infinity."""

    def step(self, panel: Panel, out: np.ndarray | None = None) -> np.ndarray:
        made = super().step(panel, out)
        made[-1, 2, self.column] = np.inf
        return made


class Remembers(Mutant):
    """One feature carries a trace of how many rows the program has ever seen."""

    def step(self, panel: Panel, out: np.ndarray | None = None) -> np.ndarray:
        seen = int(self.rows_seen.max())
        made = super().step(panel, out)
        made[..., self.column] += 1e-6 * (seen + np.arange(len(made)))[:, np.newaxis]
        return made


class Wanders(Mutant):
    """A state that is another one once it was loaded, although it computes the same."""

    loaded = b""

    def load_state(self, data: bytes) -> None:
        super().load_state(data.removesuffix(b"!"))
        self.loaded = b"!"

    def state_bytes(self) -> bytes:
        return super().state_bytes() + self.loaded


def only(verdict: Verdict) -> Finding:
    assert verdict.passed is False and len(verdict.findings) == 1, verdict
    return verdict.findings[0]


@pytest.mark.parametrize("check", CHECKS)
def test_an_honest_set_passes_on_clean_and_on_hostile_bars(check: str) -> None:
    hostile = adversarial_panel(3, 420, 9)
    close = np.where(hostile.fields["close"] > 1e9, 50.0, hostile.fields["close"])  # a recursive mean never forgets a price of 1e300
    for panel in (PANEL, replace(hostile, fields={**hostile.fields, "close": close})):
        verdict = proved(check, panel=panel)
        assert verdict.passed is True and verdict.compared > 1000, [f.text for f in verdict.findings]


@pytest.mark.parametrize("name", registry.names())
def test_every_set_of_the_catalogue_passes_where_the_panel_has_its_fields(name: str) -> None:
    chosen = registry.feature_set(name)
    panel = clean_panel(9, 420, 6, session_rows=30)
    if not set(chosen.fields) <= set(panel.fields):
        pytest.skip(f"{name} reads {sorted(set(chosen.fields) - set(panel.fields))}, which this panel does not carry")
    proof = Proof(chosen, panel)
    for check in CHECKS:
        verdict = proof.run(check, np.random.default_rng(SEED))
        assert verdict.passed, [f.text for f in verdict.findings]


@pytest.mark.parametrize(
    ("mutant", "check"),
    [
        (Leaks, "causal"),
        (Scales, "causal"),
        (Forgets, "chunks"),
        (LoadsNothing, "restart"),
        (SavesLess, "restart"),
        (Explodes, "finite"),
        (Remembers, "warm_up"),
    ],
)
def test_a_planted_fault_is_found_by_name(mutant: type[Mutant], check: str) -> None:
    verdict = proved(check, make=mutant)
    assert verdict.passed is False
    assert "gap" in {f.feature for f in verdict.findings}
    if mutant not in (Forgets, LoadsNothing, SavesLess):  # these lose the state of every feature
        assert {f.feature for f in verdict.findings} == {"gap"}


def test_a_finding_names_the_bar_and_both_values() -> None:
    cut = 250
    proof = Proof(SMALL, PANEL, Leaks)
    found = only(proof.causal(np.random.default_rng(SEED), (cut,)))
    assert found.timestamp == PANEL.timestamp[cut] and found.when == "2017-07-14T06:50:00Z"  # the row before the cut saw only the past
    symbol = PANEL.instrument_ids.index(found.instrument_id)
    assert found.expected == proof.honest[cut, symbol, Mutant.column] and found.got != found.expected
    for part in (
        "causal: gap of us:A",
        "2017-07-14T06:50:00Z",
        repr(found.expected),
        repr(found.got),
        "bars after 2017-07-14T06:50:00Z changed",
    ):
        assert part in found.text


def test_published_values_are_held_against_the_recomputed_ones() -> None:
    published = Program(SMALL, PANEL.instrument_ids).step(PANEL)
    proof = Proof(SMALL, PANEL)
    assert proof.causal(np.random.default_rng(SEED), published=published).passed
    published[7, 3, Mutant.column] = np.nextafter(published[30, 3, Mutant.column], np.float32(1.0))
    assert only(proof.causal(np.random.default_rng(SEED), published=published)).timestamp == PANEL.timestamp[7]


@pytest.mark.parametrize(("operator", "feature"), [("mean", "gap"), ("max", "high_gap"), ("lag", "change")])
def test_a_warm_up_that_is_declared_too_short_is_found(monkeypatch: pytest.MonkeyPatch, operator: str, feature: str) -> None:
    monkeypatch.setitem(OPERATORS, operator, replace(OPERATORS[operator], warm_up=lambda params: 0))
    assert feature in {f.feature for f in proved("warm_up").findings}


def test_a_mean_over_sessions_is_compared_once_its_seed_is_complete() -> None:
    ratio = FeatureSet("ratio", "test", {"ratio": adj("volume") / same_minute_mean(adj("volume"), 3, 9)})
    long = clean_panel(4, 900, 5, session_rows=9)
    assert proved("warm_up", ratio, panel=long).passed
    slower = FeatureSet("ratio", "test", {"ratio": adj("volume") / same_minute_mean(adj("volume"), 60, 9)})
    assert only(proved("warm_up", ratio, lambda ids: Program(slower, ids), long)).feature == "ratio"
    few = proved("warm_up", ratio, panel=long.rows(0, 25))
    assert few.passed is None and few.said.endswith("too few bars for ratio")


def test_a_recursive_feature_may_differ_only_as_its_seed_decays() -> None:
    def computes(n: int) -> Callable[[tuple[str, ...]], Computes]:
        other = FeatureSet("small", "test", {**SMALL.features, "ema_gap": CLOSE / ema(CLOSE, n) - 1.0})
        return lambda ids: Program(other, ids)

    assert proved("warm_up", make=computes(12)).passed
    assert only(proved("warm_up", make=computes(200))).feature == "ema_gap"


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        (field("close"), True),
        (CLOSE, True),
        (pct_change(field("close"), 5), True),
        (pct_change(CLOSE, 5), False),
        (sign(CLOSE - lag(CLOSE, 2)), False),
    ],
)
def test_a_feature_in_currency_that_is_no_level_and_one_that_a_split_moves_are_found(expression: object, found: bool) -> None:
    planted = FeatureSet("planted", "test", {"planted": expression})  # type: ignore[dict-item]
    verdict = proved("scale", planted)
    assert verdict.passed is not found and [f.feature for f in verdict.findings] == ["planted"] * found


def test_a_level_that_is_none_is_said() -> None:
    called = FeatureSet("called", "test", {"rank": cs_rank(pct_change(CLOSE, 5)), "price": CLOSE}, frozenset({"rank", "price"}))
    verdict = proved("scale", called)
    assert verdict.passed and verdict.said.endswith("called a level and is none here: rank")


def test_a_feature_that_is_never_defined_is_found() -> None:
    undefined = FeatureSet("undefined", "test", {"log_of_less": (CLOSE - 1e9) / (CLOSE - CLOSE), "fine": pct_change(CLOSE, 1)})
    assert only(proved("finite", undefined)).feature == "log_of_less"


@pytest.mark.parametrize("check", ["causal", "warm_up", "chunks", "restart", "finite"])
def test_too_few_bars_are_no_verdict_and_never_a_pass(check: str) -> None:
    assert proved(check, panel=PANEL.rows(0, 1)).passed is None


def test_a_state_that_is_another_one_once_loaded_is_found_without_a_feature() -> None:
    found = only(proved("restart", make=Wanders))
    assert found.feature == "" and found.text.startswith("restart: the state saved after 2017-07-14T03:37:00Z is another one")


def test_joined_verdicts_keep_every_finding_and_the_first_bar_of_each_feature() -> None:
    proof = Proof(SMALL, PANEL)
    right, wrong = proof.honest[40:50], proof.honest[40:50].copy()
    wrong[3:, 2, Mutant.column] += 1.0
    fine, late = proof.against("restart", right, right, 40, ""), proof.against("restart", right, wrong, 40, "after this")
    early = proof.against("restart", right, wrong, 20, "after that")
    none = Verdict("restart", None, 0, (), "nothing")
    assert fine.passed and not fine.joined(late).passed and not late.joined(fine).passed and none.joined(fine).passed
    assert none.joined(none).passed is None and fine.joined(none).passed and late.joined(none).passed is False
    assert only(late.joined(early)).timestamp == only(early.joined(late)).timestamp == PANEL.timestamp[23]
    assert late.joined(early).compared == 2 * right.size


def test_memory_is_read_off_the_expression() -> None:
    assert memory_of(lag(CLOSE, 3)).kind == "exact" and memory_of(mean(CLOSE, 3)).kind == "rounded"
    nested = memory_of(cs_rank(ema(wilder(CLOSE, 14), 9)))
    assert (nested.kind, nested.depth, nested.cross, nested.jumps) == ("recursive", 2, True, True)
    assert nested.retention == pytest.approx(13 / 14)
    by_session = memory_of(same_minute_mean(CLOSE, 20))
    assert (by_session.kind, by_session.by_session, by_session.session) == ("recursive", True, True)
    assert memory_of(minute_of_session()).kind == "exact" and memory_of(sum_over(CLOSE, 5)).kind == "rounded"
    assert memory_of(session_sum(CLOSE)).session and memory_of(bars_since(CLOSE < 3.0)).unbounded
    assert not memory_of(sign(lag(CLOSE))).jumps and memory_of(sign(mean(CLOSE, 5))).jumps


def test_the_other_future_leaves_everything_up_to_the_cut_and_nothing_after_it() -> None:
    hostile = adversarial_panel(3, 200, 7)
    other = other_future(hostile, 90, np.random.default_rng(1))
    for name, values in hostile.fields.items():
        assert np.array_equal(values[:91], other.fields[name][:91], equal_nan=True)
        both = np.isfinite(values[91:]) & np.isfinite(other.fields[name][91:]) & (values[91:] != 0.0)
        assert both.any() and np.all(values[91:][both] != other.fields[name][91:][both])
    assert np.array_equal(hostile.present[:91], other.present[:91]) and not np.array_equal(hostile.present[91:], other.present[91:])
    assert not np.array_equal(hostile.member[91:], other.member[91:])
    other.check()


def test_a_sample_is_the_same_every_time_and_keeps_the_newest_rows() -> None:
    hostile = adversarial_panel(3, 200, 20)
    first, again = sample(hostile, 100, 6), sample(hostile, 100, 6)
    assert first.shape == (100, 6) and first.timestamp[-1] == hostile.timestamp[-1] and first.present.any(axis=0).all()
    assert first.instrument_ids == again.instrument_ids and cuts_of(100) == cuts_of(100)
    first.check()
