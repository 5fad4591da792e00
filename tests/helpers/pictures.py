"""Pictures of text: the text of a page, report or message in a file that a reviewer can read as a whole.

A pytest plugin, which `tests/conftest.py` names. `picture(text, "held", day=r"\\d{4}-\\d\\d-\\d\\d")` compares the
text, which may be HTML, with `tests/pictures/<test file>/held.txt`, in which matches of the pattern are `<day>`. With
`IRT_PICTURES=write` the pictures are written, and the tests that wrote them fail.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import unified_diff
from html import unescape
from pathlib import Path

import pytest

Picture = Callable[..., None]
"""`picture(text, name, **changing)` fails if the text differs from the picture of that name.

`changing` maps names to regular expressions of text that differs between runs; the name replaces matches. Texts may be
given by title.
"""
REMEDY = "If it is meant so: write it with IRT_PICTURES=write, review it (git diff tests/pictures), and test without."
AS_READ = {
    r"(?s)<(script|style|svg)\b.*?</\1>|<!.*?>": "",
    r"\s+": " ",
    r'<a\b[^>]*?\bhref="([^"]*)"[^>]*>(.*?)</a>': r"[\2](\1)",
    r"</?(?:p|div|ul|li|br)\b[^>]*>(?=(?:(?!<t[dh]\b).)*</t[dh]>)": " ",
    r" *</t[dh]>(?= *<t[dh]\b)": " | ",
    r"<h1\b[^>]*>": "\n# ",
    r"<h2\b[^>]*>": "\n## ",
    r"<h[3-6]\b[^>]*>": "\n### ",
    r"<li\b[^>]*>(?: *<p>)?": "\n- ",
    r"</?(?:a|abbr|b|code|em|i|label|small|span|strong|sub|sup|t[dh])\b[^>]*>": "",
    r" +": " ",
    r"<[^>]*>": "\n",
}
"""Replacements, in order, that turn HTML into lines of text. The fourth keeps a cell on one line."""


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Iterator[Picture]:
    folder = request.config.rootpath / "tests" / "pictures" / request.path.stem
    with comparing(folder, write=os.environ.get("IRT_PICTURES") == "write") as compare:
        yield compare


@contextmanager
def comparing(folder: Path, *, write: bool) -> Iterator[Picture]:
    written: list[Path] = []

    def compare(text: str | dict[str, str], name: str, **changing: str) -> None:
        if isinstance(text, dict):
            text = "\n\n".join(f"== {title} ==\n{body}" for title, body in text.items())
        file, found = folder / f"{name}.txt", readable(text, **changing)
        if write:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(found, "utf-8")
            written.append(file)
        elif message := difference(file, found):
            pytest.fail(message, pytrace=False)

    yield compare
    if written:
        pytest.fail(f"wrote {', '.join(map(str, written))}\n{REMEDY}", pytrace=False)


def difference(file: Path, found: str) -> str:
    """Returns the differences between a text and its picture, line by line, or "" if they are equal."""
    stored, name = (file.read_text("utf-8"), str(file)) if file.exists() else ("", f"{file} does not exist")
    lines = list(unified_diff(stored.splitlines(), found.splitlines(), name, "now", n=2, lineterm=""))
    return "\n".join([*lines, "", REMEDY]) if lines else ""


def readable(text: str, **changing: str) -> str:
    """Replace changing parts of a text by `<name>`. HTML becomes its visible text, without empty lines."""
    if text.lstrip().startswith("<"):
        for pattern, replacement in AS_READ.items():
            text = re.sub(pattern, replacement, text)
        text = re.sub(r"\s*\n\s*", "\n", unescape(text))
    for name, pattern in changing.items():
        text = re.sub(pattern, f"<{name}>", text)
    return "\n".join(map(str.rstrip, text.strip().splitlines())) + "\n"
