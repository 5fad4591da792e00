"""Commands on files: `python -m irt_psychometrics analyse`, `fit`, `score`, `score-table`, `equate` and others.

`main` runs them.

`Files` reads answers and tables of parameters and writes results. The functions return results that are written and
reported.
"""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.commands import dif, form_tables
    from irt_psychometrics.commands.analysing import analyse
    from irt_psychometrics.commands.answers import LayoutError
    from irt_psychometrics.commands.files import Files
    from irt_psychometrics.commands.fitting import fit
    from irt_psychometrics.commands.linking import link
    from irt_psychometrics.commands.output import FileResult
    from irt_psychometrics.commands.parameters import parse_json
    from irt_psychometrics.commands.program import main, parser
    from irt_psychometrics.commands.scoring import score
    from irt_psychometrics.commands.simulating import simulate_responses
    from irt_psychometrics.commands.tables import Batch
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "Batch",
    "FileResult",
    "Files",
    "LayoutError",
    "analyse",
    "dif",
    "fit",
    "form_tables",
    "link",
    "main",
    "parse_json",
    "parser",
    "score",
    "simulate_responses",
]
