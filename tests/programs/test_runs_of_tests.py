"""Selection of tests by changed files: tests are skipped if no file that concerns them has changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.helpers.imported_files import imported_files
from tests.helpers.planted import pytest_of
from tests.helpers.selection import BASE, changed_files


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, check=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository whose branch changes `deploy/unit` and a test relative to main."""
    git(tmp_path, "init", "-q", "-b", "main")
    for name in ("deploy/unit", "core/em", "test_a.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    git(tmp_path, "checkout", "-q", "-b", "branch")
    (tmp_path / "deploy/unit").write_text("2")
    git(tmp_path, "commit", "-q", "-a", "-m", "second")
    (tmp_path / "test_a.py").write_text(
        "import pytest\n"
        + "".join(
            f"@pytest.mark.on_change({pattern!r})\ndef test_{name}(): pass\n"
            for name, pattern in {"unit": "deploy/**", "core": "core/*"}.items()
        )
    )
    return tmp_path


def test_changed_files_are_found_by_comparison_with_the_merge_base(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BASE, raising=False)
    assert changed_files(repository) == ["deploy/unit", "test_a.py"]
    git(repository, "checkout", "-q", "main", "-f")
    assert changed_files(repository) is None, "main has one commit: there is nothing to compare it with"


@pytest.mark.ci
@pytest.mark.on_change("requirements-dev.lock", imports=True)
def test_marked_tests_are_skipped_and_listed_if_their_files_did_not_change(repository: Path) -> None:
    git(repository, "commit", "-q", "-a", "-m", "third")
    (repository / "test_b.py").write_text((repository / "test_a.py").read_text())
    git(repository, "branch", "-q", "-f", "main")
    git(repository, "checkout", "-q", "-b", "other")
    git(repository, "add", "test_b.py")
    git(repository, "commit", "-q", "-m", "fourth")
    (repository / "deploy/unit").write_text("3")
    ran = pytest_of(repository, "--changed")
    assert "3 passed, 1 deselected" in ran.stdout, ran.stdout + ran.stderr
    assert (repository / "build/left-out.tsv").read_text() == "test_a.py::test_core\n"


def test_imports_of_a_file_are_followed_recursively(tmp_path: Path) -> None:
    for name, text in {
        "a.py": "def f():\n    from package import middle",
        "package/__init__.py": "import sys",
        "package/middle.py": "from .last import value as other",
        "package/last.py": "import numpy.linalg",
        "package/aside.py": "import a",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {path.relative_to(tmp_path).as_posix() for path in imported_files(tmp_path, tmp_path / "a.py")}
    assert found == {"a.py", "package/__init__.py", "package/middle.py", "package/last.py"}


@pytest.mark.ci
@pytest.mark.on_change("requirements-dev.lock", imports=True)
def test_marked_by_imports_runs_if_an_imported_file_changed(repository: Path) -> None:
    (repository / "core/em.py").write_text("1")
    (repository / "test_a.py").write_text(
        "import pytest, core.em\n@pytest.mark.on_change(imports=True)\ndef test_em(): pass\n"
    )
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "third")
    git(repository, "branch", "-q", "-f", "main")
    git(repository, "checkout", "-q", "-b", "other")
    git(repository, "commit", "-q", "--allow-empty", "-m", "fourth")
    assert "1 deselected" in pytest_of(repository, "--changed").stdout
    (repository / "core/em.py").write_text("2")
    assert "1 passed" in pytest_of(repository, "--changed").stdout
