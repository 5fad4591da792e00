"""Which expensive tests a run leaves out: those of files that did not change.

A plugin of pytest, which `tests/conftest.py` names. A test marked `on_change("deploy/**", …)` runs with `--changed`
only where one of these files, its own or its pictures differ from the merge base; with `imports=True` also where a file
does that its own imports, at any remove. What was left out is listed at the end of the run. What does not belong here:
the tiers, which are markers that the Makefile selects.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from tests.helpers.imported_files import imported_files
from tests.helpers.record import LEFT_OUT, append

BASE = "CHANGED_SINCE"
"""The commit to compare with, where it is known."""
RECENT_S = 12 * 3600
"""On the main branch itself, what came so long before the last commit is not compared."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--changed", action="store_true", help="leave out what is marked on_change and did not")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """After the selection by markers, so that only what would have run is listed."""
    changed = changed_files(config.rootpath) if config.getoption("--changed") else None
    if changed is None:
        return
    left_out = [item for item in items if not _concerned(item, changed)]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
        for item in left_out:
            append(config.rootpath / LEFT_OUT, item.nodeid)


def _concerned(item: pytest.Item, changed: list[str]) -> bool:
    marks = list(item.iter_markers("on_change"))
    patterns = [f"tests/pictures/{item.path.stem}/**", *(pattern for mark in marks for pattern in mark.args)]
    root = item.config.rootpath
    imports = any(mark.kwargs.get("imports") for mark in marks)
    own = imported_files(root, item.path) if imports else {item.path}
    return not marks or any(root / file in own or any(_matches(file, each) for each in patterns) for file in changed)


def _matches(file: str, pattern: str) -> bool:
    """`folder/**` is all below the folder; else a pattern of the shell, for the end of the path."""
    if pattern.endswith("/**"):
        return file.startswith(pattern.removesuffix("**"))
    return PurePosixPath(file).match(pattern)


def changed_files(root: Path) -> list[str] | None:
    """What differs from the base, with what is not committed; None where no base is known, so that everything runs."""
    base = _base(root)
    if base is None:
        return None
    committed = _git(root, "diff", "--name-only", base)
    new = _git(root, "ls-files", "--others", "--exclude-standard")
    return None if committed is None or new is None else [*committed.splitlines(), *new.splitlines()]


def _base(root: Path) -> str | None:
    """`CHANGED_SINCE`, else the merge base with main; on that branch the last commit of half a day before."""
    if given := os.environ.get(BASE):
        return given
    head = _git(root, "rev-parse", "HEAD")
    for branch in ("origin/main", "main"):
        base = _git(root, "merge-base", "HEAD", branch)
        if base is not None and base != head:
            return base
    date = _git(root, "log", "-1", "--format=%ct")
    if date is None:
        return None
    return _git(root, "rev-list", "-1", f"--before={int(date) - RECENT_S}", "HEAD") or None


def _git(root: Path, *arguments: str) -> str | None:
    ran = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return ran.stdout.strip() if ran.returncode == 0 else None
