"""Compare all definitions, as text, with a stored picture, so that a reviewer sees each change of the Dagster UI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from irt_assets import definitions
from irt_assets.definitions import build_defs
from irt_assets.engines.registry import comparison_names
from irt_assets.gates.advisory_checks import ADVISORY_CHECKS
from irt_assets.gates.gates import SET_GATES
from irt_assets.invariants.open_violations import SEVERITY
from resources.settings import Settings
from tests.helpers.pictures import Picture

SEVERITIES = {
    **{gate.name: "error" for gate in SET_GATES},
    **{check.name: "warning" for check in ADVISORY_CHECKS},
    **SEVERITY,
}
"""Severity of the checks that declare one; the other checks decide it by their result."""


@pytest.mark.parametrize(("name", "engines"), [("base", ""), ("every_engine", ",".join(comparison_names()))])
def test_definitions_are_as_pictured(
    monkeypatch: pytest.MonkeyPatch, picture: Picture, name: str, engines: str
) -> None:
    monkeypatch.setattr(definitions, "obstacle", lambda engine, settings: None if engines else "it is absent")
    picture(
        "\n".join(drawn(build_defs(Settings(irt_engines=engines, _env_file=None)))), name, first=r"2\d{3}-\d\d(-\d\d)?"
    )


def drawn(defs: dg.Definitions) -> Iterator[str]:
    """Yield the lines of the picture: assets by group, jobs, schedules and sensors."""
    graph, repository = defs.resolve_asset_graph(), defs.get_repository_def()
    nodes = [graph.get(key) for key in sorted(graph.get_all_asset_keys())]
    for group in sorted({str(node.group_name) for node in nodes}):
        yield f"\ngroup {group}"
        for node in nodes:
            if node.group_name == group:
                yield from asset_lines(graph, node)
    for kind, found in (
        ("jobs", [f"{job.name}: {contents(job)}" for job in repository.get_all_jobs()]),
        ("schedules", [f"{s.name}: {s.cron_schedule} {s.execution_timezone or ''}" for s in repository.schedule_defs]),
        ("sensors", [f"{s.name}: {s.sensor_type.value}, {s.default_status.value}" for s in repository.sensor_defs]),
    ):
        yield f"\n{kind}"
        yield from sorted(f"  {line.rstrip()}" for line in found)


def asset_lines(graph: dg.AssetGraph, node: Any) -> Iterator[str]:
    """Yield an asset's name with its properties, then its dependencies and its checks."""
    key = node.key
    partitions = type(node.partitions_def).__name__.removesuffix("PartitionsDefinition") if node.partitions_def else "-"
    words = [partitions, " ".join(sorted(node.kinds)), *(f"pool {pool}" for pool in node.pools or ())]
    if node.automation_condition is not None:
        words.append(f"automation: {node.automation_condition.get_label()}")
    if node.freshness_policy is not None:
        words.append("must be fresh")
    yield f"  {key.to_user_string()}: {'; '.join(words)}"
    for parent in sorted(node.parent_keys):
        yield f"    from {parent.to_user_string()}{mapping_in_words(graph, key, parent)}"
    for check in sorted(node.check_keys):
        yield f"    check {check.name}{f' ({severity})' if (severity := SEVERITIES.get(check.name)) else ''}"


def mapping_in_words(graph: dg.AssetGraph, key: dg.AssetKey, parent: dg.AssetKey) -> str:
    if graph.get(key).partitions_def is None or graph.get(parent).partitions_def is None:
        return ""
    mapping = graph.get_partition_mapping(key, parent)
    if not isinstance(mapping, dg.TimeWindowPartitionMapping):
        return f" ({type(mapping).__name__})"
    return f" (and {-mapping.start_offset} periods before)" if mapping.start_offset else ""


def contents(job: dg.JobDefinition) -> str:
    keys = job.asset_layer.executable_asset_keys
    return ", ".join(sorted(key.to_user_string() for key in keys)) or "checks or operations"
