"""The commands on files of forms that the library parses: score-table, equate, classify and dif."""

import typer

from irt_assets.cli.desk import MOUNTED, run_library
from irt_assets.cli.documents import WITH_DOCUMENTS

app = typer.Typer()


@app.command(
    "score-table",
    context_settings=MOUNTED,
    epilog="Example: irt score-table fit/fit.json --slope 100 --intercept 500 --to table.xlsx",
)
def score_table(context: typer.Context) -> None:
    """Make the score table of a form from its items.

    `irt scores table` shows the table of a stored form.
    """
    run_library(context, WITH_DOCUMENTS)


@app.command(context_settings=MOUNTED, epilog="Example: irt equate new.csv old.csv --method linear --adjustment tucker")
def equate(context: typer.Context) -> None:
    """Equate raw scores of a new form to raw scores of an old form.

    `irt scores equate` equates stored forms.
    """
    run_library(context, WITH_DOCUMENTS)


@app.command(context_settings=MOUNTED, epilog="Example: irt classify fit/fit.json --cut 12")
def classify(context: typer.Context) -> None:
    """Compute how accurate and how consistent a form's decisions are.

    The page of a stored form shows the same for its cut score.
    """
    run_library(context, WITH_DOCUMENTS)


@app.command(context_settings=MOUNTED, epilog="Example: irt dif answers.csv --groups language")
def dif(context: typer.Context) -> None:
    """Find items that function differently for groups of persons.

    The page of an attribute shows the same for stored answers.
    """
    run_library(context, WITH_DOCUMENTS)
