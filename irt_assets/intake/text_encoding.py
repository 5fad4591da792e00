"""Encodings of text files: the accepted names, and a guess at the encoding of bytes that are not UTF-8."""

import codecs
import re
from pathlib import Path

from resources.failures import PermanentFailure

SAMPLE = 2**16
_KNOWN_ENCODINGS = (  # encoding, who writes it, its usual letters beyond ASCII, and their least share of these
    ("cp932", "Japanese Windows", r"[\u3040-\u30ff]", 0.3),
    ("cp949", "Korean Windows", r"[가-힣]", 0.9),
    ("cp1252", "Western European Windows", r"(?<![^\0-\x7f])[À-ÖØ-öø-ÿŒœŠšŽžŸ\u2013-\u201e](?![^\0-\x7f])", 0.8),
    ("cp1251", "Cyrillic Windows", r"(?<![^\0-\x7f])[А-ЯЁ]?[а-яё]{2,}(?![^\0-\x7f])", 0.8),
    ("gb18030", "Chinese Windows", r"[\u4e00-\u9fff]", 0.9),
)


def check_encoding(name: str) -> str:
    """The normalised name of an encoding that extends ASCII. Raises ValueError for any other name."""
    plain = bytes(range(128))
    try:
        if plain.decode(name) == plain.decode("ascii"):
            return codecs.lookup(name).name if name.lower() != "latin-1" else "latin-1"
    except (LookupError, UnicodeError):
        pass
    raise ValueError(f"{name!r} is not an encoding of text that extends ASCII, such as cp949, cp932, cp1252 or latin-1")


def guess_encoding(sample: bytes) -> tuple[str, str] | None:
    """The encoding of lines that are not UTF-8, and who writes it. Returns None if no known one fits."""
    for name, writer, letters, share in _KNOWN_ENCODINGS:
        try:
            text = sample.decode(name)
        except UnicodeDecodeError:
            continue
        beyond = len(re.findall(r"[^\0-\x7f]", text))
        if beyond and sum(map(len, re.findall(letters, text))) >= share * beyond:
            return name, writer
    return None


def not_utf8_error(path: Path, line: int, sample: bytes) -> PermanentFailure:
    """The error for a file that is not UTF-8, with the encoding that it seems to have. `sample`: whole lines."""
    found = guess_encoding(sample)
    name = found[0] if found else "NAME"
    seems = f"it looks like {name} ({found[1]})" if found else "nor does it look like another known encoding"
    return PermanentFailure(
        f"{path}, line {line}: this is not UTF-8; {seems}. Save the file as UTF-8 (Excel: CSV UTF-8; elsewhere: iconv"
        f" -f {name} -t UTF-8 FILE > NEW), or give irt import --encoding {name} (in a mapping file: encoding: {name})."
    )
