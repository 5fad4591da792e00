"""The gallery of the library's figures shows the current drawings."""

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = "packages/irt-psychometrics/irt_psychometrics/plots/**"


@pytest.fixture(scope="module")
def gallery() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "library" / "make_gallery.py"))


@pytest.mark.on_change("docs/library/**", FIGURES)
def test_the_gallery_is_up_to_date(gallery: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert gallery["main"](["--check"]) == 0, capsys.readouterr().out


def test_every_stored_figure_belongs_to_an_entry_of_the_gallery(gallery: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "library" / "gallery.md").read_text(encoding="utf-8")
    stored = {path.stem for path in (ROOT / "docs" / "library" / "images").glob("*.svg")}
    assert stored == {entry.name for entry in gallery["ENTRIES"]}
    assert all(entry.code in page for entry in gallery["ENTRIES"])


@pytest.mark.parametrize(
    ("change", "current"), [(("10.1", "10.3"), True), (("10.1", "10.9"), False), (("blue", "orange"), False)]
)
def test_numbers_of_a_drawing_may_differ_by_rounding_only(
    gallery: dict[str, Any], tmp_path: Path, change: tuple[str, str], current: bool
) -> None:
    path = tmp_path / "figure.svg"
    path.write_text('<path d="M10.1 20" fill="blue"/>'.replace(*change))
    assert gallery["is_current"](path, '<path d="M10.1 20" fill="blue"/>') is current
