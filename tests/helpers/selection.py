"""Leave out expensive tests if the files they depend on have not changed.

A pytest plugin, which `tests/conftest.py` names. With `--changed`, a test marked `on_change("deploy/**", …)` runs only
if one of these files, its own file or its pictures differ from the merge base. With `imports=True` it also runs if a
file that its own file imports, directly or indirectly, differs. The end of the run lists the tests that were left out.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from tests.helpers.imported_files import imported_files
from tests.helpers.record import LEFT_OUT, append

BASE = "CHANGED_SINCE"
"""Environment variable with the commit to compare with."""
RECENT_S = 12 * 3600
"""On the main branch, the comparison goes back this many seconds before the last commit."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--changed", action="store_true", help="leave out what is marked on_change and did not")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Runs after the selection by markers, so that the list contains only tests that would have run."""
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
    """Whether a file matches: `folder/**` means all files below the folder, else the end of the path is globbed."""
    if pattern.endswith("/**"):
        return file.startswith(pattern.removesuffix("**"))
    return PurePosixPath(file).match(pattern)


def changed_files(root: Path) -> list[str] | None:
    """Files that differ from the base, including uncommitted changes.

    Returns None if no base is known, so that all tests run.
    """
    base = _base(root)
    if base is None:
        return None
    committed = _git(root, "diff", "--name-only", base)
    new = _git(root, "ls-files", "--others", "--exclude-standard")
    return None if committed is None or new is None else [*committed.splitlines(), *new.splitlines()]


def _base(root: Path) -> str | None:
    """`CHANGED_SINCE`, else the merge base with main. On main itself, a commit from half a day before the last one."""
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
