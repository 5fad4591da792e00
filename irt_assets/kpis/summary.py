"""Values and missing values of all learners' KPIs, collected while their records are written."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass
class Summary:
    """The values of each KPI by name, and the numbers of nulls by name and reason, over `learners` learners."""

    learners: int = 0
    values: defaultdict[str, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    missing: Counter[tuple[str, str]] = field(default_factory=Counter)

    def count_records(self, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Yield the frames, and add the records in their column `kpis`."""
        for frame in frames:
            self.add(frame["kpis"])
            yield frame

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            self.learners += 1
            self.missing.update(record["why"].items())
            for name, value in record.items():
                if isinstance(value, float):
                    self.values[name].append(value)
