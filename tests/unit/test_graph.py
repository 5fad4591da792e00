"""The whole graph, loaded as by the code server: this resolves more than a single job in this process does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import dagster as dg
import pytest
import yaml
from pydantic import SecretStr

from irt_assets import definitions
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.definitions import build_defs
from irt_assets.engines.registry import comparison_names
from irt_assets.gates.month_classification import MONTHLY_ASSETS
from irt_assets.invariants.drift import ANALYSES
from jobs.automation import AFTER_A_MONTH
from jobs.watching.alerts import ITEM_CHECKS
from resources.settings import Settings
from resources.tables import METADATA

GROUPS = (
    *("intake", "responses", "item_analysis", "features", "calibration", "abilities", "scores"),
    *("new_items", "adaptive", "drift", "kpis", "reports", "invariants"),
)
"""Names of the asset groups, in the order of data flow."""


def test_every_job_of_the_graph_is_resolved(tmp_path: Path) -> None:
    """A job with the same name as an op of a different job is refused only if all jobs are resolved together."""
    graph = build_defs(Settings(irt_home=tmp_path)).get_repository_def()
    jobs = {job.name: job for job in graph.get_all_jobs()}
    assert {key.to_user_string() for key in jobs[MONTHLY_JOB].asset_layer.executable_asset_keys} >= set(MONTHLY_ASSETS)


def test_every_materializable_asset_links_to_its_installed_file(tmp_path: Path) -> None:
    graph = build_defs(Settings(irt_home=tmp_path)).resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        [reference] = graph.get(key).metadata["dagster/code_references"].code_references
        assert Path(reference.source.rpartition(":")[0]).is_file(), key


def test_checks_whose_alerts_a_decision_settles_exist(tmp_path: Path) -> None:
    graph = build_defs(Settings(irt_home=tmp_path)).resolve_asset_graph()
    assert ITEM_CHECKS.keys() <= {key.name for key in graph.asset_check_keys}


def test_every_asset_has_a_short_description_and_owners_and_reads_no_later_group(tmp_path: Path) -> None:
    """Dagster draws a graph from left to right, so arrows back to an earlier group would make it hard to read."""
    graph = build_defs(Settings(irt_home=tmp_path, irt_attempts=str(tmp_path / "lake"))).resolve_asset_graph()
    nodes = {key: graph.get(key) for key in graph.get_all_asset_keys()}
    assert not [key for key, node in nodes.items() if not (node.owners and node.kinds)]
    says_what_a_row_is = re.compile(r"One (row|sentence) per .{,200}", re.DOTALL).fullmatch
    assert not [key for key, node in nodes.items() if not says_what_a_row_is(node.description or "")]
    group_index = {key: GROUPS.index(node.group_name) for key, node in nodes.items()}
    assert {*group_index.values()} == {*range(len(GROUPS))}
    read = [(key, parent) for key, node in nodes.items() for parent in node.parent_keys]
    assert not [(key, parent) for key, parent in read if group_index[parent] > group_index[key]]


def test_assets_name_their_table_and_resources_their_place_without_passwords(tmp_path: Path) -> None:
    address = SecretStr("postgresql://irt:hush@db.example/bank")
    defs = build_defs(Settings(irt_home=tmp_path, database_url=address, irt_db_schema="bank", s3_bucket="items"))
    graph = defs.resolve_asset_graph()
    tables = {str(graph.get(key).metadata.get("dagster/table_name")) for key in graph.get_all_asset_keys()}
    assert tables >= {"bank.question", "bank.attempt_verdict", "bank.mirt_ability", "bank.weekly_kpi"}
    assert tables - {"None"} <= {f"bank.{name}" for name in METADATA.tables}
    for url, expected in ((None, "public.question"), (address, "question")):
        found = build_defs(Settings(irt_home=tmp_path, database_url=url)).resolve_asset_graph()
        assert found.get(dg.AssetKey("question_bank")).metadata["dagster/table_name"] == expected
    described = {
        name: resource.description or ""
        for name, resource in defs.get_repository_def().get_top_level_resources().items()
    }
    assert "postgresql://irt:***@db.example/bank" in described["database"]
    assert "the bucket items" in described["store"]


@pytest.mark.parametrize(
    ("schedules", "found"),
    [
        (
            "running",
            {
                *("features_topic_daily", "weekly_kpi", "nightly_calibration", "inactivity", "invariant_report"),
                "item_analysis_daily",
            },
        ),
        ("stopped", set()),
    ],
)
def test_assets_of_daily_jobs_must_be_fresh_if_schedules_run(
    tmp_path: Path, schedules: Literal["running", "stopped"], found: set[str]
) -> None:
    graph = build_defs(Settings(irt_home=tmp_path, irt_schedules=schedules)).resolve_asset_graph()
    fresh = {key.to_user_string() for key in graph.materializable_asset_keys if graph.get(key).freshness_policy}
    assert fresh == found


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of installed engines, empty at first; the test adds names."""
    engines: set[str] = set()
    monkeypatch.setattr(definitions, "obstacle", lambda name, settings: None if name in engines else "it is absent")
    return engines


