"""The version of Dagster whose private parts we use."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from resources import dagster_compat
from resources.failures import PermanentFailure

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_it_is_the_pinned_one() -> None:
    pinned = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["dependencies"]
    assert f"dagster-webserver=={dagster_compat.DAGSTER}" in pinned
    dagster_compat.check_version()


def test_another_one_is_refused_before_anything_of_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dagster_compat, "version", lambda _: "1.14.0")
    with (
        pytest.raises(PermanentFailure, match=r"1\.14\.0 is installed and 1\.13\.27 is needed"),
        dagster_compat.webserver_app(PROJECT, path_prefix="", read_only=False, tags_of_backfill=lambda _: {}),
    ):
        pass
