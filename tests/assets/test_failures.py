"""What a person reads when a run fails: the error's own words, place and remedy, and its exit code."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from trading_platform.assets.failures import LOOK, MaterializationError, RefusedInputError, failure_of
from trading_platform.cli import main
from trading_platform.contracts.errors import CorruptionError, InputError, TransientError


def failed(error: Exception) -> MaterializationError:
    @dg.asset
    def broken() -> None:
        raise error

    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return failure_of(dg.materialize([broken], raise_on_error=False, run_config=quiet), "asset broken")


def test_a_refused_input_keeps_its_words_its_place_its_remedy_and_its_exit_code() -> None:
    error = failed(InputError("low is -5.0 for AAA", "bars.parquet, row 7", "correct or drop the row"))
    assert isinstance(error, RefusedInputError) and error.exit_code == 2
    assert (error.what, error.where, error.fix) == ("low is -5.0 for AAA", "bars.parquet, row 7; asset broken", "correct or drop the row")
    assert str(error).count("where:") == str(error).count("fix:") == 1


@pytest.mark.parametrize("kind", [CorruptionError, TransientError])
def test_other_errors_of_ours_fail_with_one(kind: type[Exception]) -> None:
    error = failed(kind("the bytes differ", "part-1.parquet", "restore it"))
    assert error.exit_code == 1 and error.what == "the bytes differ" and error.where == "part-1.parquet; asset broken"


def test_a_bug_is_named_with_its_class_and_where_to_look() -> None:
    error = failed(ZeroDivisionError("division by zero"))
    assert error.exit_code == 1 and "ZeroDivisionError: division by zero" in error.what
    assert (error.where, error.fix) == ("asset broken", LOOK)


def test_a_blocking_check_says_what_it_found() -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("calendar", asset="bars", blocking=True)])
    def bars() -> dg.MaterializeResult:
        return dg.MaterializeResult(
            check_results=[dg.AssetCheckResult(check_name="calendar", passed=False, metadata={"rows": 2, "first": "AAA on a Sunday"})]
        )

    result = dg.materialize([bars], raise_on_error=False, run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}})
    assert failure_of(result, "asset bars").what == "blocking checks failed: calendar (rows 2, first AAA on a Sunday)"


def test_a_home_that_cannot_be_written_is_one_message(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["doctor", "--home", str(tmp_path / "file" / "home")]) in (0, 1, 2)
    assert main(["demo", "--home", str(tmp_path / "file" / "home")]) == 1
    said = capsys.readouterr().err
    assert "Not a directory" in said and "where:" in said and "fix:" in said and "Traceback" not in said
