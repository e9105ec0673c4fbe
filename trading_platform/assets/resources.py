"""Dagster resources: thin, configurable doors to our own rooms. Whatever is heavy is imported on set-up, never at load (DESIGN 2)."""

# No postponed annotations here: Dagster reads those of a resource's fields as they stand.
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import dagster as dg
from pydantic import PrivateAttr

from trading_platform.assets.inputs import Recipe
from trading_platform.assets.publish import Publication
from trading_platform.assets.workplace import Workplace
from trading_platform.config import load_settings
from trading_platform.contracts.manifest import UNPARTITIONED

if TYPE_CHECKING:
    from trading_platform.registry.object_store import ObjectStore


class Platform(dg.ConfigurableResource):
    """Settings and the rooms they open. `settings` overrides the environment's TRADING_ variables, by setting name."""

    settings: dict[str, Any] = {}

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

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
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
        from trading_platform.registry.mlflow_session import MlflowSession

        raise NotImplementedError(MlflowSession)

    def point_alias(self, place: Workplace, label: str, stage: str, bundle_id: str, run_id: str) -> None:
        """Move the stage's alias to this bundle's registered version. A pointer for people: the ledger is the authority."""
        if not self.tracking:
            return
