"""The deployment files, as far as they can be judged without a container engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from trading_platform.config import Settings
from trading_platform.contracts.names import ENV_PREFIX

ROOT = Path(__file__).parent.parent.parent
KNOWN = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields} | {"TRADING_CACHE"}


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_every_service_of_the_stack_is_there(compose: dict) -> None:
    assert set(compose["services"]) == {
        "postgres", "minio", "buckets", "redis", "feature_cache", "mlflow", "code", "webserver", "daemon", "live_runner", "simulator",
    }  # fmt: skip


def test_services_depend_on_services_that_exist(compose: dict) -> None:
    for name, service in compose["services"].items():
        for other, condition in service.get("depends_on", {}).items():
            assert other in compose["services"], (name, other)
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in compose["services"][other], (name, other)


def test_only_the_feature_cache_may_evict(compose: dict) -> None:
    policy = {name: service["command"][service["command"].index("--maxmemory-policy") + 1]
              for name, service in compose["services"].items() if "--maxmemory-policy" in service.get("command", ())}  # fmt: skip
    assert policy == {"redis": "noeviction", "feature_cache": "allkeys-lru"}
    for variable, host in (("TRADING_REDIS_URL", "redis"), ("TRADING_FEATURE_CACHE_URL", "feature_cache")):
        assert compose["services"]["live_runner"]["environment"][variable].endswith(f"@{host}:6379/0")


def test_files_and_volumes_that_are_mounted_exist(compose: dict) -> None:
    for service in compose["services"].values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), mount
            elif not source.startswith("$"):
                assert source in compose["volumes"], mount
        build = service.get("build")
        assert build is None or (ROOT / build["dockerfile"]).is_file()


def test_every_trading_variable_is_one_the_platform_reads(compose: dict) -> None:
    for name, service in compose["services"].items():
        for variable in service.get("environment", {}):
            assert not variable.startswith(ENV_PREFIX) or variable in KNOWN, (name, variable)


def test_nothing_is_published_beyond_the_loopback_address(compose: dict) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_passwords_are_demanded_and_never_written_down(compose: dict) -> None:
    for service in compose["services"].values():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY_ID|ROOT_USER", variable):
                assert re.fullmatch(r"\$\{\w+(:\?.*|:-)\}", str(value)), variable
    assert all(
        not line.partition("=")[2]
        for line in (ROOT / "deploy/env.example").read_text().splitlines()
        if re.match("[A-Z_]*(PASSWORD|KEY|USER)", line)
    )


def test_the_instance_and_the_workspace_name_the_stacks_own_services(compose: dict) -> None:
    instance = yaml.safe_load((ROOT / "deploy/dagster/dagster.yaml").read_text())
    database = instance["storage"]["postgres"]["postgres_db"]
    assert database["hostname"] in compose["services"] and database["scheme"] == "postgresql+psycopg2"
    server = yaml.safe_load((ROOT / "deploy/dagster/workspace.yaml").read_text())["load_from"][0]["grpc_server"]
    assert server["host"] in compose["services"] and str(server["port"]) in compose["services"]["code"]["command"]
    assert instance["telemetry"] == {"enabled": False}


def test_the_image_copies_what_exists() -> None:
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert copied and all((ROOT / path).exists() for path in copied)
