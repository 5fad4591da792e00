"""What the tests on a cluster stand on, as far as it can be seen without one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.deploy.kubernetes_binaries import MissingBuilderError, kubernetes_programs

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("version", [None, "1.19.8"])
def test_without_a_new_go_a_sentence_says_what_is_missing(
    version: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho go version go{version} linux/amd64\n")
    go.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: str(go) if version else None)
    with pytest.raises(
        MissingBuilderError, match=r"^A test cluster is built with Go 1\.24 or newer, .*https://go\.dev"
    ):
        kubernetes_programs()


def test_what_is_built_is_not_built_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    folder = tmp_path / "irt-assets/kubernetes/1.34.4"
    folder.mkdir(parents=True)
    for program in ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl"):
        (folder / program).touch()
    assert kubernetes_programs() == folder


def test_every_command_of_the_page_is_typed() -> None:
    page = (ROOT / "docs/reference/kubernetes-commands.md").read_text("utf-8")
    typed = (ROOT / "tests/deploy/test_kubernetes.py").read_text("utf-8")
    sections = [each for each in page.split("\n## ")[1:] if "```bash" in each]
    assert len(sections) > 10
    assert set(re.findall(r'platform\.type\(\s*"([^"]+)"', typed)) == {each.partition("\n")[0] for each in sections}
