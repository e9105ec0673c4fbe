"""dagster-dbt's door to the dbt command line, without what we never ask it for. Imported when dbt runs, never at load (DESIGN 2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

from dagster_dbt import DbtCliResource
from packaging.version import Version, parse


class Dbt(DbtCliResource):
    """`dbt build` as one process. dagster-dbt starts `dbt --version` before it, and opens the warehouse in this process to ask for row
    counts and columns; we know the version, and count what we read: 5 of 9 seconds."""

    @cached_property
    def _cli_version(self) -> Version:
        return parse(version("dbt-core"))

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> Any:
        return None
