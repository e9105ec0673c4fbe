"""Settings and profiles: strict, precise, and silent about secrets."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from trading_platform.config import Settings, load_profile, load_settings, profile_names
from trading_platform.contracts import names
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.profile import Limits, Profile


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for variable in list(os.environ):
        if variable.startswith((names.ENV_PREFIX, "APCA_")):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def test_defaults_need_no_environment_and_stay_under_home(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.home == tmp_path / ".trading" and settings.data is None
    assert (settings.mode, settings.profile, settings.daily_last) == ("paper", "equity_conservative", date(2014, 12, 31))
    for path in (
        settings.lake_dir,
        settings.ledger_path,
        settings.trials_path,
        settings.journal_path,
        settings.dagster_home,
    ):
        assert settings.home in path.parents
    assert settings.journal_path.name == "default-paper.sqlite"
    assert settings.object_store == str(tmp_path / ".trading" / "bundles")
    assert settings.mlflow_tracking_uri == f"sqlite:///{tmp_path}/.trading/mlflow/mlflow.db"


def test_the_environment_is_read_and_overrides_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRADING_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("TRADING_DATA", "")
    monkeypatch.setenv("TRADING_DAILY_LAST", "2012-12-31")
    monkeypatch.setenv("TRADING_METRICS_PORT", "0")
    settings = load_settings(account="desk", mode="live")
    assert (settings.home, settings.data, settings.daily_last, settings.metrics_port) == (
        tmp_path / "elsewhere",
        None,
        date(2012, 12, 31),
        0,
    )
    assert settings.journal_path.name == "desk-live.sqlite"
    monkeypatch.setenv("APCA_API_BASE_URL", "http://127.0.0.1:1")
    assert load_settings().broker_url == "http://127.0.0.1:1"
    monkeypatch.setenv("TRADING_BROKER_URL", "http://127.0.0.1:2")
    assert (load_settings().broker_url, load_settings(broker_url="http://127.0.0.1:3").broker_url) == (
        "http://127.0.0.1:2",
        "http://127.0.0.1:3",
    )
    with pytest.raises(Exception, match="frozen"):
        settings.mode = "paper"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("TRADING_MODE", "casino", "mode: Input should be 'paper' or 'live'"),
        ("TRADING_METRICS_PORT", "99999", "metrics_port"),
        ("TRADING_DAILY_LAST", "someday", "daily_last"),
        ("TRADING_ACCOUNT", "../other", "account"),
        ("TRADING_MOD", "live", r"nothing reads TRADING_MOD(.|\n)*did you mean TRADING_MODE"),
    ],
)
def test_a_wrong_variable_is_one_clear_input_error(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=message) as caught:
        load_settings()
    assert caught.value.exit_code == 2


def test_keys_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=f"{names.ENV_BROKER_KEY} and {names.ENV_BROKER_SECRET} are not set"):
        load_settings().broker_keys()
    monkeypatch.setenv(names.ENV_BROKER_KEY, "AK-very-secret")
    with pytest.raises(InputError, match=f"{names.ENV_BROKER_SECRET} is not set") as caught:
        load_settings().broker_keys()
    assert "very-secret" not in str(caught.value)
    monkeypatch.setenv(names.ENV_BROKER_SECRET, "SK-very-secret")
    monkeypatch.setenv("TRADING_REDIS_URL", "redis://:RP-very-secret@127.0.0.1:6379")
    settings = load_settings()
    assert settings.broker_keys() == ("AK-very-secret", "SK-very-secret")
    assert "very-secret" not in f"{settings!r}{settings}"
    monkeypatch.setenv("TRADING_METRICS_PORT", "SK-very-secret")
    with pytest.raises(InputError) as wrong:
        load_settings()
    assert "very-secret" not in str(wrong.value)


def test_the_default_profile_is_the_strictest_value_the_specification_names() -> None:
    swing, intraday = load_profile("equity_conservative"), load_profile("equity_conservative", "intraday")
    assert swing.limits == Limits() and swing.universe == Profile("x").universe
    limits = swing.limits
    assert (limits.max_position, limits.max_daily_drawdown, limits.max_risk_per_trade, limits.max_positions) == (0.05, 0.02, 0.004, 30)
    assert (swing.limits.max_gross, intraday.limits.max_gross) == (1.0, 0.5)
    assert (swing.strategy.flat_at_end_of_day, intraday.strategy.flat_at_end_of_day) == (False, True)
    assert intraday.strategy.target_gross <= intraday.limits.max_gross
    assert swing.hash != intraday.hash


def test_demo_relaxes_the_universe_and_never_the_account_brakes() -> None:
    demo, default = load_profile("demo"), load_profile("equity_conservative")
    assert demo.name == "demo" and demo.models.shadow_rows == 20
    assert demo.universe.max_price > 1000.0 > default.universe.max_price
    for brake in (
        "max_daily_drawdown",
        "max_risk_per_trade",
        "max_gross",
        "max_leverage",
        "max_consecutive_losses",
        "max_naked",
        "min_coverage",
    ):
        assert getattr(demo.limits, brake) == getattr(default.limits, brake)


@pytest.mark.parametrize("name", profile_names())
@pytest.mark.parametrize("strategy_class", ["swing", "intraday"])
def test_every_shipped_profile_loads_and_has_a_stable_hash(name: str, strategy_class: str) -> None:
    profile = load_profile(name, strategy_class)
    assert profile.strategy.strategy_class == strategy_class
    assert profile.hash == load_profile(name, strategy_class).hash


BROKEN = {
    "limits: {max_positon: 3}": r"unknown key limits.max_positon(.|\n)*did you mean max_position",
    "limts: {}": r"unknown key limts(.|\n)*did you mean limits",
    "limits: {max_positions: 3.5}": "limits.max_positions is 3.5, expected int",
    "limits: {max_positions: true}": "limits.max_positions is True, expected int",
    "limits: {max_gross: '1'}": "limits.max_gross is '1', expected float",
    "limits: {max_gross: .nan}": "limits.max_gross is nan",
    "limits: {max_gross: -1.0}": "limits.max_gross is -1.0: it cannot be negative",
    "limits: 3": "limits is 3, expected keys",
    "limits: {max_gross: 1.0, max_gross: 2.0}": "max_gross is given twice",
    "limits: {max_gross: 1.0": "not YAML",
    "- a list": "a profile is a mapping, this is list",
    "name: other": "the file says name: other",
    "extends: nobody": "no profile 'nobody'",
    "extends: [a, b]": "extends is",
    "classes: {scalping: {}}": "classes is",
    "classes: {intraday: {limits: {nope: 1}}}": "unknown key classes.intraday.limits.nope",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_profile_says_what_where_and_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=BROKEN[text]) as caught:
        load_profile(str(path))
    assert caught.value.where and caught.value.fix


def test_a_profile_extends_class_by_class_and_circles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: equity_conservative\nlimits: {max_position: 0.02}\nclasses: {intraday: {limits: {max_gross: 0.25}}}\ngrace_s: 3\n"
    )
    swing, intraday = load_profile(str(path)), load_profile(str(path), "intraday")
    assert (swing.name, swing.limits.max_position, swing.limits.max_gross, swing.grace_s) == ("mine", 0.02, 1.0, 3.0)
    assert (intraday.limits.max_position, intraday.limits.max_gross, intraday.strategy.flat_at_end_of_day) == (0.02, 0.25, True)
    path.write_text(f"extends: {path}\n")
    with pytest.raises(InputError, match="in a circle"):
        load_profile(str(path))
    with pytest.raises(InputError, match="strategy class 'scalping'"):
        load_profile("demo", "scalping")


def test_the_manual_lists_every_setting_with_its_meaning() -> None:
    text = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    for field, info in Settings.model_fields.items():
        variable = info.validation_alias if isinstance(info.validation_alias, str) else f"{names.ENV_PREFIX}{field.upper()}"
        assert f"| `{variable}` |" in text and f"| {info.description} |" in text, variable


def leaves(kind: type) -> Iterator[str]:
    for name, expected in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(expected):
            yield from leaves(typing.cast(type, expected))
        else:
            yield name


def test_no_setting_and_no_number_of_a_profile_is_read_by_nothing() -> None:
    root = Path(__file__).parents[1]
    declared = {root / "trading_platform" / "contracts" / "profile.py"}
    files = [path for folder in ("trading_platform", "live_runner") for path in (root / folder).rglob("*.py") if path not in declared]
    read = set(re.findall(r"\.(\w+)", "\n".join(path.read_text(encoding="utf-8") for path in files)))
    assert set(Settings.model_fields) - read == set()
    assert set(leaves(Profile)) - read == set()
