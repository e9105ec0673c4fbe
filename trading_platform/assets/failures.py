"""What a failed run says to a person: the message of the error that ended it, not Dagster's wrapping of it."""

from __future__ import annotations

import re

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from trading_platform.contracts import errors
from trading_platform.contracts.errors import InputError, TradingError

LOOK = "look at the run in the Dagster UI: make dev"
MOST_WORDS = 300  # characters of one check's own account
OURS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, TradingError)}


class MaterializationError(TradingError):
    """A materialization failed, or a blocking check did; assets below it were left as they were."""


class RefusedInputError(MaterializationError, InputError):
    """A materialization refused its input: the exit code is that of bad input."""


def failure_of(result: dg.ExecuteInProcessResult, where: str) -> MaterializationError:
    """The error of a failed run. where: asset, partition and run, added to what the error itself names."""
    checks = [f"{check.check_name}{_why(check)}" for check in result.get_asset_check_evaluations() if not check.passed and check.blocking]
    if checks:
        return MaterializationError(f"blocking checks failed: {', '.join(checks)}", where, LOOK)
    for event in result.all_events:
        if event.is_step_failure:
            return told(event.step_failure_data.error, where)
    return MaterializationError("the run failed", where, LOOK)


def _why(check: dg.AssetCheckEvaluation) -> str:
    """What the check itself says about its failure, in brackets."""
    facts = ((key, item.value) for key, item in check.metadata.items() if isinstance(item.value, (str, int, float)) and item.value != "")
    said = check.description or ", ".join(f"{key} {value}" for key, value in facts)
    return f" ({said[:MOST_WORDS]})" if said else ""


def told(error: SerializableErrorInfo | None, where: str) -> MaterializationError:
    """One of our own errors keeps its words, its place and its remedy; any other is named with its class."""
    if error is None:
        return MaterializationError("the run failed", where, LOOK)
    chain = [error]
    while chain[-1].cause is not None:
        chain.append(chain[-1].cause)
    ours = next((link for link in chain if link.cls_name in OURS), None)
    if ours is None:
        return MaterializationError(chain[-1].message.strip(), where, LOOK)
    text = re.sub(r"^[\w.]+: ", "", ours.message.strip(), count=1)
    where_line, fix_line = re.search(r"^  where: (.*)$", text, re.MULTILINE), re.search(r"^  fix:   (.*)$", text, re.MULTILINE)
    what = re.split(r"^  (?:where: |fix:   )", text, maxsplit=1, flags=re.MULTILINE)[0].strip()
    places = where if where_line is None else f"{where_line.group(1)}; {where}"
    kind = RefusedInputError if ours.cls_name == InputError.__name__ else MaterializationError
    return kind(what, places, LOOK if fix_line is None else fix_line.group(1))
