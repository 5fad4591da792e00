"""The report of an import: its counts, the reasons for refused rows, and the file of refused rows."""

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from irt_assets.common.spreadsheets import no_formula
from irt_psychometrics.cells import Cells
from irt_psychometrics.items import MAX_SCORE

ERASED = "erased_learner"
"""Reason of a refused row of an erased learner; nothing else of the row is stored."""
WITHDRAWN = "withdrawn_attempt"
COLUMNS = ("file", "line", "reason", "value", "row")
SEE_REJECTS = "--csv FILE, or irt intake rejects, lists each with its line and the wrong value."
REMEDIES = {
    "time_before_first_month": "Set IRT_FIRST_MONTH to the month in which the log begins, and import it again.",
    "time_in_future": "Is the zone (--zone, or time: {zone: …} in a mapping file) or the unit of the times right?",
    "bad_time": "Say how times are written in a mapping file: time: {format: …}, {unit: s} or {unit: ms}, or"
    " {format: excel} for serial numbers such as 46300.5; and, if times have no zone, --zone Europe/Berlin or time:"
    " {zone: …}.",
    "bad_score": "For words for right and wrong, use a mapping file: values: {correct: {right: true, wrong: false}}."
    " For scored items: --max-score ITEM=M, and for half points also denominator: 2 in a mapping file. For points that"
    " become right and wrong: --dichotomise. For choices: --key.",
    "missing_key": "Say which option is right: --key FILE, a table item,key, or the column key in the bank.",
    "missing_response": "The bank has a key for their items: import the chosen option as response. If the source"
    " is pulled, leave response out of the mapping; correct is then used unchanged.",
    "max_score_unknown": "Say how many points the items have: --max-score ITEM=M, or max_score in the bank.",
    "score_above_max": "Is max_score in the bank right? irt import questions changes it.",
    "score_contradicts": "correct must be true only for full credit: without its column, it follows from the score.",
    "bad_max_score": f"A maximum score is a whole number from 1 to {MAX_SCORE}.",
    "bad_thresholds": "Thresholds of a graded item ascend. Steps may be in any order: name gpcm in a column model.",
    "conflicting_duplicate": "The log has different answers with these attempt_ids: give rows that correct them a"
    " higher revision (a column, or constants: {revision: 1} in a mapping file).",
    "missing_user": "Which column holds the learner? Name it in a mapping file, columns: {user_id: …}.",
    "missing_item": "Which column holds the item? Name it in a mapping file, columns: {item_id: …}.",
    "unknown_item": "Import the items first (irt import questions), or leave --strict out.",
    "unknown_learner": "Import the learners first (irt import learners), or leave --strict out.",
    ERASED: "Erased learners cannot be imported again (irt learner erasures): remove their rows from the file.",
    WITHDRAWN: "Their answers were withdrawn (irt attempts withdraw): a row with a higher revision brings one back.",
    "ragged_row": "Rows have more or fewer cells than the header: is a delimiter inside a value, without quotes?",
    "bad_json": "Each line is one JSON object.",
}


ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\[\"\\/bfnrt]")
"""Escape sequences in strings of JSON."""
JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[][{},:"]|[^]\s[{},:"]+')
FRACTION = re.compile(r"-?\d+\.\d+")


class InvalidRow(Exception):
    """A row or statement cannot be stored: the reason, and the value or property that caused it."""

    def __init__(self, reason: str, value: str) -> None:
        super().__init__(reason, value)
        self.reason, self.value = reason, value


class RefusedRow(NamedTuple):
    """A refused row: its source, and the row as it was."""

    source: str
    line: int
    reason: str
    value: str
    row: str


def with_learner_id(row: str, user_id: str | None) -> str:
    """Return a refused row as it is stored: with the learner's id in front if an erasure would not find it in the
    row."""
    return row if user_id is None or contains_id(user_id, [row]) else f"{user_id}: {row}"


