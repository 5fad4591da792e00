"""Phrases that the project's sentences avoid, because readers have to decode them."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.testbed.house import read_source

HOME = Path(__file__).resolve().parents[2]

ROOTS = ("docs", "irt_assets", "jobs", "packages", "resources", "services")

INSTEAD = {
    r"\b(?:told|tells?|telling) (?:\w+ )?apart\b": "distinguish, identify",
    r"\bcannot be told\b": "cannot be determined",
    r"\b(?<!there )(?:is|are|was|were|be) no (?=[a-z])(?!(?:longer|more|less|better|worse|later|earlier|larger)\b)": (
        "is not a …, has no …; only “there is no …” is fine"
    ),
    r"\bnobody is there\b": "no terminal, nobody can answer",
    r"\b(?:to|is|are|be) mend(?:ed)?\b": "fix, correct",
    r"\btreats? \w+ unlike\b": "functions differently",
    r"\bcalls? for a look\b": "needs review",
    r"\bfrom so many\b": "from this many, with at least",
    r"\bso many \w+ and more\b": "at least this many",
    r"\bon which nothing rests\b": "that nothing references",
    r"\blets? expect\b": "as expected at",
    r"[:;,] wanted \w": "must be …, expected …, at least … is needed",
    r"\bwants (?:NAME|one|a month|DEFAULT|KIND)": "takes …, must be …",
    r"\broom of\b": "the package or the asset group; of a disk: space",
    r"\bcannot be had\b": "is not free, is missing",
    r"\bthough it (?:be|were)\b": "although it is",
    r"\basks? no more\b": "is closed, needs no decision",
    r"\bwhat (?:it|they) knows? of\b": "what is known about …",
}
"""Words to write instead, by pattern; case is ignored."""

NO_SUBJECT = re.compile(r"Of [^,.]*[.,:]")
"""Beginning of a docstring that does not name the thing it describes: begin with the thing."""


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of a file's sentences: strings and docstrings in Python, everything but code on a page."""
    if path.suffix == ".py":
        yield from read_source(path).strings
    else:
        text = path.read_text(encoding="utf-8")
        without_code = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL)
        yield from enumerate(without_code.splitlines(), start=1)


def files(*suffixes: str) -> list[Path]:
    return [path for root in ROOTS for path in sorted((HOME / root).rglob("*")) if path.suffix in suffixes]


def test_sentences_contain_no_phrase_to_avoid() -> None:
    instead = {re.compile(pattern, re.IGNORECASE): words for pattern, words in INSTEAD.items()}
    found = []
    for path in files(".py", ".md"):
        on_one_line = [(line, " ".join(text.split())) for line, text in sentences(path)]
        whole_file = "\n".join(text for _, text in on_one_line)
        found += [
            f"{path.relative_to(HOME)}:{line}: {match[0]!r}; write instead: {words}"
            for pattern, words in instead.items()
            if pattern.search(whole_file)
            for line, text in on_one_line
            for match in pattern.finditer(text)
        ]
    assert not found, "\n".join(found)


def test_docstrings_do_not_begin_with_of() -> None:
    found = [
        f"{path.relative_to(HOME)}:{line}: {text.splitlines()[0]}"
        for path in files(".py")
        for line, text in read_source(path).docstrings
        if NO_SUBJECT.match(text)
    ]
    assert not found, "\n".join(found)


def test_patterns_match_their_phrases_and_no_good_sentence() -> None:
    bad = (
        "five in a hundred are told apart otherwise",
        "which anchors moved cannot be told",
        "an anchor that is no anchor",
        "nobody is there to confirm it",
        "most are mended",
        "it treats groups unlike",
        "no item calls for a look",
        "from so many answers on",
        "so many learners and more of a data set",
        "runs on which nothing rests",
        "as your level lets expect",
        "R-hat 1.2, wanted 1.01 or less",
        "--set wants NAME=VALUE",
        "the room of item parameters",
        "where the port cannot be had",
        "though it be installed",
        "a rejected proposal asks no more",
        "what it knows of the learner",
    )
    for pattern, sentence in zip(INSTEAD, bad, strict=True):
        assert re.search(pattern, sentence, re.IGNORECASE), (pattern, sentence)
    fine = ("there is no fit", "it is no longer stale", "the amendment", "answers are no better than chance")
    assert not [(p, s) for p in INSTEAD for s in fine if re.search(p, s, re.IGNORECASE)]
    assert NO_SUBJECT.match("Of a linear scale, for the correlation of difficulty.")
