"""The whole graph, as the code server loads it: more is resolved there than where one job is run in process."""

from __future__ import annotations

from pathlib import Path

from irt_assets.calibration.green import MONTHLY_ASSETS, MONTHLY_JOB
from irt_assets.definitions import build_defs
from resources.settings import Settings


def test_every_job_of_the_graph_resolves(tmp_path: Path) -> None:
    """A job with the name of another job's op is refused only when all of them are looked at together."""
    graph = build_defs(Settings(irt_home=tmp_path)).get_repository_def()
    jobs = {job.name: job for job in graph.get_all_jobs()}
    assert {key.to_user_string() for key in jobs[MONTHLY_JOB].asset_layer.executable_asset_keys} >= set(MONTHLY_ASSETS)
