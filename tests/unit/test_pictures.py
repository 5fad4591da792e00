"""Comparison with stored pictures: a difference fails with its lines, and a test that writes a picture never passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.pictures import comparing, readable

Failed = pytest.fail.Exception
PICTURES = Path(__file__).parents[1] / "pictures"
PAGE = """<!doctype html><html><head><title>Month 7</title><style>p {}</style></head><body>
<h2>Items</h2><p>Two of them <b>moved</b> by &lt; 3:
 see <a class="x" href="/items">the table</a>.</p><ul><li>one</li><li><p>two</p></li></ul>
<table><tr><th></th><th>b</th></tr><tr><td>Q1</td><td><p>0.5</p></td></tr><tr><td>Q2</td><td></td></tr></table>
<p>The end</p><script>run()</script></body></html>"""
READ = """Month 7
## Items
Two of them moved by < 3: see [the table](/items).
- one
- two
| b
Q1 | 0.5
Q2 |
The end
"""


def test_html_is_read_as_text() -> None:
    assert readable(PAGE) == READ


def test_equal_text_passes_and_different_text_fails_with_the_difference(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("The month is held.\nIt took <seconds> s.\n")
    with comparing(tmp_path, write=False) as picture:
        picture("The month is held. \nIt took 3 s.", "held", seconds=r"\d+(?= s)")
        with pytest.raises(Failed, match=r"-The month is held.\n\+The month is published.\n It took <seconds>"):
            picture("The month is published.\nIt took 4 s.", "held", seconds=r"\d+(?= s)")
        with pytest.raises(Failed, match=r"report.txt does not exist\n.*\n.*\n\+A report\n\n.*IRT_PICTURES=write"):
            picture("A report", "report")


def test_test_that_writes_pictures_fails_at_its_end(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"wrote .*new/held.txt, .*new/report.txt\n.*git diff tests/pictures"):  # noqa: PT012, SIM117
        with comparing(tmp_path / "new", write=True) as picture:
            picture("The month is held.", "held")
            picture("A report", "report")
    assert (tmp_path / "new" / "report.txt").read_text() == "A report\n"


def test_every_stored_picture_is_compared_by_a_test() -> None:
    """Tests contain the full names of their pictures, so that unused pictures are found."""
    tests = {path.stem: path.read_text("utf-8") for path in PICTURES.parent.glob("*/test_*.py")}
    found = [path for path in PICTURES.rglob("*.txt") if f'"{path.stem}"' not in tests.get(path.parent.name, "")]
    assert not found
