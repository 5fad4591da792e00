"""What the tests on a cluster stand on, as far as it can be seen without one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.deploy.kubernetes_binaries import MissingBuilderError, kubernetes_programs
from tests.testbed import kept

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("version", [None, "1.19.8"])
def test_without_a_new_go_a_sentence_says_what_is_missing(
    version: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "kept")
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho go version go{version} linux/amd64\n")
    go.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: str(go) if version else None)
    with pytest.raises(
        MissingBuilderError, match=r"^A test cluster is built with Go 1\.24 or newer, .*https://go\.dev"
    ):
        kubernetes_programs()


def test_what_is_built_is_not_built_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    programs = ("etcd-3.6.4", "kube-apiserver-1.34.4", "kube-controller-manager-1.34.4", "kubectl-1.34.4")
    folders = [tmp_path / "kubernetes" / program for program in programs]
    for folder in folders:
        folder.mkdir(parents=True)
    assert kubernetes_programs() == ":".join(map(str, folders))


def test_every_command_of_the_page_is_typed() -> None:
    page = (ROOT / "docs/reference/kubernetes-commands.md").read_text("utf-8")
    typed = (ROOT / "tests/deploy/test_kubernetes.py").read_text("utf-8")
    sections = [each for each in page.split("\n## ")[1:] if "```bash" in each]
    assert len(sections) > 10
    found = re.findall(r'(?:site|platform)\.type\(\s*"([^"]+)"', typed)
    assert set(found) == {each.partition("\n")[0] for each in sections}
