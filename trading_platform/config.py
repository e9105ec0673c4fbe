"""Settings of a process: the only reader of the environment. Profiles (the numbers decisions depend on) are read here from YAML as well.

Every setting is an environment variable TRADING_<NAME>, except the broker's keys, which keep Alpaca's names. A value from the environment
never changes a decision: what does is in the profile, whose hash every decision carries.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import typing
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from trading_platform.contracts import names
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.profile import Profile

PROFILES = Path(__file__).parent / "profiles"
STRATEGY_CLASSES = ("swing", "intraday")
READ_ELSEWHERE = (names.ENV_TEST_DATA, names.ENV_TEST_LONG, names.ENV_CACHE)  # tests; kernel_cache, which must not import this module
SIGNED_KEYS = ("limit_offset_bps",)


class Settings(BaseSettings):
    """Paths, addresses, names and keys. Frozen; made by `load_settings`. Ports are on the loopback address."""

    model_config = SettingsConfigDict(
        env_prefix=names.ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", populate_by_name=True
    )

    home: Path = Field(Path(".trading"), description="everything the platform writes")
    data: Path | None = Field(None, description="folder of Parquet bars; empty: the boxed data")
    daily_first: date | None = Field(None, description="first daily session read; empty: the source's first")
    daily_last: date = Field(date(2014, 12, 31), description="last daily session read (T34: later ones are holdouts)")
    max_symbols: int | None = Field(None, ge=1, description="read only the first n instruments by id")
    max_folds: int | None = Field(None, ge=1, description="evaluate only the last n walk-forward folds")
    stretch_rows: int = Field(120, ge=2, description="last daily rows kept out of all training, traded by the demo")

    profile: str = Field("equity_conservative", description="profile name, or the path of a profile file")
    account: str = Field(
        "default", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="account name: prefix of Redis keys, journal and lock"
    )
    mode: Literal["paper", "live"] = Field("paper", description="trading mode")

    redis_url: str | None = Field(None, repr=False, description="Redis; empty: a server of our own under home")
    feature_cache_url: str = Field("", repr=False, description="Redis of the feature cache, may evict; empty: TRADING_REDIS_URL's")
    feature_stream: bool = Field(False, description="publish every feature vector on the stream features.raw as well")
    broker_url: str | None = Field(
        None,
        validation_alias=AliasChoices(f"{names.ENV_PREFIX}BROKER_URL", names.ENV_BROKER_URL),
        description=f"trading and market data, {names.ENV_BROKER_URL} is read as well; empty: Alpaca's addresses of the mode",
    )
    broker_key: SecretStr | None = Field(None, validation_alias=names.ENV_BROKER_KEY, description="Alpaca key id")
    broker_secret: SecretStr | None = Field(None, validation_alias=names.ENV_BROKER_SECRET, description="Alpaca secret key")
    object_store_url: str = Field("", repr=False, description="bundles: a folder, file:// or s3:// address; empty: under home")
    mlflow_uri: str = Field("", repr=False, description="MLflow tracking; empty: SQLite under home")
    optuna_url: str = Field("", repr=False, description="studies: postgresql+psycopg2://...; empty: a journal file each under home")

    metrics_port: int = Field(names.METRICS_PORT, ge=0, le=65535, description="Prometheus metrics of the runner; 0: any free port")
    dagster_port: int = Field(3000, ge=0, le=65535, description="Dagster UI")

    @field_validator("home", "data")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @property
    def lake_dir(self) -> Path:
        """Parquet lake of every asset."""
        return self.home / "lake"

    @property
    def object_store(self) -> str:
        """Root of the bundles, as an address for `registry.object_store.open_store`."""
        return self.object_store_url or str(self.home / "bundles")

    @property
    def ledger_path(self) -> Path:
        """The promotion ledger (T24)."""
        return self.home / "ledger" / "promotion.jsonl"

    @property
    def feature_policy_path(self) -> Path:
        """Which features are in force, by whom and why (FEAT-26, 27)."""
        return self.home / "ledger" / "features.jsonl"

    @property
    def trials_path(self) -> Path:
        """The trial registry (T30)."""
        return self.home / "trials" / "trials.jsonl"

    @property
    def studies_dir(self) -> Path:
        """Studies: their journals, locks and tables with times."""
        return self.home / "studies"

    @property
    def parameter_choices_path(self) -> Path:
        """Which tuned parameters are in force, by whom and why (T25)."""
        return self.home / "ledger" / "parameters.jsonl"

    @property
    def journals_dir(self) -> Path:
        """Folder of all journals."""
        return self.home / "journals"

    @property
    def journal_path(self) -> Path:
        """The journal of this account and mode."""
        return self.journals_dir / f"{self.account}-{self.mode}.sqlite"

    @property
    def dagster_home(self) -> Path:
        """DAGSTER_HOME."""
        return self.home / "dagster"

    @property
    def mlflow_dir(self) -> Path:
        """MLflow's database and artifacts."""
        return self.home / "mlflow"

    @property
    def mlflow_tracking_uri(self) -> str:
        """MLflow tracking address."""
        return self.mlflow_uri or f"sqlite:///{self.mlflow_dir / 'mlflow.db'}"

    def broker_keys(self) -> tuple[str, str]:
        """(key id, secret). InputError names the missing variable, never a value."""
        missing = [
            name
            for name, value in ((names.ENV_BROKER_KEY, self.broker_key), (names.ENV_BROKER_SECRET, self.broker_secret))
            if value is None or not value.get_secret_value()
        ]
        if missing or self.broker_key is None or self.broker_secret is None:
            raise InputError(
                f"{' and '.join(missing)} {'are' if missing[1:] else 'is'} not set",
                "environment",
                "export the broker's key id and secret key",
            )
        return self.broker_key.get_secret_value(), self.broker_secret.get_secret_value()


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, `overrides` first. InputError for a wrong value or a TRADING_ variable that nothing reads."""
    known = {f"{names.ENV_PREFIX}{field.upper()}" for field in Settings.model_fields} | set(READ_ELSEWHERE)
    for variable in sorted(os.environ):
        if variable.startswith(names.ENV_PREFIX) and variable not in known:
            close = difflib.get_close_matches(variable, sorted(known), n=1)
            raise InputError(
                f"nothing reads {variable}",
                "environment",
                f"did you mean {close[0]}?" if close else "unset it; docs/data.md lists the settings",
            )
    try:
        return Settings(**overrides)
    except ValidationError as error:
        # The offending input stays out of the text: it may be a key.
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg']}" for item in error.errors(include_input=False)
        )
        raise InputError(problems, "environment or command line", f"settings are {names.ENV_PREFIX}<NAME> variables") from None


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice instead of keeping the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_profile(name: str, strategy_class: str = "swing") -> Profile:
    """The profile `name` (of trading_platform/profiles, or a path ending in .yaml) as it holds for one strategy class.

    A file has the sections and keys of `contracts.profile.Profile`, `extends: <name>` for what it leaves unsaid, and `classes: {swing: ...,
    intraday: ...}` with the same sections for what only one class uses. What no file says is the default of the contract: the strictest
    value the specification names. InputError for a missing file, an unknown or doubled key, a wrong type, a circle of `extends`.
    """
    if strategy_class not in STRATEGY_CLASSES:
        raise InputError(f"strategy class {strategy_class!r}", f"profile {name}", f"use one of {', '.join(STRATEGY_CLASSES)}")
    layers: list[tuple[str, Mapping[str, Any]]] = []
    seen: list[str] = []
    following: str | None = name
    while following is not None:
        if following in seen:
            raise InputError(
                f"profiles extend each other in a circle: {' -> '.join([*seen, following])}", f"profile {name}", "remove one `extends`"
            )
        seen.append(following)
        path, content = _read_profile(following)
        layers.append((path, content))
        following = content.get("extends")
        if following is not None and not isinstance(following, str):
            raise InputError(f"extends is {following!r}, expected a profile name", path, "name one profile")
    values: dict[str, Any] = {}
    for path, content in reversed(layers):
        plain = {key: value for key, value in content.items() if key not in ("extends", "classes")}
        _merge(Profile, values, plain, path, "")
        classes = content.get("classes") or {}
        if not isinstance(classes, dict) or set(classes) - set(STRATEGY_CLASSES):
            raise InputError(f"classes is {classes!r}", path, f"give sections under {' and '.join(STRATEGY_CLASSES)}")
        for each in STRATEGY_CLASSES:  # both are checked, one is used: a mistake must not wait for the other pipeline
            _merge(Profile, values if each == strategy_class else {}, classes.get(each) or {}, path, f"classes.{each}.")
    values["name"] = _profile_name(name)
    values.setdefault("strategy", {}).setdefault("strategy_class", strategy_class)
    return typing.cast(Profile, _build(Profile, values))


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that ship with the platform."""
    return tuple(sorted(path.stem for path in PROFILES.glob("*.yaml")))


