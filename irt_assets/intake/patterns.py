"""Patterns in the answers of a matrix that deserve a look: learners without a point, and maxima nobody comes near."""

import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake.scoring import Maxima
from irt_psychometrics.commands import Files


class Patterns:
    """Points by learner and by item, added up batch by batch."""

    def __init__(self) -> None:
        self._sums: dict[str, list[pa.Table]] = {"user_id": [], "item_id": []}

    def add(self, answers: pa.RecordBatch, maxima: Maxima) -> None:
        """Add answers as `Cleaner.clean` returns them."""
        points = pc.cast(answers["correct"], pa.int64())
        if "score" in answers.schema.names:
            points = pc.coalesce(pc.cast(answers["score"], pa.int64()), points)
        most = pa.array(maxima.by_answer(answers["item_id"])).cast(pa.int64())
        n = pa.repeat(1, len(answers))
        for name, sums in self._sums.items():
            rows = pa.table([answers[name], points, most, n, points, most], names=[*COLUMNS])
            sums.append(_add_up(rows))

    def notes(self) -> list[str]:
        """Return the sentences for the report, empty if a pattern does not occur."""
        if not self._sums["user_id"]:
            return []
        learners, items = (_add_up(pa.concat_tables(sums)) for sums in self._sums.values())
        totals = (learners[name].to_numpy() for name in ("possible", "points", "n"))
        rows = zip(*(items[name].to_pylist() for name in ("name", "n", "high", "most")), strict=True)
        return [Files.describe_zeros(*totals), Files.describe_unreached(rows)]


COLUMNS = {"name": "", "points": "sum", "possible": "sum", "n": "sum", "high": "max", "most": "max"}
"""Column of the sums → how it is added up."""


def _add_up(rows: pa.Table) -> pa.Table:
    sums = rows.group_by("name").aggregate([(name, how) for name, how in COLUMNS.items() if how])
    return sums.rename_columns([*COLUMNS])
