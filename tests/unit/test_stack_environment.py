"""Environment, configuration and commands of Dagster's processes, without starting the processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from pydantic import SecretStr

from irt_assets.common.environment import (
    CONFIGURATION,
    MAX_SOCKET_PATH_LENGTH,
    WORKSPACE_OVER_TCP,
    instance_environment,
)
from irt_assets.servers.server_commands import commands
from jobs.launching.kubernetes_launcher import KubernetesRunLauncher
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings


def environment(
    home: Path, url: str = "postgresql://someone:secret@db.example/assess?sslmode=require"
) -> dict[str, str]:
    settings = Settings(irt_home=home, database_url=SecretStr(url), irt_first_month="2026-07")
    return instance_environment(settings, Database(settings))


def test_dagster_url_sets_the_schema_dagster_and_keeps_the_other_parts(tmp_path: Path) -> None:
    url = sa.make_url(environment(tmp_path)["IRT_DAGSTER_DATABASE_URL"])
    assert url.drivername == "postgresql+psycopg2"
    assert (url.username, url.password, url.database) == ("someone", "secret", "assess")
    kept = {name: url.query[name] for name in ("host", "sslmode", "options")}
    assert kept == {"host": "db.example", "sslmode": "require", "options": "-c search_path=dagster"}


def test_dagster_url_keeps_existing_options(tmp_path: Path) -> None:
    url = environment(tmp_path, "postgresql://db.example/assess?options=-cstatement_timeout%3D5s")
    options = sa.make_url(url["IRT_DAGSTER_DATABASE_URL"]).query["options"]
    assert options == "-cstatement_timeout=5s -c search_path=dagster"


def test_child_processes_inherit_the_settings_of_their_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://another.example/other")
    variables = environment(tmp_path)
    assert variables["IRT_HOME"] == str(tmp_path)
    assert variables["IRT_FIRST_MONTH"] == "2026-07"
    assert variables["DATABASE_URL"].startswith("postgresql://someone:secret@")
    assert "IRT_UI_PORT" not in variables, "a default is not a wish: a child must not take it for one"


def test_dagster_home_contains_the_current_configuration(tmp_path: Path) -> None:
    home = Path(environment(tmp_path)["DAGSTER_HOME"])
    (home / "dagster.yaml").write_text("of an older version")
    environment(tmp_path)
    assert (home / "dagster.yaml").read_bytes() == CONFIGURATION.read_bytes()
    assert home.stat().st_mode & 0o077 == 0, "its socket runs code for whoever can open it"


def test_socket_path_is_short_enough_if_the_home_is_deep(tmp_path: Path) -> None:
    homes = [tmp_path / letter / ("deep" * 40) for letter in "ab"]
    first, second = (Path(environment(home)["IRT_CODE_SERVER_SOCKET"]) for home in homes)
    try:
        assert len(str(first)) <= MAX_SOCKET_PATH_LENGTH
        assert first != second
        assert environment(homes[0])["IRT_CODE_SERVER_SOCKET"] == str(first)
        assert first.parent.stat().st_mode & 0o077 == 0
    finally:
        first.parent.rmdir()
        second.parent.rmdir()


def dagster_configuration(home: Path, **settings: str) -> dict[str, Any]:
    chosen = Settings.model_validate({"irt_home": home, "database_url": "postgresql://db.example/assess", **settings})
    instance_environment(chosen, Database(chosen))
    return yaml.safe_load((home / "dagster" / "dagster.yaml").read_bytes())


def test_kubernetes_launcher_changes_only_launcher_and_monitoring_in_the_configuration(tmp_path: Path) -> None:
    usual = yaml.safe_load(CONFIGURATION.read_bytes())
    chosen = {"irt_run_launcher_config": "service_account_name: irt-runs", "irt_run_resources": "other=1/3Gi"}
    made = dagster_configuration(tmp_path, irt_run_launcher="kubernetes", **chosen)
    assert f"{made['run_launcher']['module']}.{made['run_launcher']['class']}" == (
        f"{KubernetesRunLauncher.__module__}.{KubernetesRunLauncher.__name__}"
    )
    assert made["run_launcher"]["config"] == {
        "service_account_name": "irt-runs",
        "resources": {"requests": {"cpu": "1", "memory": "3Gi"}, "limits": {"memory": "3Gi"}},
    }
    assert made["run_monitoring"]["start_timeout_seconds"] >= 600
    untouched = usual.keys() - {"run_launcher", "run_monitoring"}
    assert {name: made[name] for name in untouched} == {name: usual[name] for name in untouched}


def test_launcher_configuration_that_is_not_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match="IRT_RUN_LAUNCHER_CONFIG is not a mapping in YAML"):
        dagster_configuration(tmp_path, irt_run_launcher="kubernetes", irt_run_launcher_config="env: [")


def test_output_of_runs_is_stored_in_the_bucket_if_a_bucket_is_set(tmp_path: Path) -> None:
    made = dagster_configuration(tmp_path, s3_bucket="bank")
    assert made["compute_logs"]["class"] == "S3ComputeLogManager"
    config = made["compute_logs"]["config"]
    assert (config["bucket"], config["prefix"]) == ("bank", "run-logs")
    assert made["run_launcher"] == yaml.safe_load(CONFIGURATION.read_bytes())["run_launcher"]


def test_processes_use_host_and_port_of_a_remote_code_server(tmp_path: Path) -> None:
    settings = Settings(
        irt_home=tmp_path, database_url=SecretStr("postgresql://db.example/x"), irt_code_server="irt-code-server:4266"
    )
    variables = instance_environment(settings, Database(settings))
    assert (variables["IRT_CODE_SERVER_HOST"], variables["IRT_CODE_SERVER_PORT"]) == ("irt-code-server", "4266")
    assert variables["IRT_CODE_SERVER"] == "irt-code-server:4266"
    started = commands(settings, variables, port=3000, read_only=False)
    assert started["code server"][3:7] == ["-h", "0.0.0.0", "-p", "4266"]
    assert str(WORKSPACE_OVER_TCP) in started["daemon"]


def test_kinds_of_runs_have_the_resources_of_the_settings() -> None:
    settings = Settings(irt_run_resources="monthly=4/16Gi, daily=500m/2Gi")
    assert settings.run_resources("monthly") == {
        "requests": {"cpu": "4", "memory": "16Gi"},
        "limits": {"memory": "16Gi"},
    }
    assert settings.run_resources("weekly")["limits"] == {"memory": "4Gi"}
