"""Dagster resources: thin, configurable doors to our own rooms. Whatever is heavy is imported on set-up, never at load (DESIGN 2)."""

# No postponed annotations here: Dagster reads those of a resource's fields as they stand.
import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import dagster as dg
from pydantic import Field, PrivateAttr

from trading_platform.assets.inputs import Recipe
from trading_platform.assets.publish import Publication
from trading_platform.assets.workplace import Workplace
from trading_platform.config import Settings, load_settings
from trading_platform.contracts.manifest import UNPARTITIONED

if TYPE_CHECKING:
    from trading_platform.registry.mlflow_session import MlflowSession
    from trading_platform.registry.object_store import ObjectStore

EXPERIMENT = "trading"
RETRAIN = "retrain_"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


class Platform(dg.ConfigurableResource):
    """Settings and the rooms they open. `settings` overrides the environment's TRADING_ variables, by setting name."""

    settings: dict[str, Any] = Field(default_factory=dict)

    _place: Workplace | None = PrivateAttr(default=None)

    @property
    def place(self) -> Workplace:
        """The workplace of these settings, opened once per run."""
        if self._place is None:
            self._place = Workplace(load_settings(**self.settings))
        return self._place

    def publication(self, context: dg.AssetExecutionContext, recipe: Recipe) -> Publication:
        """Begin a materialization of the context's partition."""
        return Publication(context, self.place, recipe, context.partition_key if context.has_partition_key else UNPARTITIONED)


class Bundles(dg.ConfigurableResource):
    """The object store of the bundles: a folder, or S3 through dagster-aws (any S3-compatible endpoint)."""

    url: str = ""
    endpoint_url: str = ""
    platform: dg.ResourceDependency[Platform]

    def store(self) -> "ObjectStore":
        """The store at `url`, by default the one the settings name."""
        address = urlparse(self.url or self.platform.place.settings.object_store)
        if address.scheme != "s3":
            return self.platform.place.store
        from dagster_aws.s3 import S3Resource

        from trading_platform.registry.object_store import S3Store

        client = S3Resource(endpoint_url=self.endpoint_url or None).get_client()
        return S3Store(address.netloc, address.path, client)


class Silent:
    """A tracking run that keeps nothing: where MLflow is switched off."""

    run_id = ""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Nothing."""

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0, at: int = 0) -> None:
        """Nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Nothing."""

    def log_artifact(self, name: str, data: bytes) -> None:
        """Nothing."""


class Mlflow(dg.ConfigurableResource):
    """Tracking in MLflow: one run per asset partition. `tracking` False: assets compute the same and nothing is logged."""

    tracking: bool = True
    platform: dg.ResourceDependency[Platform]

    @contextmanager
    def session(self, out: Publication, context: dg.AssetExecutionContext) -> Iterator[Any]:
        """A run for this materialization; its status follows from whether the body raised."""
        if not self.tracking:
            yield Silent()
            return
        session = self._session()
        if context.run.job_name.startswith(RETRAIN):
            self._open_parent(context)
        tags = {"code_version": out.recipe.code_version, "inputs_hash": out.inputs.hash, "git_commit": out.place.git_commit}
        with session.run(out.recipe.asset, out.partition, context.run.run_id, tags, user=_user(context)) as run:
            for (asset, _), found in sorted(out.inputs.upstream.items()):
                run.log_dataset(asset, found.manifest.data_version, found.uri)
            yield run
        if session.unsent():
            done = session.sync()
            context.log.info(f"MLflow: {done.runs} runs sent later, {done.left} still waiting")
            session.problems.extend(done.differing)
        for problem in session.problems:
            context.log.warning(f"MLflow: {problem}")

    def point_alias(self, label: str, stage: str, bundle_id: str, run_id: str) -> None:
        """Move the stage's alias to this bundle's registered version. A pointer for people: the ledger is the authority."""
        if not self.tracking:
            return
        from trading_platform.contracts.model import parse_label
        from trading_platform.registry.bundle import bundle_prefix

        name, version = parse_label(label)
        session = self._session()
        registered = session.register(name, label, bundle_id, bundle_prefix(name, version), run_id)
        if registered:
            session.point_alias(name, stage, registered)

    def _session(self) -> "MlflowSession":
        return tracking_session(self.platform.place.settings)

    def _open_parent(self, context: dg.AssetExecutionContext) -> None:
        """The parent run of a retrain job, opened by dagster-mlflow, once per Dagster run.

        Its resource would leave the run RUNNING for ever outside its op hook, so it is closed here; each child's end sets its status again.
        """
        import mlflow
        from dagster_mlflow.resources import MlFlow

        uri = self.platform.place.settings.mlflow_tracking_uri
        config = {
            "mlflow_tracking_uri": uri,
            "experiment_name": EXPERIMENT,
            "extra_tags": {"level": "parent", "dagster/run_id": context.run.run_id},
        }
        tracking = MlFlow(Parent(context.log, context.run, context.run.run_id, config))
        tracking.set_tag("job", context.run.job_name)
        mlflow.end_run()


def tracking_session(settings: Settings) -> "MlflowSession":
    """A session with the tracking server of some settings, opened on its first use."""
    from trading_platform.registry.mlflow_session import MlflowSession

    os.environ.update(QUIET)  # read by mlflow at its import, which is the next thing to happen
    settings.mlflow_dir.mkdir(parents=True, exist_ok=True)
    remote = urlparse(settings.mlflow_tracking_uri).scheme in ("http", "https")  # a server has a place of its own for artifacts
    artifacts = "" if remote else (settings.mlflow_dir / "artifacts").as_uri()
    return MlflowSession(settings.mlflow_tracking_uri, EXPERIMENT, artifacts, settings.mlflow_dir / "unsent")


def _user(context: dg.AssetExecutionContext) -> str:
    """Who started the run (TUNE-10): the run's tag `user`, else the owner of this process."""
    return context.run.tags.get("user") or pwd.getpwuid(os.getuid()).pw_name


@dataclass(frozen=True, slots=True)
class Parent:
    """What dagster-mlflow's resource reads of its context."""

    log: Any
    dagster_run: dg.DagsterRun
    run_id: str
    resource_config: Mapping[str, Any]
