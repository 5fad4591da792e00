"""Tests of a group run on one worker, in their order.

A pytest plugin, which `tests/conftest.py` names. `--dist=loadgroup` alone would spread them: pytest-xdist 3.8 writes a
test's group into its name, and pytest 9.2 no longer reads the name from there.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

GROUPS = "groups.json"
"""File in the run's temporary folder with the group of each test. The workers write it, as they collect the tests."""


class GroupScheduling(LoadScopeScheduling):
    """Assigns each group, and each file without a group, to one worker."""

    @cached_property
    def groups(self) -> dict[str, str]:
        folder: Path = self.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        found: dict[str, str] = json.loads((folder / GROUPS).read_text())
        return found

    def _split_scope(self, nodeid: str) -> str:
        return self.groups.get(nodeid, nodeid.partition("::")[0])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        return
    marks = {item.nodeid: item.get_closest_marker("xdist_group") for item in session.items}
    groups = {nodeid: mark.args[0] for nodeid, mark in marks.items() if mark is not None}
    folder: Path = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    part = folder / GROUPS
    part.write_text(json.dumps(groups))
    part.rename(folder.parent / GROUPS)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling | None:
    return GroupScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None
