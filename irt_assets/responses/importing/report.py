"""What an import did: the counts, and the file of what it refused."""

from __future__ import annotations

import csv
import fcntl
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from irt_assets.common.spreadsheets import no_formula

UNFINISHED = ".part"
ERASED = "erased_learner"
"""Why a row of an erased learner is refused; nothing else of such a row is written anywhere."""
WITHDRAWN = "withdrawn_attempt"
COLUMNS = ("file", "line", "reason", "value", "row")


SEE_REJECTS = "The file of rejected rows names each with its line and the value that is the reason."
WAYS_OUT = {
    "time_before_first_month": "Set IRT_FIRST_MONTH to the month in which the log begins, and import it again.",
    "time_in_future": "Is the zone (--zone, or time: {zone: …} in a mapping file) or the unit of the times right?",
    "bad_time": "Say how times are written in a mapping file: time: {format: …}, {unit: s} or {unit: ms}.",
    "bad_score": "Words for right and wrong go into a mapping file, values: {correct: {right: true, wrong: false}};"
    " points need --dichotomise, choices --key.",
    "missing_user": "Which column holds the learner? Name it in a mapping file, columns: {user_id: …}.",
    "missing_item": "Which column holds the item? Name it in a mapping file, columns: {item_id: …}.",
    "unknown_item": "Import the items first (irt import questions), or leave --strict out.",
    "unknown_learner": "Import the learners first (irt import learners), or leave --strict out.",
    ERASED: "Learners who were erased do not come back (irt learner erasures): take their rows out of the file.",
    WITHDRAWN: "Their answers were withdrawn (irt attempts withdraw): a row with a higher revision brings one back.",
    "ragged_row": "Rows have another number of cells than the header: is a delimiter inside a value, without quotes?",
    "bad_json": "Each line is one JSON object.",
}


def refused_as_erased(rows: int, erasures: Sequence[str]) -> str:
    """What the report says of rows whose learners were erased."""
    return f"{rows:,} rows are of learners who were erased and were left out: {', '.join(erasures)}"


@dataclass
class ImportReport:
    """read = accepted + corrected + duplicates + all rejected. `notes`: what the reader of the report should know."""

    read: int = 0
    accepted: int = 0
    corrected: int = 0
    duplicates: int = 0
    clock_ahead: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    new_items: int = 0
    new_learners: int = 0
    reject_file: Path | None = None
    notes: list[str] = field(default_factory=list)
    scoring: str = ""  # how scores that are not 0 and 1 became right and wrong

    @property
    def reasons(self) -> str:
        """Why rows were rejected, the commonest reason first: `12 × bad_score, 3 × bad_time`."""
        return ", ".join(f"{n:,} × {reason}" for reason, n in self.rejected.most_common()) or "none"

    @property
    def complaint(self) -> str | None:
        """What is wrong with an import that took nothing, or lost more than half for one reason, and the way out."""
        losses = Counter({reason: n for reason, n in self.rejected.items() if reason != "skipped_by_mapping"})
        reason, lost = max(losses.items(), key=lambda loss: loss[1], default=("", 0))
        if 2 * lost > self.read:
            return f"{lost:,} of {self.read:,} rows were rejected as {reason}. {WAYS_OUT.get(reason, SEE_REJECTS)}"
        if self.read and self.accepted + self.corrected + self.duplicates:
            return None
        return f"nothing was accepted. {SEE_REJECTS}" if self.read else "nothing was accepted: the files hold no rows."

    def as_dict(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "accepted": self.accepted,
            "corrected": self.corrected,
            "duplicates": self.duplicates,
            "rejected": dict(sorted(self.rejected.items())),
            "new_items": self.new_items,
            "new_learners": self.new_learners,
            "reject_file": None if self.reject_file is None else str(self.reject_file),
            **({"scoring": self.scoring} if self.scoring else {}),
        }


def open_unfinished(path: Path) -> TextIO:
    """A new file for text, in use until it is closed or its process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = open(path, "w", encoding="utf-8", newline="", opener=partial(os.open, mode=0o600))  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()  # `delete_unfinished` came before the lock


def delete_unfinished(folder: Path, *, dry_run: bool = False) -> list[Path]:
    """Delete what killed processes had half written; files in use, or of another account, stay and are returned."""
    staying = []
    for path in sorted(folder.glob(f"*{UNFINISHED}")):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not dry_run:
                    path.unlink()
        except (BlockingIOError, PermissionError):
            staying.append(path)
        except FileNotFoundError:
            pass
    return staying


class RejectFile:
    """A CSV of the refused rows: file, line, reason, value, row. It appears when all is written, if anything is.

    As a context: what was written so far is thrown away when an error leaves it. What a killed import left in the
    folder goes.
    """

    def __init__(self, folder: Path, source: Path) -> None:
        delete_unfinished(folder)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        self._path = folder / f"{source.name.partition('.')[0]}-{stamp}.rejected.csv"
        self._part = self._path.with_suffix(UNFINISHED)
        self._file: TextIO | None = None

    def add(self, rows: Iterable[tuple[str, int, str, str, str]]) -> None:
        for row in rows:
            if self._file is None:
                self._file = open_unfinished(self._part)
                self._writer = csv.writer(self._file)
                self._writer.writerow(COLUMNS)
            self._writer.writerow(map(no_formula, row))

    def __enter__(self) -> RejectFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._file is None:
            return
        with self._file:
            self._file.flush()
            if kind is None:
                self._part.replace(self._path)
            else:
                self._part.unlink()

    @property
    def path(self) -> Path | None:
        """Address of the file, now or once it is written; None if nothing was refused."""
        return None if self._file is None else self._path
