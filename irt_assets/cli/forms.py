"""The commands of `irt forms`. Decisions are recorded after a confirmation.

Exit codes: 0 done; 1 not confirmed; 2 the request is wrong.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from irt_assets.adaptive.blueprint import Blueprint
from irt_assets.adaptive.forms import (
    as_qti,
    assemble_forms,
    form_rows,
    list_forms,
    plan_release,
    read_drafts,
    release_forms,
    release_sentences,
    store_drafts,
)
from irt_assets.blocks import Paragraph, Section, table
from irt_assets.cli.console import AsJson, DryRun, Yes, confirm, out, print_blocks, print_json, say
from irt_assets.cli.installation import By, Reason, current_database, signature
from irt_assets.common.wording import did_you_mean, join_names, quantity, sentence
from irt_assets.decisions.exports import write_export
from irt_assets.item_analysis.forms import read_form
from irt_assets.reports.assembly_blocks import assembly_blocks, content, key_figures
from resources.failures import PermanentFailure

app = typer.Typer(no_args_is_help=True)


@app.command("assemble", epilog="Example: irt forms assemble exam.yaml --by Kim")
def assemble_(
    blueprint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File with the rules, YAML.")],
    by: Annotated[str, typer.Option("--by", help="Name of the person who assembles.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Reason, stored with the drafts.")] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Choose the items of forms by a blueprint, and store the forms as drafts.

    Prints the information, the content and the overlap of the forms before it
    asks. If the rules conflict, prints a smallest set of rules that conflict.
    `irt assemble` assembles forms from a file of items.
    """
    by, database = "" if dry_run else signature(by), current_database()
    rules = Blueprint.from_yaml(blueprint.read_bytes())
    found = database.call(assemble_forms, rules, datetime.now(UTC))
    drafts = [Section(f"Form {own.form_id}", (key_figures(own), Paragraph(join_names(own.items)))) for own in found]
    print_blocks(*drafts, *content(found))
    if not dry_run:
        confirm(f"store {quantity(len(found), 'draft')}?", yes)
        store_drafts(database, found, by=by, reason=reason or f"assembled from {blueprint.name}")
        say(f"stored as drafts: {join_names(rules.names)}")


@app.command(epilog="Example: irt forms show exam-1 --to exam-1.csv")
def show(
    form: Annotated[str, typer.Argument(help="Form id.")],
    to: Annotated[Path | None, typer.Option(help="File for the items: .csv, .xlsx, or .xml (QTI 2.2).")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a form, or write its items to a file."""
    with current_database().connect() as connection:
        listed = {own.form_id: own for own in list_forms(connection)}
        if form not in listed:
            remedy = did_you_mean(form, listed) or "`irt forms list` lists the forms"
            raise PermanentFailure(f"there is no form {form}; {remedy}")
        drafts = read_drafts(connection, listed[form].scale_id)
        stored = drafts.get(form)
        rows = form_rows(connection, stored) if stored else read_form(connection, form)
    if as_json:
        print_json(listed[form]._asdict() | {"items": rows.to_dict(orient="records")})
    if to is None and stored:
        print_blocks(Section(sentence(stored.sentence), tuple(assembly_blocks(stored, drafts))))
    elif to is None:
        items = table([*rows.columns], rows.astype(str).to_numpy().tolist())
        print_blocks(Section(f"Form {form}: {listed[form].state}", (items,)))
    elif to.suffix == ".xml":
        to.write_text(as_qti(rows), encoding="utf-8")
    elif to.suffix in (".csv", ".xlsx"):
        write_export(rows, "csv" if to.suffix == ".csv" else "xlsx", to, f"form {form}")
    else:
        raise PermanentFailure(f"--to takes a file named .csv, .xlsx or .xml, not {to}")


@app.command("list", epilog="Example: irt forms list")
def list_(as_json: AsJson = False) -> None:
    """List the forms that were assembled, imported, or found in the answers."""
    found = current_database().call(list_forms)
    if as_json:
        print_json([own._asdict() for own in found])
        return
    rows = [
        (own.form_id, own.scale_id, own.items, own.state, own.decided_by, f"{own.at:%Y-%m-%d}", own.reason)
        for own in found
    ]
    columns = ("form", "scale", "items", "state", "by", "on", "why")
    print_blocks(table(columns, rows, numbers=("items",), empty="no forms: `irt import forms` or `irt forms assemble`"))


@app.command(epilog='Example: irt forms release exam-1 exam-2 --by Kim --reason "exam of June"')
def release(
    forms: Annotated[list[str], typer.Argument(metavar="FORM…", help="Form ids.")],
    by: By,
    reason: Reason,
    undo: Annotated[bool, typer.Option("--undo", help="Make them drafts again.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Release drafts as forms that learners can sit.

    A release can be undone while nobody has answered the form.
    """
    now, database = datetime.now(UTC), current_database()
    seen = database.call(plan_release, forms, now, undo=undo)
    say(*release_sentences(seen, undo=undo))
    if not dry_run:
        confirm(f"{'undo the release of' if undo else 'release'} {quantity(len(forms), 'form')}?", yes)
        release_forms(database, forms, undo=undo, by=by, reason=reason, at=now, seen=seen)
        out.print("undone" if undo else "released")
