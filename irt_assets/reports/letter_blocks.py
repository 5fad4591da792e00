"""Letters to learners about scores, as a document with a page for each letter.

Does not belong here: the facts (see `letter_facts`), and the phrases (`templates/letter.*.yaml`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from irt_assets.blocks import Block, Document, Letterhead, Paragraph, Section, pairs
from irt_assets.reports.learner_words import LANGUAGES_OF, Words
from irt_assets.reports.letter_facts import Letter
from resources.failures import PermanentFailure

VERDICTS: Mapping[bool | None, str] = {True: "passed", False: "failed", None: "none"}
PICTURES = (b"\x89PNG\r\n", b"\xff\xd8\xff")
"""First bytes of PNG and JPEG files."""


def read_letterhead(folder: Path | None) -> Letterhead:
    """Read the letterhead from the files logo.png or logo.jpg, address.txt, closing.txt and closing.LANGUAGE.txt.

    Each file may be missing. Each line of closing.txt is a paragraph. Raises PermanentFailure if the folder is missing,
    the logo is neither PNG nor JPEG, or a text is not UTF-8.
    """
    if folder is None:
        return Letterhead()
    if not folder.is_dir():
        raise PermanentFailure(f"IRT_LETTERHEAD must be a folder, got {folder}")
    logo = b"".join(path.read_bytes() for path in sorted(folder.glob("logo.*"))[:1])
    if logo and not logo.startswith(PICTURES):
        raise PermanentFailure(f"the logo in {folder} must be a PNG or JPEG file")
    closing = {code: _lines(folder / f"closing.{code}.txt") for code in LANGUAGES_OF["letter"]}
    return Letterhead(logo, _lines(folder / "address.txt"), closing | {"": _lines(folder / "closing.txt")})


def _lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a text file that are not empty, or () if the file is missing."""
    try:
        text = path.read_text("utf-8-sig") if path.exists() else ""
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    except UnicodeDecodeError:
        raise PermanentFailure(f"{path} must be UTF-8 text: save it as UTF-8") from None


def document(letters: Sequence[Letter], letterhead: Letterhead, at: datetime) -> Document:
    """Return the letters, of which there is at least one, as a document. `at`: time at which they are written."""
    first = Words(letters[0].language, "letter")
    return Document(
        title=first("title"),
        language=first.language,
        kind="letter",
        blocks=tuple(_letter(letter, letterhead, at) for letter in letters),
        letterhead=letterhead,
    )


def _letter(letter: Letter, head: Letterhead, at: datetime) -> Section:
    words = Words(letter.language, "letter")
    closing = head.closing.get(letter.language) or head.closing.get("") or ()
    blocks = (*_blocks(letter, words, at), *map(Paragraph, closing))
    return Section(words("title"), blocks, language=letter.language)


def _blocks(letter: Letter, words: Words, at: datetime) -> Iterator[Block]:
    score, limits = letter.score, letter.limits
    scaled, lowest, highest, mark = (
        _written(words, value) for value in (score.scaled, limits.lowest, limits.highest, limits.mark)
    )
    on_scale = "scale" if lowest and highest else "highest" if highest else "alone"
    verdict = VERDICTS[score.passes]
    yield Paragraph(_day(words, at, letter), "quiet")
    yield Paragraph(words(f"lead.{verdict}", scaled=scaled), "lead")
    yield pairs(
        {
            words("facts.name" if letter.name else "facts.id"): letter.name or score.user_id,
            words("facts.test"): score.form_id,
            words("facts.sat"): _day(words, score.sat_at, letter),
            words("facts.score"): words(f"facts.{on_scale}", scaled=scaled, lowest=lowest, highest=highest),
            words("facts.needed"): words("facts.alone", scaled=mark) if mark else "",
            words("facts.result"): words(f"result.{verdict}"),
        }
    )
    if letter.replaced:
        was = words(f"given.{VERDICTS[letter.replaced.passes]}", scaled=_written(words, letter.replaced.scaled))
        yield Paragraph(words("replaced", given=was, date=_day(words, letter.replaced.issued_at or at, letter)))
    if letter.n_results > 1:
        counting = letter.counting
        which = words(
            "retest.this" if counting.sitting == score.sitting else "retest.other",
            scaled=_written(words, counting.scaled),
            form=counting.form_id,
            date=_day(words, counting.sat_at, letter),
        )
        rule = words("retest.best" if letter.best_counts else "retest.last", n=letter.n_results)
        yield Paragraph(f"{rule} {which}")
    yield Section(words("meaning.title"), tuple(map(Paragraph, _meaning(letter, words))))
    if letter.sections:
        points = ((topic, words("sections.points", points=n, most=most)) for topic, n, most in letter.sections)
        yield Section(words("sections.title"), (pairs(points), Paragraph(words("sections.how"), "quiet")))


def _meaning(letter: Letter, words: Words) -> Iterator[str]:
    limits = letter.limits
    if limits.band:
        low, high = (_written(words, end) for end in limits.band)
        yield words("meaning.band", low=low, high=high)
    yield words("meaning.layman")
    if limits.mark is not None and (letter.score.scaled >= limits.mark) != letter.score.passes:
        yield words("meaning.rounding")


def _day(words: Words, at: datetime, letter: Letter) -> str:
    return words.in_full(at.astimezone(ZoneInfo(letter.zone)).date())


def _written(words: Words, value: float | None) -> str:
    return "" if value is None or math.isinf(value) else f"{value:.10g}".replace(".", words("decimal"))
