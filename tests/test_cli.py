"""The command line's own part: where a data set's home lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trading_platform.cli import parser, settings_of
from trading_platform.contracts import names


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in list(os.environ):
        if variable.startswith(names.ENV_PREFIX):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def home(*arguments: str) -> Path:
    return settings_of(parser().parse_args(["doctor", *arguments])).home


def test_two_data_folders_of_one_name_and_one_called_boxed_have_homes_of_their_own(tmp_path: Path) -> None:
    homes = [home(), home("--data", "a/bars"), home("--data", "b/bars"), home("--data", "a/boxed")]
    assert len(set(homes)) == 4 and {place.parent for place in homes} == {tmp_path / ".trading"}
    assert [place.name.partition("-")[0] for place in homes] == ["boxed", "bars", "bars", "boxed"]


def test_one_data_folder_has_one_home_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "bars").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "bars")
    first = home("--data", "a/bars")
    assert first == home("--data", str(tmp_path / "a" / "bars")) == home("--data", "a/../a/bars") == home("--data", "link")
    monkeypatch.setenv("TRADING_DATA", "a/bars")
    assert home() == first


def test_a_stated_home_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home("--data", "a", "--home", "here") == tmp_path / "here"
    monkeypatch.setenv("TRADING_HOME", "there")
    assert home("--data", "a") == tmp_path / "there"
