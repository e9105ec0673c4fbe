"""docs/validation.md names every metric and statistic, nothing that does not exist, and its examples run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from trading_platform.research import metrics, overfitting

PAGE = (Path(__file__).parents[2] / "docs" / "validation.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def functions(module: ModuleType) -> dict[str, Callable]:
    found = inspect.getmembers(module, inspect.isfunction)
    return {name: one for name, one in found if one.__module__ == module.__name__ and not name.startswith("_")}


@pytest.mark.parametrize(("module", "title"), [(metrics, "Metrics"), (overfitting, "After a search")])
def test_every_number_stands_in_the_table_and_the_table_names_no_other(module: ModuleType, title: str) -> None:
    public = {
        name
        for name, one in inspect.getmembers(module, inspect.isfunction)
        if one.__module__ == module.__name__ and not name.startswith("_")
    }
    rows = [line.split("|")[1] for line in section(title).splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == public


@pytest.mark.parametrize("module", [metrics, overfitting])
def test_every_number_says_in_its_docstring_how_it_is_made(module: ModuleType) -> None:
    assert [name for name, one in functions(module).items() if len(inspect.getdoc(one) or "") < 30] == []


def test_the_examples_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    exec("\n".join(blocks), {})
