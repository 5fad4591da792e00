"""What the KPIs of many learners say together, counted while their records go by.

What does not belong here: how it is shown (see `assets`).
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass
class Summary:
    """What `learners` have: the values of each KPI by its name, and how often each is null, by name and reason."""

    learners: int = 0
    values: defaultdict[str, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    missing: Counter[tuple[str, str]] = field(default_factory=Counter)

    def counted(self, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """The same frames, with a column `kpis` of records; what has gone by is counted."""
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
