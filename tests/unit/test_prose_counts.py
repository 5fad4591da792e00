"""Turns of phrase that native prose hardly has, counted: each count in prose.toml may fall and not grow."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tests.testbed.house import read_source

ROOT = Path(__file__).parents[2]
COUNTS = Path(__file__).with_name("prose.toml")
PHRASES = {
    "what": r"\bwhat\b",
    "where for if": r"\bwhere (?:it|they|there|one|none|nobody|this|these|an?)\b",
    "that of": r"\b(?:that of|those (?:of|that))\b",
    "none": r"\b(?-i:none)\b(?! of)",
    "none if": r"; (?-i:None) (?:where|if|for|of|without)\b",
    "things that know": (
        r"\b(?:months?|items?|fits?|banks?|pages?|priors?|rows?|columns?|answers?|logs?|engines?|mappings?) "
        r"(?:says?|knows?|sees?|finds?|asks?|wants?|tells?)\b"
    ),
    "taken to": r"\b(?:taken (?:to|for|over|out|back)|made again|makes? \w+ again|asked for|looked (?:at|for|into))\b",
    "anew": r"\b(?:anew|is begun|for ever|of whatever|in the place of|ways? out|mend\w*)\b",
    "stands": r"\bstands? (?:in|on|at|for|where|beside|below|before)\b",
    "another than": r"\b(?:another than|is another|are others)\b",
    "so many": r"\b(?:so (?:many|few|far|long) (?!as|that)|as many (?!as))",
}
"""Name → pattern, whatever its case."""
NO_SUBJECT = re.compile(
    r"(?:What|Of|By|With|Over|Between|Beside|Below|Than|As|Where|Those|That|These|None|Each|Compared|Stored|Not|Until"
    r"|Within|Without)\b"
)
"""Beginnings of docstrings that name neither an action nor a thing."""
STRING_OR_COMMENT = re.compile(
    r'''(?s:"""(?:[^"\\]|\\.|"(?!""))*"""|\'\'\'(?:[^'\\]|\\.|'(?!\'\'))*\'\'\')'''
    r"""|"(?s:[^"\\\n]|\\.)*"|'(?s:[^'\\\n]|\\.)*'|(?P<comment>\#.*)"""
)
"""A string of Python, which may contain the character of comments, or a comment; the module tokenize is slow."""


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split()]


def comments(path: Path) -> Iterator[str]:
    return (found["comment"] for found in STRING_OR_COMMENT.finditer(path.read_text("utf-8")) if found["comment"])


def prose_of_pages() -> Iterator[str]:
    """The text of each page without code and without the addresses of links."""
    for path in tracked("*.md"):
        yield re.sub(r"```.*?```|`[^`\n]*`|(?<=\])\([^)]*\)", "", path.read_text("utf-8"), flags=re.DOTALL)


def measure() -> dict[str, int]:
    documented = [text for path in tracked("*.py") for _, text in read_source(path).docstrings]
    code = chain(documented, *map(comments, tracked("*.py")))
    counts: dict[str, int] = {}
    for kind, texts in (("code", code), ("pages", prose_of_pages())):
        one_a_line = "\n".join(" ".join(text.split()) for text in texts)
        counts |= {
            f"{kind}: {name}": len(re.findall(pattern, one_a_line, re.IGNORECASE)) for name, pattern in PHRASES.items()
        }
    counts["docstrings without a subject"] = sum(bool(NO_SUBJECT.match(text.strip())) for text in documented)
    return counts


def test_unclear_turns_of_phrase_become_fewer() -> None:
    allowed, found = tomllib.loads(COUNTS.read_text("utf-8")), measure()
    assert allowed.keys() == found.keys()
    grown = [f"{name}: {count - allowed[name]} more" for name, count in found.items() if count > allowed[name]]
    assert not grown, f"than in {COUNTS.name}. Write these sentences another way: {'; '.join(grown)}"


if __name__ == "__main__":
    print("# Turns of phrase that may become fewer and not more (tests/unit/test_prose_counts.py).")
    print("# Written by: python -m tests.unit.test_prose_counts > tests/unit/prose.toml")
    for name, count in measure().items():
        print(f'"{name}" = {count}')
