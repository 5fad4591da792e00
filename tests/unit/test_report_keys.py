"""Keys of learner reports: any id stays in the folder of its week, and different ids have different keys."""

from __future__ import annotations

import string
from pathlib import Path, PurePosixPath

from hypothesis import given, strategies as st

from irt_assets.reports.learner_week import key
from resources.files.object_store import FolderStore

EVIL = [
    "",
    ".",
    "..",
    "../../etc/passwd",
    "a/b",
    "a\\b",
    "a\0b",
    " ",
    "a ",
    "A",
    "a",
    "ä",
    "😀" * 300,
    "x" * 300,
    "~",
    "a~b",
]
EVIL += ["con", "%2e%2e", "%", "a%", "u1.pdf", "u1.html", "김하늘", "-", "_", "\n", "a" * 64, "a" * 65, "\ud800"]


def test_reports_of_unusual_ids_are_distinct_files_in_the_folder_of_the_week(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    keys = {user: key("2026-11-09", user, "pdf") for user in EVIL}
    assert len({path.casefold() for path in keys.values()}) == len(EVIL)
    for user, path in keys.items():
        store.put(path, user.encode("utf-8", "surrogatepass"))
    assert {p.parent for p in tmp_path.rglob("*.pdf")} == {tmp_path / "reports" / "2026-11-09"}
    assert all(store.get(path) == user.encode("utf-8", "surrogatepass") for user, path in keys.items())


def test_plain_id_is_unchanged_in_the_key_of_its_report() -> None:
    assert key("2026-11-09", "u-1_b", "html") == "reports/2026-11-09/u-1_b.html"
    assert key("2026-11-09", "U1", "html").startswith("reports/2026-11-09/U1~")


@given(st.text(), st.text())
def test_key_is_a_short_ascii_name_that_is_unique_to_its_learner(one: str, other: str) -> None:
    keys = [PurePosixPath(key("2026-11-09", user, "pdf")) for user in (one, other)]
    for path in keys:
        assert path.parent == PurePosixPath("reports/2026-11-09")
        assert len(path.name) < 128
        assert set(path.stem) <= set(string.ascii_letters + string.digits + "-_~%")
        assert path.stem
    assert (keys[0].name.casefold() == keys[1].name.casefold()) == (one == other)