def _profile_name(name: str) -> str:
    return Path(name).stem if name.endswith(".yaml") else name


def _read_profile(name: str) -> tuple[str, Mapping[str, Any]]:
    path = Path(name) if name.endswith(".yaml") else PROFILES / f"{name}.yaml"
    where = path.name
    if not path.is_file():
        raise InputError(f"no profile {name!r}", where, f"use one of {', '.join(profile_names())}, or the path of a .yaml file")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # a SafeLoader with one more refusal
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not YAML: {' '.join(str(error).split())}", where, "correct the file") from error
    if not isinstance(content, dict):
        raise InputError(
            f"a profile is a mapping, this is {type(content).__name__}", where, "start with `name:` and sections such as `limits:`"
        )
    stated = content.get("name", _profile_name(name))
    if stated != _profile_name(name):
        raise InputError(f"the file says name: {stated}", where, f"call it {_profile_name(name)}, as the file is called")
    return where, content


def _merge(kind: type, into: dict[str, Any], content: Any, where: str, prefix: str) -> None:
    """Check `content` against the dataclass `kind` and lay it over `into`."""
    if not isinstance(content, dict):
        raise InputError(f"{prefix.rstrip('.') or 'the profile'} is {content!r}, expected keys", where, "indent its keys below it")
    types = typing.get_type_hints(kind)
    for key, value in content.items():
        if key not in types:
            close = difflib.get_close_matches(str(key), types, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(types)}"
            raise InputError(f"unknown key {prefix}{key}", where, hint)
        expected = types[key]
        if dataclasses.is_dataclass(expected):
            _merge(typing.cast(type, expected), into.setdefault(key, {}), value, where, f"{prefix}{key}.")
        else:
            into[key] = _typed(expected, value, f"{prefix}{key}", where)


def _typed(expected: type, value: Any, key: str, where: str) -> Any:
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not expected:
        raise InputError(
            f"{key} is {value!r}, expected {expected.__name__}", where, "correct the value (numbers need a point before an exponent: 1.0e6)"
        )
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise InputError(f"{key} is {value}", where, "give a number")
        if value < 0 and key.rpartition(".")[2] not in SIGNED_KEYS:
            raise InputError(f"{key} is {value}: it cannot be negative", where, "give a positive number, or 0")
    return value


def _build(kind: type, values: Mapping[str, Any]) -> Any:
    types = typing.get_type_hints(kind)
    return kind(**{key: _build(types[key], value) if dataclasses.is_dataclass(types[key]) else value for key, value in values.items()})
