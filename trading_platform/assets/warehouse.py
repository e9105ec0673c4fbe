"""The marts: dbt's models over the lake's Parquet, inside the same graph. A run has a DuckDB file of its own; the lake keeps results."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from trading_platform.assets.dbt_manifest import PROJECT, Mart, read_marts, sources_hash
from trading_platform.assets.inputs import Reads, Recipe
from trading_platform.assets.node import Node
from trading_platform.assets.pipelines import INTRADAY
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import file_bytes
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.manifest import OutputFile

if TYPE_CHECKING:
    from dagster_dbt import DbtCliInvocation

# var -> (asset, which of its partitions, lake name of its tables)
VARS: dict[str, tuple[str, Reads, str]] = {
    "minute_bars": (INTRADAY.bars, Reads.WHOLE, "month="),
    "orders": ("live_journal", Reads.EVERY, "orders/"),
    "fills": ("live_journal", Reads.EVERY, "fills/"),
    "pnl": ("session_report", Reads.EVERY, "pnl/"),
}


def mart_recipe(mart: Mart) -> Recipe:
    """A mart is a function of the project's SQL and the tables its vars name."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        return {"dbt": sources_hash()}

    upstream = {VARS[name][0]: VARS[name][1] for name in mart.needs}
    return Recipe(mart.name, ("assets.warehouse",), upstream, parameters)


def outputs_of(out: Publication, name: str) -> list[OutputFile]:
    """The files behind a var. Empty tables are left out."""
    asset, _, under = VARS[name]
    return [
        output
        for (upstream, _), item in sorted(out.inputs.upstream.items())
        if upstream == asset
        for output in item.manifest.outputs
        if output.partition.startswith(under) and output.rows
    ]


def files_for_dbt(out: Publication, name: str, folder: Path) -> list[str]:
    """Paths of the Parquet files behind a var, for dbt alone: they enter no manifest.

    Tables of sessions are put together in one file in `folder`: vars are one argument of dbt, which the kernel holds to 128 KiB, and
    thousands of small files would be opened again for each model and test.
    """
    import polars as pl

    outputs = outputs_of(out, name)
    if VARS[name][1] is not Reads.EVERY or not outputs:
        return [str(out.place.lake.root / output.uri) for output in outputs]
    together = folder / f"{name}.parquet"
    frames = [pl.read_parquet(file_bytes(out.place, output)) for output in outputs]
    pl.concat(frames, how="diagonal_relaxed").write_parquet(together)
    return [str(together)]


def build_marts(publications: Mapping[str, Publication], folder: Path) -> "DbtCliInvocation":
    """Run `dbt build` for some marts in a DuckDB file in `folder`, over the files of their publications."""
    from trading_platform.assets.dbt_cli import Dbt
    from trading_platform.assets.dbt_manifest import dbt_executable

    variables: dict[str, Any] = {"warehouse_file": str(folder / "warehouse.duckdb")}
    for out in publications.values():
        for name, (asset, _, _) in VARS.items():
            if asset in out.recipe.upstream and name not in variables:
                variables[name] = files_for_dbt(out, name, folder)
    dbt = Dbt(
        project_dir=str(PROJECT),
        profiles_dir=str(PROJECT),
        dbt_executable=str(dbt_executable()),
        global_config_flags=["--no-use-colors", "--quiet"],
    )
    arguments = ["build", "--select", " ".join(sorted(publications)), "--vars", _json(variables), "--target-path", str(folder / "target")]
    return dbt.cli([*arguments, "--log-path", str(folder / "logs")], raise_on_error=False, target_path=folder / "target").wait()


def _json(value: Any) -> str:
    import orjson

    return orjson.dumps(value).decode()


def read_mart(folder: Path, name: str) -> Any:
    """A mart's rows as a Polars frame."""
    import duckdb

    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as database:
        return database.sql(f'select * from main."{name}"').pl()


def test_results(invocation: "DbtCliInvocation") -> dict[str, tuple[bool, str]]:
    """Test name -> (passed, dbt's message) of a build."""
    found = {}
    for result in invocation.get_artifact("run_results.json")["results"]:
        kind, _, *rest = result["unique_id"].split(".")
        if kind == "test":
            found[rest[0]] = (result["status"] in ("pass", "success"), str(result.get("message") or ""))
    return found


def refuse_failed_models(invocation: "DbtCliInvocation") -> None:
    """InputError, with dbt's own words, where it did not run or a model did not build. Failed tests are checks and pass here."""
    if not (invocation.target_path / "run_results.json").is_file():
        raise InputError(f"dbt ended without results (exit code {invocation.process.returncode})", "dbt build", "look at the run's output")
    results = invocation.get_artifact("run_results.json")["results"]
    failed = [result for result in results if result["unique_id"].startswith("model.") and result["status"] != "success"]
    if failed:
        message = "; ".join(f"{result['unique_id'].rpartition('.')[2]}: {result.get('message')}" for result in failed)
        raise InputError(message, "dbt build", "correct the model, or materialize the assets it reads again")


def publish_marts(
    context: dg.AssetExecutionContext, platform: Platform, recipes: Mapping[str, Recipe], marts: Mapping[str, Mart]
) -> Iterable[Any]:
    """Build the selected marts, publish their tables, and pass on the results of their tests."""
    chosen = sorted(key.to_user_string() for key in context.selected_asset_keys)
    publications = {name: platform.publication(context, recipes[name]) for name in chosen}
    with tempfile.TemporaryDirectory(prefix="dbt-") as temporary:
        folder = Path(temporary)
        invocation = build_marts(publications, folder)
        refuse_failed_models(invocation)
        results = test_results(invocation)
        for name, out in publications.items():
            frame = read_mart(folder, name)
            out.table(name, frame, sort_by=())
            sources = {variable: len(outputs_of(out, variable)) for variable in marts[name].needs}
            yield out.result({"files_read": dg.MetadataValue.json(sources), **({} if frame.height else {"reason": "no rows upstream"})})
            for test, (passed, message) in results.items():
                spec = dg.AssetCheckKey(dg.AssetKey(name), test)
                if test in marts[name].tests and spec in context.selected_asset_check_keys:
                    severity = dg.AssetCheckSeverity.ERROR if marts[name].tests[test].error else dg.AssetCheckSeverity.WARN
                    yield dg.AssetCheckResult(asset_key=name, check_name=test, passed=passed, severity=severity, metadata={"dbt": message})


def warehouse_assets() -> Sequence[Node]:
    """One node per model of the manifest, all made by one body that builds any subset; none before `ensure_manifest` ran once."""
    marts = {mart.name: mart for mart in read_marts()}
    if not marts:
        return ()
    recipes = {name: mart_recipe(mart) for name, mart in marts.items()}
    specs = [
        dg.AssetSpec(
            name,
            deps=list(recipe.deps),
            code_version=recipe.code_version,
            group_name="warehouse",
            kinds={"dbt", "duckdb"},
            description=marts[name].description,
            skippable=True,
        )
        for name, recipe in recipes.items()
    ]
    checks = [
        dg.AssetCheckSpec(name, asset=mart.name, description=test.description)
        for mart in marts.values()
        for name, test in mart.tests.items()
    ]

    @dg.multi_asset(specs=specs, check_specs=checks, can_subset=True, name="warehouse")
    def warehouse(context: dg.AssetExecutionContext, platform: Platform):  # type: ignore[no-untyped-def]  # Dagster wants no annotation on a generator
        yield from publish_marts(context, platform, recipes, marts)

    return tuple(Node(recipes[name], warehouse) for name in marts)
