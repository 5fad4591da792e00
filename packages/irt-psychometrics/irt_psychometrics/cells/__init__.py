"""The meaning of cells in files of answers: codes, maximum scores, keys and choices, in columns of text.

A reader of any file makes columns (`Cells`), and a `CellPlan` contains the meaning of the texts. Both are plain values.
"""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.cells.choices import OptionCounts
    from irt_psychometrics.cells.columns import FREQUENCY_NAMES, Cells
    from irt_psychometrics.cells.derived_columns import FirstRows
    from irt_psychometrics.cells.notes import describe_cells
    from irt_psychometrics.cells.reading import (
        ByPattern,
        CellPlan,
        MaxScores,
        ScoredCells,
        codes_by_column,
        join_options,
    )
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "FREQUENCY_NAMES",
    "ByPattern",
    "CellPlan",
    "Cells",
    "FirstRows",
    "MaxScores",
    "OptionCounts",
    "ScoredCells",
    "codes_by_column",
    "describe_cells",
    "join_options",
]
