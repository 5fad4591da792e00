"""Commands on files about forms: score-table, equate, classify, dif and assemble. They need no database."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from irt_assets.adaptive.blueprint import Blueprint
from irt_assets.adaptive.file_bank import assemble_from_file
from irt_assets.blocks import Document, List, excel, html, pdf, table
from irt_assets.cli.console import AsJson
from irt_assets.cli.desk import MOUNTED, print_result, run_library
from irt_assets.intake.library_files import FILES
from irt_psychometrics.commands import FileResult

app = typer.Typer()


def document(result: FileResult) -> Document:
    """Build the document of a command's table, with its facts and notes."""
    shown, sentences = result.table, List(tuple(result.sentences))
    numbers = {name: form for name, form in result.formats.items() if name in shown.headings}
    rows = table(shown.headings, shown.rows, numbers=numbers)
    return Document(result.title, "en", "bank", (rows, sentences) if sentences.items else (rows,))


WITH_DOCUMENTS = replace(
    FILES,
    writers={
        **FILES.writers,
        ".html": lambda result: html.page(document(result)).encode(),
        ".pdf": lambda result: pdf.typeset(document(result)),
        ".xlsx": lambda result: excel.write_xlsx(document(result)),
    },
)
"""Reader of all files, and writer of tables as CSV, HTML, PDF and Excel."""


@app.command(
    "score-table",
    context_settings=MOUNTED,
    epilog="Example: irt score-table fit/fit.json --cut 55 --to table.xlsx",
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


@app.command(epilog="Example: irt assemble fit/params.csv exam.yaml --to forms.xlsx")
def assemble(
    bank: Annotated[
        Path, typer.Argument(help="Table item,a,b,c with topic, format, testlet and the blueprint's columns.")
    ],
    blueprint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File with the rules, YAML.")],
    to: Annotated[Path | None, typer.Option(help="File for the forms: .csv, .html, .pdf or .xlsx.")] = None,
    as_json: AsJson = False,
) -> None:
    """Assemble forms from a file of item parameters by a blueprint.

    `irt forms assemble` assembles forms from the published values of a scale.
    """
    WITH_DOCUMENTS.check_ending(to)
    done = assemble_from_file(bank, Blueprint.from_yaml(blueprint.read_bytes()))
    if to is not None:
        WITH_DOCUMENTS.write(done, to)
    print_result(done, as_json)