PLAIN = {
    *MONTHLY_ASSETS,
    "item_analysis",
    "abilities",
    "ability_movement",
    "group_abilities",
    "engine_agreement",
    "form_score_tables",
    "adaptive_simulation",
}


@pytest.mark.parametrize(
    ("enabled", "packages", "found"),
    [
        ("", (), ()),
        ("", ("pymc", "mirt"), ()),
        ("pymc", (), ()),
        ("pymc", ("pymc",), ("pymc",)),
        ("pymc,mirt,brms", ("mirt", "brms"), ("mirt", "brms")),
        ("maths:pymc", ("pymc", "mirt"), ("pymc",)),
    ],
)
def test_only_enabled_and_installed_engines_have_an_asset(
    tmp_path: Path, installed: set[str], enabled: str, packages: tuple[str, ...], found: tuple[str, ...]
) -> None:
    installed.update(packages)
    graph = build_defs(Settings(irt_home=tmp_path, irt_engines=enabled))
    assets = {f"item_calibration_{engine}" for engine in found}
    made = {key.to_user_string() for key in graph.resolve_asset_graph().materializable_asset_keys}
    assert {name for name in made if name.startswith("item_calibration_")} == assets
    month = graph.resolve_job_def(MONTHLY_JOB).asset_layer
    assert {key.to_user_string() for key in month.executable_asset_keys} == PLAIN | assets
    checks = {key.name for key in month.asset_graph.asset_check_keys}
    of_engines = {f"{engine}_fitted" for engine in comparison_names()}
    assert checks & {*of_engines, "engines_agree"} == {"engines_agree", *(f"{engine}_fitted" for engine in found)}


def test_engines_share_a_pool_and_assets_of_a_month_do_not_depend_on_engines(
    tmp_path: Path, installed: set[str]
) -> None:
    """If linked_item_parameters depended on an engine, Dagster would show all earlier months as unsynced once the
    engine is enabled."""
    installed.update(("brms", "mirt", "pymc"))
    graph = build_defs(Settings(irt_home=tmp_path, irt_engines="brms,mirt,pymc")).resolve_asset_graph()
    engines = [dg.AssetKey(f"item_calibration_{name}") for name in ("mirt", "pymc", "brms")]
    assert {pool for key in engines for pool in graph.get(key).pools} == {"heavy_engines"}
    priorities = [graph.get(key).assets_def.op.tags["dagster/priority"] for key in engines]  # type: ignore[union-attr]
    assert priorities == sorted(priorities, reverse=True)
    parents = {name: graph.get(dg.AssetKey(name)).parent_keys for name in (*MONTHLY_ASSETS, "engine_agreement")}
    assert parents["engine_agreement"] == {*engines, dg.AssetKey("linked_item_parameters")}
    assert not any(set(engines) & parents[name] for name in MONTHLY_ASSETS)


def test_every_pool_is_limited_to_a_single_run() -> None:
    """`heavy_engines` has no separate limit; the file's default applies to every pool."""
    pools = yaml.safe_load(Path(definitions.__file__).with_name("dagster.yaml").read_text("utf-8"))["concurrency"][
        "pools"
    ]
    assert pools == {"default_limit": 1, "granularity": "run"}


def test_number_of_concurrent_runs_exceeds_the_number_of_pools() -> None:
    """Both pools admit a single long run each, so a run can always start for daily jobs, which have no pool except
    for the nightly calibration."""
    settings = yaml.safe_load(Path(definitions.__file__).with_name("dagster.yaml").read_text("utf-8"))
    defs = build_defs(Settings(irt_engines="pymc", _env_file=None))
    graph = defs.resolve_asset_graph()
    pools = {pool for key in graph.executable_asset_keys for pool in graph.get(key).pools or ()}
    assert pools <= {"calibration", "heavy_engines"}
    assert settings["concurrency"]["runs"]["max_concurrent_runs"] > len({"calibration", "heavy_engines"})


def test_daily_jobs_have_priority_over_backfills_and_every_job_has_a_kind() -> None:
    jobs = build_defs(Settings(_env_file=None)).resolve_all_job_defs()
    tags = {job.name: job.tags for job in jobs if not job.name.startswith("__")}
    assert all({"irt/kind", "dagster/max_runtime", "dagster/priority"} <= set(of_job) for of_job in tags.values())
    priorities = {name: int(of_job["dagster/priority"]) for name, of_job in tags.items()}
    assert priorities.pop("monthly_calibration") == 0
    assert min(priorities.values()) > 0


def test_invariants_check_every_asset_that_follows_a_month(tmp_path: Path) -> None:
    graph = build_defs(Settings(irt_home=tmp_path)).resolve_asset_graph()
    following = {
        key.to_user_string()
        for key in graph.materializable_asset_keys
        if (condition := graph.get(key).automation_condition) and condition.get_label() == AFTER_A_MONTH.get_label()
    }
    assert following == set(ANALYSES)
