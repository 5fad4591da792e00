"""The command `assemble`, which needs no database. It is apart from `form_files`, because it loads adaptive tests."""

from pathlib import Path
from typing import Annotated

import typer

from irt_assets.adaptive.blueprint import Blueprint
from irt_assets.adaptive.file_bank import assemble_from_file
from irt_assets.cli.console import AsJson
from irt_assets.cli.desk import print_result
from irt_assets.cli.documents import WITH_DOCUMENTS

app = typer.Typer()


@app.command("assemble", epilog="Example: irt assemble fit/params.csv exam.yaml --to forms.xlsx")
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
