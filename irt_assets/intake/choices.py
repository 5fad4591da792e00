"""Counts of the chosen options in answers that are scored by a key, and detection of wrong keys."""

from collections import Counter
from collections.abc import Mapping as Map

import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake.library_files import refusals
from irt_psychometrics.commands import Files

MAX_CHOICES = 1_000


class Choices:
    """Counts of the options that were chosen, by item."""

    def __init__(self, keys: Map[str, str]) -> None:
        self._keys = keys
        self._counts: dict[str, Counter[str]] = {}

    def add(self, items: pa.StringArray, cells: pa.StringArray) -> None:
        """Count answers; nulls are left out."""
        pairs = pa.table({"item": items, "choice": cells}).drop_null()
        for row in pairs.group_by(["item", "choice"]).aggregate([([], "count_all")]).to_pylist():
            item, choice = row["item"], row["choice"]
            if item not in self._keys:
                continue
            counts = self._counts.setdefault(item, Counter())
            if choice in counts or len(counts) < MAX_CHOICES or choice == self._keys[item]:
                counts[choice] += row["count_all"]

    def check(self, file: str, *, name_absent: bool = True) -> list[str]:
        """Notes on the key for the report. `name_absent`: also name items of the key without answers.

        Raises PermanentFailure if nobody chose the key of an item with many answers, or of any item.
        """
        with refusals():
            return Files.check_key(file, self._keys, self._counts, name_absent=name_absent)


def spellings(cells: pa.StringArray) -> Counter[str]:
    """Count each text; nulls and empty cells count as ''."""
    counts = pc.value_counts(pc.fill_null(cells, ""))
    return Counter({row["values"]: row["counts"] for row in counts.to_pylist()})