def contains_id(user_id: str, refused: Iterable[str]) -> bool:
    """Check whether a rejected value or row contains the id, literally or as CSV or JSON writes it."""
    pattern = re.compile(rf"(?<![\w-]){_pattern(user_id)}(?![\w-])")
    cells = [text for cell in refused for text in (cell, Cells.visible(cell), cell.replace('""', '"'))]
    unescaped = (ESCAPE.sub(lambda escaped: json.loads(f'"{escaped[0]}"'), text) for text in cells)
    return any(map(pattern.search, [*cells, *unescaped]))


def _pattern(user_id: str) -> str:
    """Return a regular expression for the id. White space and zeros within a list or object of JSON may differ."""
    tokens = JSON_TOKEN.findall(user_id) if user_id.startswith(("[", "{")) else [user_id]
    return r"\s*".join(re.escape(token) + ("0*" if FRACTION.fullmatch(token) else "") for token in tokens)


Reject = Callable[[Iterable[RefusedRow]], None]
"""Called with refused rows."""


def ignore_rows(rows: Iterable[RefusedRow]) -> None:
    """Ignore refused rows."""


@contextmanager
def csv_of_refused(path: Path | None) -> Iterator[Reject]:
    """Write refused rows to a file that only its owner can read, or ignore them if `path` is None."""
    if path is None:
        yield ignore_rows
        return
    with open(path, "w", encoding="utf-8", newline="", opener=partial(os.open, mode=0o600)) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        yield lambda rows: writer.writerows(map(no_formula, row) for row in rows)


@dataclass
class ImportReport:
    """Counts of an import, in rows: read = accepted + corrected + duplicates + all rejected.

    `notes`: further lines for the reader of the report.
    """

    read: int = 0
    accepted: int = 0
    corrected: int = 0
    duplicates: int = 0
    clock_ahead: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    new_items: int = 0
    new_learners: int = 0
    notes: list[str] = field(default_factory=list)
    scoring: str = ""  # how scores that are not 0 and 1 became right and wrong

    @property
    def counts(self) -> str:
        return (
            f"{self.read:,} rows read, {self.accepted:,} accepted, {self.corrected:,} corrected, "
            f"{self.duplicates:,} duplicates, {self.rejected.total():,} rejected"
        )

    @property
    def reasons(self) -> str:
        """Counts of rejected rows by reason, the most frequent first: `12 × bad_score, 3 × bad_time`."""
        return ", ".join(f"{n:,} × {reason}" for reason, n in self.rejected.most_common()) or "none"

    def count_verdicts(self, reason: str, rows: int) -> None:
        """Count answers that were compared with others; a `duplicate` is not a fault."""
        if reason == "duplicate":
            self.duplicates += rows
        else:
            self.rejected[reason] += rows

    def close(self) -> None:
        """Count as accepted all rows that were not refused, a duplicate or a correction."""
        self.accepted = self.read - self.duplicates - self.corrected - self.rejected.total()

    def include(self, other: "ImportReport") -> None:
        """Add the counts of another report."""
        for name in ("read", "accepted", "corrected", "duplicates", "clock_ahead"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.rejected.update(other.rejected)

    def main_loss(self, see: str) -> str | None:
        """The reason for which more than half of the rows were refused, and the remedy, or else how to see the rows.
        Returns None if there is no such reason."""
        losses = Counter({reason: n for reason, n in self.rejected.items() if reason != "skipped_by_mapping"})
        reason, lost = max(losses.items(), key=lambda loss: loss[1], default=("", 0))
        if 2 * lost <= self.read:
            return None
        return f"{lost:,} of {self.read:,} rows were rejected as {reason}. {REMEDIES.get(reason, see)}"

    @property
    def complaint(self) -> str | None:
        """Why an import took no rows or refused more than half for one reason, with the remedy; None otherwise."""
        if loss := self.main_loss(SEE_REJECTS):
            return loss
        if self.read and self.accepted + self.corrected + self.duplicates:
            return None
        return (
            f"nothing was accepted. {SEE_REJECTS}" if self.read else "nothing was accepted: the files contain no rows."
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "accepted": self.accepted,
            "corrected": self.corrected,
            "duplicates": self.duplicates,
            "rejected": dict(sorted(self.rejected.items())),
            "new_items": self.new_items,
            "new_learners": self.new_learners,
            **({"scoring": self.scoring} if self.scoring else {}),
        }
