"""What an import did: the counts, and the file of what it refused."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

UNFINISHED = ".part"
COLUMNS = ("file", "line", "reason", "value", "row")


@dataclass
class ImportReport:
    """read = accepted + duplicates + all rejected. `notes`: what the reader of the report should know."""

    read: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    new_items: int = 0
    new_learners: int = 0
    reject_file: Path | None = None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "rejected": dict(sorted(self.rejected.items())),
            "new_items": self.new_items,
            "new_learners": self.new_learners,
            "reject_file": None if self.reject_file is None else str(self.reject_file),
        }


class RejectFile:
    """A CSV of the refused rows: file, line, reason, value, row. It appears when all is written, if anything is.

    As a context: what was written so far is thrown away when an error leaves it.
    """

    def __init__(self, folder: Path, source: Path) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        self._path = folder / f"{source.name.partition('.')[0]}-{stamp}.rejected.csv"
        self._part = self._path.with_suffix(UNFINISHED)
        self._file: Any = None

    def add(self, rows: Iterable[tuple[str, int, str, str, str]]) -> None:
        for row in rows:
            if self._file is None:
                self._part.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._part.open("w", encoding="utf-8", newline="")
                self._writer = csv.writer(self._file)
                self._writer.writerow(COLUMNS)
            self._writer.writerow(row)

    def __enter__(self) -> RejectFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._file is None:
            return
        self._file.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink()

    @property
    def path(self) -> Path | None:
        """Where the file is or will be; None where nothing was refused."""
        return None if self._file is None else self._path
